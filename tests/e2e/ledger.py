"""What a server's database holds, past the server."""

import asyncio
from pathlib import Path

import asyncpg
import trio
from e2e.running import Server

from timebase.model.bars import Bars
from timebase.model.timerange import Ranges, TimeRange, to_us
from timebase.storage.embedded import cluster_in

_SETTLED = """
SELECT lower(part), upper(part)
  FROM coverage c JOIN series s ON s.id = c.series_id JOIN instruments i ON i.id = s.instrument_id,
       unnest(c.ranges) AS part
 WHERE i.symbol = $1 AND c.outcome IN ('complete', 'empty')
 ORDER BY 1
"""

_BARS = """
SELECT extract(epoch FROM b.time) * 1000000, b.open, b.high, b.low, b.close, b.volume, b.flags
  FROM bars b JOIN series s ON s.id = b.series_id JOIN instruments i ON i.id = s.instrument_id
 WHERE i.symbol = $1
 ORDER BY b.time
"""


def database_of(server: Server) -> str:
    """The URL of its database, which has to run."""
    return server.environ.get("TIMEBASE_DATABASE_URL") or cluster_in(server.data_dir / "postgres").url


def postmaster_of(data_dir: Path) -> int:
    """The process of the embedded database."""
    return int((data_dir / "postgres" / "postmaster.pid").read_text().splitlines()[0])


async def settled(server: Server, symbol: str) -> Ranges:
    """What the ledger says about which nothing more is to be asked."""
    rows = await _select(server, _SETTLED, symbol)
    return Ranges.of(TimeRange(to_us(first), to_us(last)) for first, last in rows)


async def stored(server: Server, symbol: str) -> Bars:
    rows = await _select(server, _BARS, symbol)
    return Bars.of(*zip(*rows, strict=True)) if rows else Bars.empty()


async def _select(server: Server, query: str, symbol: str) -> list[asyncpg.Record]:
    url = await trio.to_thread.run_sync(database_of, server)

    async def run() -> list[asyncpg.Record]:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetch(query, symbol)
        finally:
            await connection.close()

    return await trio.to_thread.run_sync(lambda: asyncio.run(run()))
