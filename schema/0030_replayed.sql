-- Files of a spool that are stored and could not be taken away from the disk: they are not to be stored once more.
-- Nearly always empty.

CREATE TABLE replayed (
    writer text NOT NULL,
    file   text NOT NULL,
    PRIMARY KEY (writer, file)
);
COMMENT ON COLUMN replayed.file IS 'its name and when it was written, for names are given again';
