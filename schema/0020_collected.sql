-- What is kept up to date without anybody asking: the collector's list. An empty provider leaves the choice to the router.

CREATE TABLE collected (
    symbol   text        NOT NULL,
    interval text        NOT NULL,
    provider text        NOT NULL DEFAULT '',
    added_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (symbol, interval, provider)
);
COMMENT ON COLUMN collected.symbol IS 'canonical; the instrument need not be known yet';
