"""trades and quotes: binary COPY both ways.

COPY takes no parameters, so its queries are built from text; every value in them is an integer formatted with `:d` or
an instant that `literal` made of one.
"""

from collections.abc import AsyncIterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from timebase.model.ticks import Quotes, TickPlace, Trades
from timebase.model.timerange import TimeRange, to_datetime, to_us
from timebase.storage.annex import Connection
from timebase.storage.binary_copy import HEADER, TRAILER
from timebase.storage.queries.bars import literal
from timebase.storage.tick_rows import (
    QUOTES_WIRE,
    READ_QUOTES,
    READ_TRADES,
    TRADES_WIRE,
    KeyReader,
    QuoteReader,
    Span,
    T,
    TickRows,
    TradeKeys,
    TradeReader,
    pack_ticks,
)

# The order is the tape's: a page that was cut in the middle of an instant goes on where it was cut.
_SELECT = """
SELECT {columns}
  FROM {table}
 WHERE series_id = {series_id:d} AND time >= {first} AND time < {last} AND {after}
 ORDER BY time {order}, commit_id {order}, place {order} LIMIT {limit} OFFSET {offset:d}
"""

# Each stretch by itself along the index (OFFSET 0 keeps the planner from joining tables that it knows nothing of yet),
# and constants around them all, so that TimescaleDB opens only the chunks that matter.
_SELECT_KEYS = """
SELECT t.time, t.id, t.series_id, t.flags
  FROM (VALUES {spans}) AS span (series_id, first, last)
 CROSS JOIN LATERAL (
        SELECT time, id, series_id, flags
          FROM trades
         WHERE series_id = span.series_id AND time >= span.first AND time <= span.last
           AND time >= {first} AND time <= {last} AND id <> 0
        OFFSET 0) t
"""

# Whether there are any, asked before every commit: prepared, for the text above takes 10 ms of planning for 100 feeds.
_HELD = """
SELECT span.place
  FROM unnest($1::integer[], $2::timestamptz[], $3::timestamptz[])
       WITH ORDINALITY AS span (series_id, first, last, place)
 CROSS JOIN LATERAL (
        SELECT 1
          FROM trades
         WHERE series_id = span.series_id AND time >= span.first AND time <= span.last
           AND time >= $4 AND time <= $5 AND id <> 0
         LIMIT 1) t
"""

_NEWEST = {
    "trades": "SELECT time FROM trades WHERE series_id = $1 AND time >= $2 AND time < $3 ORDER BY time DESC LIMIT 1",
    "quotes": "SELECT time FROM quotes WHERE series_id = $1 AND time >= $2 AND time < $3 ORDER BY time DESC LIMIT 1",
}

_OLDEST = "SELECT time FROM trades WHERE series_id = $1 AND time >= $2 ORDER BY time LIMIT 1"


async def select_keys(conn: Connection, spans: Sequence[Span]) -> TradeKeys:
    """The numbered trades that are stored within `spans`."""
    reader = KeyReader()
    if not spans:
        return reader.finish()
    query = _SELECT_KEYS.format(
        spans=", ".join(f"({s.series_id:d}, {literal(s.first_us)}, {literal(s.last_us)})" for s in spans),
        first=literal(min(span.first_us for span in spans)),
        last=literal(max(span.last_us for span in spans)),
    )
    await conn.copy_from_query(query, output=reader.feed, format="binary")
    return reader.finish()


async def select_held(conn: Connection, spans: Sequence[Span]) -> list[Span]:
    """Those of `spans` in which there are numbered trades at all."""
    if not spans:
        return []
    first, last = [to_datetime(span.first_us) for span in spans], [to_datetime(span.last_us) for span in spans]
    ids = [span.series_id for span in spans]
    rows = await conn.fetch(_HELD, ids, first, last, min(first), max(last))
    return [spans[place - 1] for (place,) in rows]


async def copy_trades(conn: Connection, rows: TickRows[Trades], commit_id: int) -> None:
    await _copy(conn, "trades", rows, TRADES_WIRE, commit_id)


async def copy_quotes(conn: Connection, rows: TickRows[Quotes], commit_id: int) -> None:
    await _copy(conn, "quotes", rows, QUOTES_WIRE, commit_id)


async def _copy(conn: Connection, table: str, rows: TickRows[T], wire: Mapping[str, str], commit_id: int) -> None:
    source = _stream(rows, wire, commit_id)
    await conn.copy_to_table(table, source=source, columns=tuple(wire), format="binary")


async def _stream(rows: TickRows[T], wire: Mapping[str, str], commit_id: int) -> AsyncIterator[bytes | memoryview]:
    yield HEADER
    for piece in pack_ticks(rows, wire, commit_id):
        yield piece
    yield TRAILER


async def select_trades(
    conn: Connection,
    series_id: int,
    within: TimeRange,
    limit: int | None = None,
    newest_first: bool = False,
    after: TickPlace | None = None,
) -> tuple[Trades, NDArray[np.int64]]:
    """Order: the tape's, always; `newest_first` says which end `limit` keeps."""
    reader = TradeReader()
    query = _reading("trades", READ_TRADES, series_id, within, limit, newest_first, after)
    await conn.copy_from_query(query, output=reader.feed, format="binary")
    trades, commit_ids = reader.finish()
    return (trades.pick(_backwards(trades)), commit_ids[::-1]) if newest_first else (trades, commit_ids)


async def select_quotes(
    conn: Connection,
    series_id: int,
    within: TimeRange,
    limit: int | None = None,
    newest_first: bool = False,
    after: TickPlace | None = None,
) -> tuple[Quotes, NDArray[np.int64]]:
    """The same of quotes."""
    reader = QuoteReader()
    query = _reading("quotes", READ_QUOTES, series_id, within, limit, newest_first, after)
    await conn.copy_from_query(query, output=reader.feed, format="binary")
    quotes, commit_ids = reader.finish()
    return (quotes.pick(_backwards(quotes)), commit_ids[::-1]) if newest_first else (quotes, commit_ids)


def _backwards(ticks: Trades | Quotes) -> NDArray[np.intp]:
    return np.arange(len(ticks) - 1, -1, -1)


def _reading(
    table: str,
    columns: Sequence[str],
    series_id: int,
    within: TimeRange,
    limit: int | None,
    newest_first: bool,
    after: TickPlace | None,
) -> str:
    return _SELECT.format(
        columns=", ".join(columns),
        table=table,
        series_id=series_id,
        first=literal(within.start_us if after is None else max(within.start_us, after.time_us)),
        last=literal(within.end_us),
        after="true" if after is None else f"(time, commit_id) >= ({literal(after.time_us)}, {after.commit_id:d})",
        order="DESC" if newest_first else "ASC",
        limit="ALL" if limit is None else format(limit, "d"),
        offset=0 if after is None else after.given,
    )


async def select_oldest_trade_us(conn: Connection, series_id: int, since_us: int) -> int | None:
    oldest = await conn.fetchval(_OLDEST, series_id, to_datetime(since_us))
    return None if oldest is None else to_us(oldest)


async def select_newest_us(conn: Connection, kind: str, series_id: int, within: TimeRange) -> int | None:
    """The time of the newest tick of that series within the range."""
    found = await conn.fetchval(_NEWEST[kind], series_id, to_datetime(within.start_us), to_datetime(within.end_us))
    return to_us(found) if found else None
