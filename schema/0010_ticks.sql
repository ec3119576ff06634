-- Trades and quotes as they were recorded live. A row of `series` with the interval 'trades' or 'quotes' is their key.
-- The order of a tape is (time, commit_id, place): within one commit, ticks of one instant lie as they came.
-- No foreign keys and one index: the rows come by the hundred thousand.

CREATE TABLE trades (
    time      timestamptz      NOT NULL,
    price     double precision NOT NULL,
    size      double precision NOT NULL,
    id        bigint           NOT NULL,
    commit_id bigint           NOT NULL,
    place     integer          NOT NULL,
    series_id integer          NOT NULL,
    side      smallint         NOT NULL,
    flags     smallint         NOT NULL
);
CREATE INDEX trades_by_series ON trades (series_id, time);
COMMENT ON COLUMN trades.id IS 'the vendor''s number; 0: it gives none';
COMMENT ON COLUMN trades.side IS 'who crossed the spread: -1 the seller, 1 the buyer, 0 unknown';
COMMENT ON COLUMN trades.flags IS 'bits: 1 takes back the trade with that id, 2 replaces it; 0 a trade as it happened';

CREATE TABLE quotes (
    time      timestamptz      NOT NULL,
    bid       double precision NOT NULL,
    bid_size  double precision NOT NULL,
    ask       double precision NOT NULL,
    ask_size  double precision NOT NULL,
    commit_id bigint           NOT NULL,
    place     integer          NOT NULL,
    series_id integer          NOT NULL
);
CREATE INDEX quotes_by_series ON quotes (series_id, time);

CREATE SEQUENCE live_commits;

CREATE TABLE live_writers (
    writer    text PRIMARY KEY,
    token     text   NOT NULL,
    commit_id bigint NOT NULL
);
COMMENT ON TABLE live_writers IS
    'the last live commit of each server, so that one whose acknowledgement got lost is not made twice';

CREATE TABLE recordings (
    series_id integer     NOT NULL REFERENCES series,
    at        timestamptz NOT NULL,
    is_up     boolean     NOT NULL,
    reason    text        NOT NULL DEFAULT '',
    PRIMARY KEY (series_id, at, is_up)
);
COMMENT ON TABLE recordings IS 'when the feed of a tick series came up and went down; a crash leaves no word';

CREATE VIEW trades_data AS
SELECT t.time, i.symbol, s.provider, t.price, t.size,
       CASE t.side WHEN 1 THEN 'buy' WHEN -1 THEN 'sell' END AS side, nullif(t.id, 0) AS id, t.flags, t.commit_id
  FROM trades t
  JOIN series s ON s.id = t.series_id
  JOIN instruments i ON i.id = s.instrument_id;

CREATE VIEW quotes_data AS
SELECT q.time, i.symbol, s.provider, q.bid, q.bid_size, q.ask, q.ask_size, q.commit_id
  FROM quotes q
  JOIN series s ON s.id = q.series_id
  JOIN instruments i ON i.id = s.instrument_id;
