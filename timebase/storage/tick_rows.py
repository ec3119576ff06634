"""Trades and quotes <-> the bytes of a COPY of their tables. Pure; rows are fixed width."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from timebase.model.ticks import NO_TRADE_ID, Quotes, Trades
from timebase.model.timerange import SECOND_US
from timebase.storage.binary_copy import CHUNK_ROWS, PG_EPOCH_US, ColumnReader, blank_rows, raw, row_dtype

TRADES_WIRE = {
    "time": ">i8", "price": ">f8", "size": ">f8", "id": ">i8", "commit_id": ">i8", "place": ">i4", "series_id": ">i4",
    "side": ">i2", "flags": ">i2",
}  # fmt: skip
QUOTES_WIRE = {
    "time": ">i8", "bid": ">f8", "bid_size": ">f8", "ask": ">f8", "ask_size": ">f8", "commit_id": ">i8",
    "place": ">i4", "series_id": ">i4",
}  # fmt: skip
KEYS_WIRE = {name: TRADES_WIRE[name] for name in ("time", "id", "series_id", "flags")}
READ_TRADES = ("time", "price", "size", "side", "id", "flags", "commit_id")
READ_QUOTES = ("time", "bid", "bid_size", "ask", "ask_size", "commit_id")

GAP_US = 60 * SECOND_US  # trades further apart are looked up apart: a correction of this morning costs no day's reading
MAX_SPANS = 32  # of one series; beyond, one reading of it all is cheaper

T = TypeVar("T", Trades, Quotes)


@dataclass(frozen=True, slots=True, eq=False)
class TickRows(Generic[T]):
    """Ticks of any series, with where each belongs.

    Order: series after series, each as its ticks came.
    """

    ticks: T
    series_id: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.ticks)

    def pick(self, which: NDArray[np.bool_]) -> "TickRows[T]":
        return TickRows(self.ticks.pick(which), self.series_id[which])


@dataclass(frozen=True, slots=True, eq=False)
class TradeKeys:
    """What tells trades that carry a number from each other: the series, that number, the event's time, its flags.

    The time, because vendors begin their numbers anew; the flags, because a trade's cancellation bears its number.
    """

    time: NDArray[np.int64]
    id: NDArray[np.int64]
    series_id: NDArray[np.int32]
    flags: NDArray[np.int16]

    @classmethod
    def of(cls, rows: TickRows[Trades]) -> "TradeKeys":
        trades = rows.ticks
        return cls(trades.time, trades.id, rows.series_id, trades.flags.astype(np.int16))


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of one series. Units: µs, both ends inclusive."""

    series_id: int
    first_us: int
    last_us: int


def key_spans(rows: TickRows[Trades]) -> list[Span]:
    """Where stored trades may lie that carry the same numbers as `rows`."""
    numbered = rows.ticks.id != NO_TRADE_ID
    time, series_id = rows.ticks.time[numbered], rows.series_id[numbered]
    edges = np.flatnonzero(np.diff(series_id, prepend=-1, append=-1))
    return [
        Span(int(series_id[first]), first_us, last_us)
        for first, end in pairwise(edges.tolist())
        for first_us, last_us in _stretches(np.sort(time[first:end]))
    ]


def _stretches(time: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    gaps = np.flatnonzero(np.diff(time) > GAP_US)
    if len(gaps) >= MAX_SPANS:
        gaps = gaps[:0]
    for first, last in zip((0, *(gaps + 1)), (*gaps, len(time) - 1), strict=True):
        yield int(time[first]), int(time[last])


_NONE = TradeKeys(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.int16))


def unseen(keys: TradeKeys, stored: TradeKeys = _NONE) -> NDArray[np.bool_]:
    """The rows that are neither stored yet nor a second time in `keys`; those without a number are always new."""
    if not len(stored.time) and _ascend(keys):
        return np.ones(len(keys.time), np.bool_)
    n = len(stored.time)
    columns = [
        np.concatenate(pair)
        for pair in (
            (stored.flags, keys.flags), (stored.time, keys.time), (stored.id, keys.id),
            (stored.series_id, keys.series_id),
        )
    ]  # fmt: skip
    order = np.lexsort(columns)  # stable: of equal keys the first one comes first, and what is stored before all
    is_again = np.ones(len(order), np.bool_)
    is_again[:1] = False
    for column in columns:
        is_again[1:] &= column[order[1:]] == column[order[:-1]]
    is_new = np.empty(len(order), np.bool_)
    is_new[order] = ~is_again
    is_wanted: NDArray[np.bool_] = is_new[n:] | (keys.id == NO_TRADE_ID)
    return is_wanted


def _ascend(keys: TradeKeys) -> bool:
    """True when the numbers of each series ascend, as live ones do: then none is in it twice."""
    is_numbered = keys.id != NO_TRADE_ID
    ids, series_id = keys.id[is_numbered], keys.series_id[is_numbered]
    return bool(np.all((ids[1:] > ids[:-1]) | (series_id[1:] != series_id[:-1])))


def pack_ticks(rows: TickRows[T], wire: Mapping[str, str], commit_id: int) -> Iterator[memoryview]:
    """The rows of a COPY of the table that `wire` describes, without header and trailer, in pieces."""
    dtype = row_dtype(wire)
    own = [name for name in wire if hasattr(rows.ticks, name) and name != "time"]
    for first in range(0, len(rows), CHUNK_ROWS):
        piece = slice(first, first + CHUNK_ROWS)
        part = rows.ticks.pick(piece)
        packed = blank_rows(len(part), dtype)
        packed["time"] = part.time - PG_EPOCH_US
        for name in own:
            packed[name] = getattr(part, name)
        packed["commit_id"], packed["series_id"] = commit_id, rows.series_id[piece]
        packed["place"] = np.arange(first, first + len(part))
        yield raw(packed)


class TradeReader(ColumnReader):
    """Trades and their commit ids from the bytes of a COPY of READ_TRADES."""

    def __init__(self) -> None:
        super().__init__({name: TRADES_WIRE[name] for name in READ_TRADES})

    def finish(self) -> tuple[Trades, NDArray[np.int64]]:
        time, price, size, side, id_, flags, commit_id = self.columns()
        trades = Trades(time, price, size, side.astype(np.int8), id_, flags.astype(np.int8))  # type: ignore[arg-type]
        return trades, commit_id  # type: ignore[return-value]


class QuoteReader(ColumnReader):
    """The same of READ_QUOTES."""

    def __init__(self) -> None:
        super().__init__({name: QUOTES_WIRE[name] for name in READ_QUOTES})

    def finish(self) -> tuple[Quotes, NDArray[np.int64]]:
        *columns, commit_id = self.columns()
        return Quotes(*columns), commit_id  # type: ignore[arg-type, return-value]


class KeyReader(ColumnReader):
    def __init__(self) -> None:
        super().__init__(KEYS_WIRE)

    def finish(self) -> TradeKeys:
        return TradeKeys(*self.columns())  # type: ignore[arg-type]
