"""What a server's database holds, past the server."""

import asyncio
from collections.abc import Awaitable, Callable
from io import BytesIO
from pathlib import Path
from typing import TypeVar

import asyncpg
import polars as pl
import trio
from e2e.running import Server

from timebase.model.bars import COLUMNS, Bars
from timebase.model.timerange import Ranges, TimeRange, to_us
from timebase.storage.embedded import cluster_in

T = TypeVar("T")
DTYPES = (pl.Int64, *[pl.Float64] * 5, pl.Int16)

_SETTLED = """
SELECT lower(part), upper(part)
  FROM coverage c JOIN series s ON s.id = c.series_id JOIN instruments i ON i.id = s.instrument_id,
       unnest(c.ranges) AS part
 WHERE i.symbol = $1 AND s.interval = $2 AND c.outcome IN ('complete', 'empty')
 ORDER BY 1
"""

_BARS = """
SELECT (extract(epoch FROM b.time) * 1000000)::bigint, b.open, b.high, b.low, b.close, b.volume, b.flags
  FROM bars b JOIN series s ON s.id = b.series_id JOIN instruments i ON i.id = s.instrument_id
 WHERE i.symbol = $1 AND s.interval = $2
 ORDER BY b.time
"""

_TRADES = """
SELECT (extract(epoch FROM t.time) * 1000000)::bigint, t.price, t.size, t.id
  FROM trades t JOIN series s ON s.id = t.series_id JOIN instruments i ON i.id = s.instrument_id
 WHERE i.symbol = $1
 ORDER BY t.time, t.commit_id, t.place
"""


def database_of(server: Server) -> str:
    """The URL of its database, which has to run."""
    return server.environ.get("TIMEBASE_DATABASE_URL") or cluster_in(server.data_dir / "postgres").url


def postmaster_of(data_dir: Path) -> int:
    """The process of the embedded database."""
    return int((data_dir / "postgres" / "postmaster.pid").read_text().splitlines()[0])


async def settled(server: Server, symbol: str, interval: str = "1m") -> Ranges:
    """What the ledger says about which nothing more is to be asked."""
    rows = await _with_connection(server, lambda connection: connection.fetch(_SETTLED, symbol, interval))
    return Ranges.of(TimeRange(to_us(first), to_us(last)) for first, last in rows)


async def stored(server: Server, symbol: str, interval: str = "1m") -> Bars:
    raw = await _with_connection(server, lambda connection: _copy(connection, _BARS, symbol, interval))
    if not raw.getbuffer().nbytes:
        return Bars.empty()
    frame = pl.read_csv(raw, has_header=False, new_columns=COLUMNS, schema_overrides=DTYPES)
    return Bars.of(*(frame[name].to_numpy() for name in COLUMNS))


async def recorded(server: Server, symbol: str) -> list[tuple[int, float, float, int]]:
    """(time, price, size, id) of each trade, in the order in which they were told."""
    rows = await _with_connection(server, lambda connection: connection.fetch(_TRADES, symbol))
    return [tuple(row) for row in rows]


async def _copy(connection: asyncpg.Connection, query: str, *given: str) -> BytesIO:
    out = BytesIO()
    await connection.copy_from_query(query, *given, output=out, format="csv")
    out.seek(0)
    return out


async def _with_connection(server: Server, work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
    url = await trio.to_thread.run_sync(database_of, server)

    async def run() -> T:
        connection = await asyncpg.connect(url)
        try:
            return await work(connection)
        finally:
            await connection.close()

    return await trio.to_thread.run_sync(lambda: asyncio.run(run()))
