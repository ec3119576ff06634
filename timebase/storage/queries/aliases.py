"""aliases: under which symbols what is stored was asked for."""

from collections.abc import Sequence
from itertools import groupby, pairwise

import asyncpg

from timebase.model.alias import Alias, Aliases
from timebase.model.instrument import classify
from timebase.model.interval import Interval
from timebase.model.series import Series
from timebase.model.timerange import to_datetime, to_us
from timebase.storage.annex import Connection

# One server at a time brings the table to what its configuration says; readers go on.
_LOCK = "LOCK TABLE aliases IN SHARE ROW EXCLUSIVE MODE"

_SELECT = """
SELECT i.symbol, a.provider, a.native, CASE WHEN isfinite(a.since) THEN a.since END AS since
  FROM aliases a
  JOIN instruments i ON i.id = a.instrument_id
 ORDER BY i.symbol, a.provider, a.since
"""

_ENSURE_INSTRUMENTS = """
INSERT INTO instruments (symbol, asset_class)
SELECT * FROM unnest($1::text[], $2::text[])
    ON CONFLICT (symbol) DO NOTHING
"""
_CLEAR = "DELETE FROM aliases"
_INSERT = """
INSERT INTO aliases (instrument_id, provider, since, native)
SELECT i.id, a.provider, coalesce(a.since, '-infinity'), a.native
  FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[]) AS a (symbol, provider, since, native)
  JOIN instruments i ON i.symbol = a.symbol
"""

_SERIES = """
SELECT s.id, s.instrument_id, i.symbol, s.provider, s.interval
  FROM series s
  JOIN instruments i ON i.id = s.instrument_id
 WHERE i.symbol = ANY($1::text[])
 ORDER BY s.id
"""


async def lock_aliases(conn: Connection) -> None:
    await conn.execute(_LOCK)


async def select_aliases(conn: Connection) -> Aliases:
    rows = await conn.fetch(_SELECT)
    found: list[Alias] = []
    for (symbol, provider), names in groupby(rows, key=lambda row: (row["symbol"], row["provider"])):
        pairs = pairwise(names)
        found += [Alias(symbol, to_us(after["since"]), name["native"], provider or None) for name, after in pairs]
    return Aliases.of(found)


async def replace_aliases(conn: Connection, aliases: Aliases) -> None:
    """Instruments that are not known yet are made."""
    symbols = sorted({alias.symbol for alias in aliases.known})
    await conn.execute(_ENSURE_INSTRUMENTS, symbols, [classify(symbol).value for symbol in symbols])
    await conn.execute(_CLEAR)
    rows = [row for key, known in aliases.by_key.items() for row in _rows(*key, known)]
    await conn.execute(_INSERT, *([row[column] for row in rows] for column in range(4)))


def _rows(symbol: str, provider: str | None, known: Sequence[Alias]) -> list[tuple[object, ...]]:
    since = [None, *(to_datetime(alias.until_us) for alias in known)]
    natives = [*(alias.was for alias in known), symbol]
    return [(symbol, provider or "", at, native) for at, native in zip(since, natives, strict=True)]


async def select_series_named(conn: Connection, symbols: Sequence[str]) -> list[Series]:
    return [_series(row) for row in await conn.fetch(_SERIES, symbols)]


def _series(row: asyncpg.Record) -> Series:
    return Series(row["id"], row["instrument_id"], row["symbol"], row["provider"], Interval(row["interval"]))
