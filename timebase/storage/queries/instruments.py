"""instruments: what canonical symbols stand for."""

from collections.abc import Sequence

import asyncpg

from timebase.model.instrument import AssetClass, Instrument
from timebase.storage.annex import Connection

_SELECT = "SELECT * FROM instruments WHERE symbol = $1"

# A symbol that somebody asked for and no provider knew has series of bars, and no batch that says anything else of
# it. One that is only followed has neither batches yet nor anybody who said that there is no such thing.
_IS_KNOWN = """(
       NOT EXISTS (SELECT FROM series s WHERE s.instrument_id = i.id AND s.interval NOT IN ('trades', 'quotes'))
       OR EXISTS (SELECT FROM series s JOIN recordings r ON r.series_id = s.id WHERE s.instrument_id = i.id AND r.is_up)
       OR EXISTS (SELECT FROM series s JOIN batches b ON b.series_id = s.id
                   WHERE s.instrument_id = i.id AND b.why NOT LIKE 'unknown_symbol%'))
"""

_SELECT_KNOWN = f"SELECT * FROM instruments i WHERE symbol = $1 AND {_IS_KNOWN}"  # noqa: S608 - constants only

# What a provider leaves out does not wipe what another one said.
_UPSERT = """
INSERT INTO instruments AS known (symbol, asset_class, name, currency, exchange, timezone)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[])
    ON CONFLICT (symbol) DO UPDATE
   SET asset_class = excluded.asset_class,
       name        = coalesce(nullif(excluded.name, ''), known.name),
       currency    = coalesce(nullif(excluded.currency, ''), known.currency),
       exchange    = coalesce(nullif(excluded.exchange, ''), known.exchange),
       timezone    = coalesce(nullif(excluded.timezone, ''), known.timezone)
"""

_SELECT_MANY = "SELECT * FROM instruments WHERE symbol = ANY($1::text[])"

_LIST = f"""
SELECT *
  FROM instruments i
 WHERE {_IS_KNOWN} AND ($1 = '' OR position(upper($1) IN symbol) > 0 OR position(upper($1) IN upper(name)) > 0)
   AND ($2::text IS NULL OR asset_class = $2)
   AND symbol > $3
 ORDER BY symbol
 LIMIT $4
"""  # noqa: S608

_ALIKE = f"""
SELECT symbol
  FROM instruments i
 WHERE {_IS_KNOWN} AND symbol <> $1
   AND (left(symbol, 1) = left($1, 1) OR right(symbol, 2) = right($1, 2) OR position($1 IN symbol) > 0)
 ORDER BY abs(length(symbol) - length($1)), symbol
 LIMIT $2
"""  # noqa: S608


def _instrument(row: asyncpg.Record) -> Instrument:
    return Instrument(
        row["id"], row["symbol"], AssetClass(row["asset_class"]), row["name"], row["currency"], row["exchange"],
        row["timezone"],
    )  # fmt: skip


async def select_instrument(conn: Connection, symbol: str) -> Instrument | None:
    row = await conn.fetchrow(_SELECT, symbol)
    return _instrument(row) if row else None


async def select_known_instrument(conn: Connection, symbol: str) -> Instrument | None:
    """None also for a symbol that was asked for and that no provider knew."""
    row = await conn.fetchrow(_SELECT_KNOWN, symbol)
    return _instrument(row) if row else None


async def upsert_instruments(conn: Connection, instruments: Sequence[Instrument]) -> tuple[Instrument, ...]:
    """Order: as given; of one symbol given twice the last counts."""
    by_symbol = {instrument.symbol: instrument for instrument in instruments}
    # Sorted, so that two writers take the rows' locks in the same order.
    ordered = [by_symbol[symbol] for symbol in sorted(by_symbol)]
    await conn.execute(
        _UPSERT,
        [i.symbol for i in ordered], [i.asset_class.value for i in ordered], [i.name for i in ordered],
        [i.currency for i in ordered], [i.exchange for i in ordered], [i.timezone for i in ordered],
    )  # fmt: skip
    rows = await conn.fetch(_SELECT_MANY, list(by_symbol))
    known = {row["symbol"]: _instrument(row) for row in rows}
    return tuple(known[instrument.symbol] for instrument in instruments)


async def list_instruments(
    conn: Connection, text: str, asset_class: AssetClass | None, after: str, limit: int
) -> tuple[Instrument, ...]:
    rows = await conn.fetch(_LIST, text, asset_class.value if asset_class else None, after, limit)
    return tuple(_instrument(row) for row in rows)


async def select_symbols_like(conn: Connection, symbol: str, limit: int) -> list[str]:
    """Candidates for `near`: a generous choice, nearest in length first."""
    return [row["symbol"] for row in await conn.fetch(_ALIKE, symbol, limit)]
