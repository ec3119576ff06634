"""series: the keys of everything stored. Those of ticks have `trades` or `quotes` where bars have their interval."""

from timebase.model.instrument import Instrument
from timebase.model.interval import Interval
from timebase.model.series import Series, TickSeries
from timebase.storage.annex import Connection

_SELECT = "SELECT id FROM series WHERE instrument_id = $1 AND provider = $2 AND interval = $3"

_INSERT = """
INSERT INTO series (instrument_id, provider, interval) VALUES ($1, $2, $3)
    ON CONFLICT (instrument_id, provider, interval) DO UPDATE SET provider = excluded.provider
RETURNING id
"""

_OF_INSTRUMENT = """
SELECT s.id, s.instrument_id, i.symbol, s.provider, s.interval
  FROM series s
  JOIN instruments i ON i.id = s.instrument_id
 WHERE s.instrument_id = $1 AND s.interval NOT IN ('trades', 'quotes')
 ORDER BY s.provider, s.id
"""

_OF_TICKS = """
SELECT s.id, s.instrument_id, i.symbol, s.provider, s.interval
  FROM series s
  JOIN instruments i ON i.id = s.instrument_id
 WHERE s.instrument_id = $1 AND s.interval = $2
 ORDER BY s.provider
"""


async def ensure_series(conn: Connection, instrument: Instrument, provider: str, interval: Interval) -> Series:
    found = await _ensure(conn, instrument, provider, interval.value)
    return Series(found, instrument.id, instrument.symbol, provider, interval)


async def ensure_tick_series(conn: Connection, instrument: Instrument, provider: str, kind: str) -> TickSeries:
    found = await _ensure(conn, instrument, provider, kind)
    return TickSeries(found, instrument.id, instrument.symbol, provider, kind)


async def _ensure(conn: Connection, instrument: Instrument, provider: str, what: str) -> int:
    # Asked first, for an upsert that changes nothing would still write a row version and use up a number.
    found: int | None = await conn.fetchval(_SELECT, instrument.id, provider, what)
    if found is None:
        found = await conn.fetchval(_INSERT, instrument.id, provider, what)
    assert found is not None
    return found


async def select_series_of(conn: Connection, instrument_id: int) -> tuple[Series, ...]:
    return tuple(
        Series(row["id"], row["instrument_id"], row["symbol"], row["provider"], Interval(row["interval"]))
        for row in await conn.fetch(_OF_INSTRUMENT, instrument_id)
    )


async def select_tick_series_of(conn: Connection, instrument_id: int, kind: str) -> tuple[TickSeries, ...]:
    return tuple(
        TickSeries(row["id"], row["instrument_id"], row["symbol"], row["provider"], row["interval"])
        for row in await conn.fetch(_OF_TICKS, instrument_id, kind)
    )
