"""Forgetting what is too old, together with the claim to have it."""

from collections.abc import Sequence

from timebase.clock import now_us
from timebase.model.interval import Interval
from timebase.model.timerange import to_datetime
from timebase.storage.annex import Connection
from timebase.storage.queries.batches import lock_series
from timebase.storage.queries.coverage import replace_ledgers, select_ledgers

# A series is looked up in the ledger too, for its bars may be gone already while it still claims them.
_WITH_OLD = """
SELECT id
  FROM series
 WHERE interval = ANY($1::text[])
   AND (EXISTS (SELECT FROM bars WHERE series_id = series.id AND time < $2)
        OR EXISTS (SELECT FROM coverage c WHERE c.series_id = series.id AND c.ranges && tstzrange(NULL, $2)))
 ORDER BY id
"""

_DELETES = (
    "DELETE FROM bars WHERE series_id = $1 AND time < $2",
    "DELETE FROM bar_revisions WHERE series_id = $1 AND time < $2",
    "DELETE FROM quarantine WHERE series_id = $1 AND time < $2",
)


async def select_series_with_old(conn: Connection, intervals: Sequence[Interval], before_us: int) -> list[int]:
    """Series of those intervals that hold, or claim, something older."""
    names = [interval.value for interval in intervals]
    return [row["id"] for row in await conn.fetch(_WITH_OLD, names, to_datetime(before_us))]


async def forget_before(conn: Connection, series_id: int, before_us: int) -> None:
    """Remove what one series has from before that instant, in one transaction."""
    async with conn.transaction():
        await lock_series(conn, [series_id])
        for query in _DELETES:
            await conn.execute(query, series_id, to_datetime(before_us))
        ledgers = await select_ledgers(conn, [series_id])
        kept = {series_id: ledgers[series_id].since(before_us, now_us())}
        await replace_ledgers(conn, ledgers, kept)
