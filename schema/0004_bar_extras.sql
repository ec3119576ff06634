-- What only some bars have: the volume-weighted average price and the number of trades, of bars built from ticks.
-- Beside `bars`, whose rows are of fixed width because everything in them is always there.

CREATE TABLE bar_extras (
    time      timestamptz      NOT NULL,
    vwap      double precision,
    trades    bigint,
    series_id integer          NOT NULL,
    PRIMARY KEY (series_id, time)
);

-- Bars without extras, which is nearly all, pay for the look-up only.
CREATE OR REPLACE VIEW time_series_data AS
SELECT b.time, i.symbol, s.provider, s.interval, b.open, b.high, b.low, b.close, b.volume,
       CASE WHEN x.time IS NULL THEN m.always
            ELSE m.always || jsonb_strip_nulls(jsonb_build_object('vwap', x.vwap, 'trades', x.trades))
       END AS metadata
  FROM bars b
  JOIN series s ON s.id = b.series_id
  JOIN instruments i ON i.id = s.instrument_id
  LEFT JOIN bar_extras x ON x.series_id = b.series_id AND x.time = b.time
 CROSS JOIN LATERAL (
        SELECT jsonb_build_object('forming', b.flags & 1 <> 0, 'revised', b.flags & 2 <> 0,
                                  'repaired', b.flags & 4 <> 0, 'backfilled', b.flags & 8 <> 0,
                                  'batch', b.batch_id) AS always) m;
