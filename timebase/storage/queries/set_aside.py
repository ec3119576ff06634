"""Bars that turn out to be another instrument's: out of the way, but not lost."""

from timebase.model.timerange import TimeRange, to_datetime
from timebase.storage.annex import Connection
from timebase.storage.queries.hypertable import open_compressed

_OTHERS = "another_instrument"  # the rule, as the quarantine names it

_KEEP = """
INSERT INTO quarantine (time, open, high, low, close, volume, batch_id, series_id, rule)
SELECT time, open, high, low, close, volume, batch_id, series_id, $4
  FROM bars
 WHERE series_id = $1 AND time >= $2 AND time < $3
 UNION ALL
SELECT time, open, high, low, close, volume, batch_id, series_id, $4
  FROM bar_revisions
 WHERE series_id = $1 AND time >= $2 AND time < $3
"""
_DELETES = (
    "DELETE FROM bars WHERE series_id = $1 AND time >= $2 AND time < $3",
    "DELETE FROM bar_revisions WHERE series_id = $1 AND time >= $2 AND time < $3",
    "DELETE FROM bar_extras WHERE series_id = $1 AND time >= $2 AND time < $3",
)


async def set_bars_aside(conn: Connection, series_id: int, within: TimeRange) -> None:
    span = (series_id, to_datetime(within.start_us), to_datetime(within.end_us))
    await open_compressed(conn)
    await conn.execute(_KEEP, *span, _OTHERS)
    for query in _DELETES:
        await conn.execute(query, *span)
