-- Hours rolled up from the minutes that are stored. `time` is the hour's opening instant.

CREATE VIEW hourly_ohlcv AS
SELECT h.time, i.symbol, s.provider, h.open, h.high, h.low, h.close, h.volume
  FROM series s
  JOIN instruments i ON i.id = s.instrument_id
 CROSS JOIN LATERAL (
        SELECT date_bin('1 hour', b.time, '2000-01-01 00:00Z') AS time,
               (array_agg(b.open ORDER BY b.time))[1] AS open, max(b.high) AS high, min(b.low) AS low,
               (array_agg(b.close ORDER BY b.time DESC))[1] AS close, sum(b.volume) AS volume
          FROM bars b
         WHERE b.series_id = s.id
         GROUP BY 1) h
 WHERE s.interval = '1m';
