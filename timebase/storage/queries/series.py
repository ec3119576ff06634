"""series: the keys of everything stored."""

from timebase.model.instrument import Instrument
from timebase.model.interval import Interval
from timebase.model.series import Series
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
 WHERE s.instrument_id = $1
 ORDER BY s.provider, s.id
"""


async def ensure_series(conn: Connection, instrument: Instrument, provider: str, interval: Interval) -> Series:
    # Asked first, for an upsert that changes nothing would still write a row version and use up a number.
    found = await conn.fetchval(_SELECT, instrument.id, provider, interval.value)
    if found is None:
        found = await conn.fetchval(_INSERT, instrument.id, provider, interval.value)
    return Series(found, instrument.id, instrument.symbol, provider, interval)


async def select_series_of(conn: Connection, instrument_id: int) -> tuple[Series, ...]:
    return tuple(
        Series(row["id"], row["instrument_id"], row["symbol"], row["provider"], Interval(row["interval"]))
        for row in await conn.fetch(_OF_INSTRUMENT, instrument_id)
    )
