-- Under which symbol a provider knows an instrument, and since when: META before 2022-06-09 was another company's.
-- A name holds until the next one of the same instrument and provider begins, so no two can overlap.

CREATE TABLE aliases (
    instrument_id integer     NOT NULL REFERENCES instruments,
    provider      text        NOT NULL,
    since         timestamptz NOT NULL,
    native        text,
    PRIMARY KEY (instrument_id, provider, since)
);
COMMENT ON COLUMN aliases.provider IS 'slug; empty: of every provider that has no names of its own for the instrument';
COMMENT ON COLUMN aliases.since IS '-infinity for the first name';
COMMENT ON COLUMN aliases.native IS 'NULL: there is no symbol that means this instrument';

CREATE VIEW dated_aliases AS
SELECT i.symbol, a.provider, a.native, a.since,
       lead(a.since, 1, 'infinity') OVER (PARTITION BY a.instrument_id, a.provider ORDER BY a.since) AS until
  FROM aliases a
  JOIN instruments i ON i.id = a.instrument_id;
