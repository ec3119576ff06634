-- Hours rolled up from the minutes that are stored. `time` is the hour's opening instant.

CREATE VIEW hourly_ohlcv AS
SELECT h.time, i.symbol, s.provider, o.open, h.high, h.low, c.close, h.volume
  FROM series s
  JOIN instruments i ON i.id = s.instrument_id
 CROSS JOIN LATERAL (
        SELECT date_bin('1 hour', b.time, '2000-01-01 00:00Z') AS time, min(b.time) AS first, max(b.time) AS last,
               max(b.high) AS high, min(b.low) AS low, sum(b.volume) AS volume
          FROM bars b
         WHERE b.series_id = s.id
         GROUP BY 1) h
  JOIN bars o ON o.series_id = s.id AND o.time = h.first
  JOIN bars c ON c.series_id = s.id AND c.time = h.last
 WHERE s.interval = '1m';
