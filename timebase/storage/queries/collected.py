"""collected: what is kept up to date without anybody asking."""

from timebase.model.collected import Collected
from timebase.model.interval import Interval
from timebase.model.series import Series
from timebase.model.timerange import to_us
from timebase.storage.annex import Connection

_INSERT = "INSERT INTO collected (symbol, interval, provider) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"
_DELETE = "DELETE FROM collected WHERE symbol = $1 AND interval = $2 AND provider = $3"
_SELECT = "SELECT symbol, interval, provider FROM collected ORDER BY symbol, added_at, interval, provider"

_SINCE = "SELECT min(added_at) FROM collected WHERE symbol = $1 AND interval = $2 AND provider IN ('', $3)"


async def insert_collected(conn: Connection, line: Collected) -> None:
    await conn.execute(_INSERT, line.symbol, line.interval.value, line.provider or "")


async def delete_collected(conn: Connection, line: Collected) -> None:
    await conn.execute(_DELETE, line.symbol, line.interval.value, line.provider or "")


async def select_collected(conn: Connection) -> tuple[Collected, ...]:
    """Order: by symbol, then as they were added."""
    return tuple(
        Collected(row["symbol"], Interval(row["interval"]), row["provider"] or None)
        for row in await conn.fetch(_SELECT)
    )


async def select_collected_since_us(conn: Connection, series: Series) -> int | None:
    """Since when a series is collected; None: it is not."""
    added_at = await conn.fetchval(_SINCE, series.symbol, series.interval.value, series.provider)
    return None if added_at is None else to_us(added_at)
