-- For people with SQL and for Grafana.

CREATE VIEW time_series_data AS
SELECT b.time, i.symbol, s.provider, s.interval, b.open, b.high, b.low, b.close, b.volume,
       jsonb_build_object('forming', b.flags & 1 <> 0, 'revised', b.flags & 2 <> 0, 'repaired', b.flags & 4 <> 0,
                          'backfilled', b.flags & 8 <> 0, 'batch', b.batch_id) AS metadata
  FROM bars b
  JOIN series s ON s.id = b.series_id
  JOIN instruments i ON i.id = s.instrument_id;

CREATE VIEW daily_ohlcv AS
SELECT (b.time AT TIME ZONE 'UTC')::date AS date, b.time, i.symbol, s.provider,
       b.open, b.high, b.low, b.close, b.volume
  FROM bars b
  JOIN series s ON s.id = b.series_id AND s.interval = '1d'
  JOIN instruments i ON i.id = s.instrument_id;
COMMENT ON VIEW daily_ohlcv IS 'the bars that providers gave at 1d; date is the trading date';
