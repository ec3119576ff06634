"""What TimescaleDB adds to bars and ticks: chunks, and their compression."""

from dataclasses import dataclass

from timebase.storage.annex import Connection

TABLES = ("bars", "trades", "quotes")

_POLICY = """
SELECT extract(day FROM (config->>'compress_after')::interval)::integer
  FROM timescaledb_information.jobs
 WHERE hypertable_name = $1 AND proc_name IN ('policy_compression', 'policy_columnstore')
"""
_REMOVE_POLICY = "SELECT remove_compression_policy($1::text::regclass, if_exists => true)"
_ADD_POLICY = "SELECT add_compression_policy($1::text::regclass, make_interval(days => $2))"

_OPEN = "SELECT set_config('timescaledb.max_tuples_decompressed_per_dml_transaction', '0', true)"

_COMPRESS = "SELECT compress_chunk(chunk, if_not_compressed => true) FROM show_chunks($1::text::regclass) AS chunk"

_SIZES = """
SELECT count(*), count(*) FILTER (WHERE compression_status = 'Compressed'),
       coalesce(sum(before_compression_total_bytes), 0)::bigint, coalesce(sum(after_compression_total_bytes), 0)::bigint
  FROM chunk_compression_stats('bars')
"""


@dataclass(frozen=True, slots=True)
class Compression:
    """Units: the sizes of the compressed chunks before and after, with their indexes."""

    chunks: int
    compressed: int
    before_bytes: int
    after_bytes: int


async def set_compression(conn: Connection, after_days: int | None) -> None:
    """Compress chunks that are older than that; None: never."""
    for table in TABLES:
        if await conn.fetchval(_POLICY, table) == after_days:
            continue
        await conn.execute(_REMOVE_POLICY, table)
        if after_days is not None:
            await conn.execute(_ADD_POLICY, table, after_days)


async def open_compressed(conn: Connection) -> None:
    """Until the transaction ends, compressed chunks are opened for what changes in them, however much that is."""
    await conn.execute(_OPEN)


async def compress_now(conn: Connection) -> None:
    for table in TABLES:
        await conn.execute(_COMPRESS, table)


async def select_compression(conn: Connection) -> Compression:
    return Compression(*await conn.fetchrow(_SIZES))
