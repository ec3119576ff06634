-- The same tables in daily chunks, which are compressed when they are old enough and dropped whole by retention.

SELECT create_hypertable('trades', by_range('time', INTERVAL '1 day'), create_default_indexes => false,
                         migrate_data => true);
SELECT create_hypertable('quotes', by_range('time', INTERVAL '1 day'), create_default_indexes => false,
                         migrate_data => true);

ALTER TABLE trades SET (
    timescaledb.compress,
    timescaledb.compress_segmentby = 'series_id',
    timescaledb.compress_orderby = 'time, commit_id, place'
);
ALTER TABLE quotes SET (
    timescaledb.compress,
    timescaledb.compress_segmentby = 'series_id',
    timescaledb.compress_orderby = 'time, commit_id, place'
);
