"""Forgetting what is too old, together with the claim to have it."""

from collections.abc import Mapping, Sequence

from timebase.clock import now_us
from timebase.model.interval import Interval
from timebase.model.timerange import EVER, TimeRange, to_datetime, to_us
from timebase.storage.annex import Connection
from timebase.storage.queries.batches import lock_all_series, lock_series
from timebase.storage.queries.coverage import replace_ledgers, select_ledgers
from timebase.storage.queries.hypertable import open_compressed
from timebase.storage.queries.stale_hours import note_gone

Cutoffs = Mapping[Interval, int]  # bars of that interval are kept from that instant on; for ever when it is not there

# A series is looked up in the ledger too, for its bars may be gone already while it still claims them.
_WITH_OLD = """
SELECT s.id, old.before
  FROM series s
  JOIN unnest($1::text[], $2::timestamptz[]) AS old (interval, before) USING (interval)
 WHERE EXISTS (SELECT FROM bars WHERE series_id = s.id AND time < old.before)
    OR EXISTS (SELECT FROM coverage c WHERE c.series_id = s.id AND c.ranges && tstzrange(NULL, old.before))
 ORDER BY s.id
"""

# Looked up only in series that keep something of the chunk: along the key, whatever the chunk's size.
_OLD_CHUNKS = """
SELECT c.range_start, c.range_end, format('%I.%I', c.chunk_schema, c.chunk_name) AS name
  FROM timescaledb_information.chunks c
 WHERE c.hypertable_name = 'bars' AND c.hypertable_schema = current_schema()
   AND c.range_end <= (SELECT max(before) FROM unnest($2::timestamptz[]) AS before)
   AND NOT EXISTS (SELECT FROM series s
                     LEFT JOIN unnest($1::text[], $2::timestamptz[]) AS old (interval, before) USING (interval)
                    WHERE (old.before IS NULL OR old.before < c.range_end)
                      AND EXISTS (SELECT FROM bars b
                                   WHERE b.series_id = s.id AND b.time >= c.range_start AND b.time < c.range_end))
 ORDER BY c.range_start
"""
_DROP = "SELECT drop_chunks('bars', older_than => $1::timestamptz, newer_than => $2::timestamptz)"

_DELETES = (
    "DELETE FROM bars WHERE series_id = $1 AND time < $2",
    "DELETE FROM bar_revisions WHERE series_id = $1 AND time < $2",
    "DELETE FROM bar_extras WHERE series_id = $1 AND time < $2",
    "DELETE FROM quarantine WHERE series_id = $1 AND time < $2",
)


async def select_series_with_old(conn: Connection, cutoffs: Cutoffs) -> dict[int, int]:
    """Series that hold, or claim, something older than is kept of them -> their cutoffs."""
    return {row["id"]: to_us(row["before"]) for row in await conn.fetch(_WITH_OLD, *_columns(cutoffs))}


async def drop_old_chunks(conn: Connection, cutoffs: Cutoffs, old: Mapping[int, int]) -> int:
    """With TimescaleDB: drop the chunks in which every bar is older than is kept; `old`: see select_series_with_old.

    Returns: how many.
    """
    async with conn.transaction():
        await lock_all_series(conn)
        chunks = await conn.fetch(_OLD_CHUNKS, *_columns(cutoffs))
        if chunks:
            await _forget_claims(conn, old)
            await note_gone(conn, list(old), TimeRange(EVER.start_us, to_us(chunks[-1]["range_end"])))
        for chunk in chunks:
            await conn.execute(_DROP, chunk["range_end"], chunk["range_start"])
    return len(chunks)


async def forget_before(conn: Connection, series_id: int, before_us: int, *, has_timescale: bool) -> None:
    """Remove what one series has from before that instant, in one transaction."""
    async with conn.transaction():
        await lock_series(conn, [series_id])
        if has_timescale:
            await open_compressed(conn)
            await note_gone(conn, [series_id], TimeRange(EVER.start_us, before_us))
        for query in _DELETES:
            await conn.execute(query, series_id, to_datetime(before_us))
        await _forget_claims(conn, {series_id: before_us})


async def _forget_claims(conn: Connection, before: Mapping[int, int]) -> None:
    ledgers = await select_ledgers(conn, list(before))
    kept = {series_id: ledger.since(before[series_id], now_us()) for series_id, ledger in ledgers.items()}
    await replace_ledgers(conn, ledgers, kept)


def _columns(cutoffs: Cutoffs) -> tuple[Sequence[str], Sequence[object]]:
    return [interval.value for interval in cutoffs], [to_datetime(before_us) for before_us in cutoffs.values()]
