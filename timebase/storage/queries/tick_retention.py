"""Forgetting trades and quotes that are too old, and when they were recorded."""

from timebase.model.timerange import to_datetime
from timebase.storage.annex import Connection

_TICK_TABLES = ("trades", "quotes")

_OLD_TICKS = """
SELECT EXISTS (SELECT FROM recordings WHERE at < $1)
       OR EXISTS (SELECT FROM series s
                   WHERE s.interval = 'trades' AND EXISTS (SELECT FROM trades WHERE series_id = s.id AND time < $1))
       OR EXISTS (SELECT FROM series s
                   WHERE s.interval = 'quotes' AND EXISTS (SELECT FROM quotes WHERE series_id = s.id AND time < $1))
"""
_TICK_SERIES = "SELECT id FROM series WHERE interval = $1 ORDER BY id"
_DROP_TICKS = "SELECT drop_chunks($1::text::regclass, older_than => $2::timestamptz)"
_DELETE_TICKS = {
    "trades": "DELETE FROM trades WHERE series_id = $1 AND time < $2",
    "quotes": "DELETE FROM quotes WHERE series_id = $1 AND time < $2",
}
# A feed that has been up since before that instant has been recorded since that instant, as far as is still known.
_KEEP_UP = """
INSERT INTO recordings (series_id, at, is_up, reason)
SELECT series_id, $1, true, reason
  FROM (SELECT DISTINCT ON (series_id) * FROM recordings WHERE at < $1 ORDER BY series_id, at DESC, is_up DESC) last
 WHERE is_up
    ON CONFLICT DO NOTHING
"""
_FORGET_WORDS = "DELETE FROM recordings WHERE at < $1"


async def forget_ticks(conn: Connection, before_us: int, has_timescale: bool) -> bool:
    """Remove the ticks from before that midnight. Returns: whether there were any.

    TimescaleDB drops whole days, which costs nothing; else they are deleted series by series, each by itself.
    """
    before = to_datetime(before_us)
    if not await conn.fetchval(_OLD_TICKS, before):
        return False
    for table in _TICK_TABLES:
        if has_timescale:
            await conn.execute(_DROP_TICKS, table, before)
            continue
        for row in await conn.fetch(_TICK_SERIES, table):
            await conn.execute(_DELETE_TICKS[table], row["id"], before)
    async with conn.transaction():
        await conn.execute(_KEEP_UP, before)
        await conn.execute(_FORGET_WORDS, before)
    return True
