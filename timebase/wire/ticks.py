"""Stream messages into columns, feed by feed; the core's side, so it may use numpy."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from timebase.errors import Malformed
from timebase.model.bars import Bars, Flag
from timebase.model.ticks import Quotes, Trades
from timebase.wire.bars import EARLIEST_US, FLOATS, LATEST_US, parse_column, parse_time
from timebase.wire.envelope import BATCH_ROWS, Message, Type
from timebase.wire.streams import MAX_FEEDS

_SMALL = np.iinfo(np.int8)


@dataclass(frozen=True, slots=True)
class Group:
    """The rows that a data message has for one feed: one of the three."""

    feed: int
    trades: Trades | None = None
    quotes: Quotes | None = None
    bars: Bars | None = None


def parse_groups(message: Message) -> Iterator[Group]:
    """What a `trades`, `quotes` or `stream_bars` message has for each feed; float columns are views of its bytes.

    Order: as sent. A feed may be named more than once; groups without rows are left out.
    Raises: Malformed, before the first group, when feeds, counts and columns do not fit each other, a bar's time is no
        µs of a calendar year, or a side, flag or `closed` is none. Times of ticks, and prices, are the validator's to
        judge, row by row: one wild row of one symbol must not cost all others their connection.
    """
    feeds, counts = message.integers("feeds"), message.integers("counts")
    rows = _rows(feeds, counts)
    match message.type:
        case Type.TRADES:
            return _split(feeds, counts, trades=_trades(message, rows))
        case Type.QUOTES:
            return _split(feeds, counts, quotes=_quotes(message, rows))
        case _:
            return _split(feeds, counts, bars=_bars(message, rows))


def parse_pulse(message: Message) -> tuple[tuple[int, ...], int]:
    """(feeds, event time in µs); no feeds: all. Raises: Malformed."""
    time_us = message.integer("time")
    if not EARLIEST_US <= time_us <= LATEST_US:
        raise Malformed(f"time: µs since 1970 wanted, not {time_us} (nanoseconds?)")
    return message.integers("feeds"), time_us


def _rows(feeds: tuple[int, ...], counts: tuple[int, ...]) -> int:
    rows = sum(counts)
    if len(feeds) != len(counts) or len(feeds) > MAX_FEEDS or min(counts, default=0) < 0 or rows > BATCH_ROWS:
        raise Malformed(f"counts: {rows} rows in {len(counts)} groups of {len(feeds)} feeds")
    return rows


def _trades(message: Message, n: int) -> Trades:
    time = parse_column(message, "time", "<i8", n)
    price, size = (parse_column(message, name, "<f8", n) for name in ("price", "size"))
    side = _small(message, "side", n, -1, 1)
    trade_id = parse_column(message, "trade_id", "<i8", n)
    has_flags = "flags" in message.fields
    flags = _small(message, "flags", n, 0, int(_SMALL.max)) if has_flags else np.zeros(n, np.int8)
    return Trades(time, price, size, side, trade_id, flags)


def _quotes(message: Message, n: int) -> Quotes:
    time = parse_column(message, "time", "<i8", n)
    return Quotes(time, *(parse_column(message, name, "<f8", n) for name in ("bid", "bid_size", "ask", "ask_size")))


def _bars(message: Message, n: int) -> Bars:
    """A bar whose period is not over carries Flag.FORMING."""
    time = parse_time(message, n)
    open_, high, low, close, volume = (parse_column(message, name, "<f8", n) for name in FLOATS)
    is_closed = _small(message, "closed", n, 0, 1)
    return Bars(time, open_, high, low, close, volume, np.where(is_closed, 0, int(Flag.FORMING)).astype(np.int16))


def _small(message: Message, name: str, n: int, least: int, most: int) -> NDArray[np.int8]:
    column = parse_column(message, name, "<i8", n)
    if n and (column.min() < least or column.max() > most):
        raise Malformed(f"{name}: {least} to {most} wanted, not {int(column.min())} to {int(column.max())}")
    return column.astype(np.int8)


def _split(feeds: tuple[int, ...], counts: tuple[int, ...], **whole: Any) -> Iterator[Group]:  # noqa: ANN401
    ((kind, columns),) = whole.items()
    first = 0
    for feed, count in zip(feeds, counts, strict=True):
        if count:
            part = columns if count == len(columns) else columns.pick(slice(first, first + count))
            yield Group(feed, **{kind: part})
        first += count
