"""Messages of streams: which columns they have, and the packing of them. The plugin's side too, so without numpy."""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from timebase.model.feed import FeedKind
from timebase.wire.columns import ITEM_BYTES, Kind, column_bytes
from timebase.wire.envelope import NO_ID, Type, pack_message

MAX_FEEDS = 10_000
"""Feeds named in one message: its two arrays stay below MAX_ITEMS, and with BATCH_ROWS rows below MAX_MESSAGE_BYTES."""

STREAM_CREDIT = 4
"""Stream messages on their way. One travels while one waits for the road; a plugin gathers rows while it has none."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of one kind of feed, in the order in which rows are put."""

    type: Type
    names: tuple[str, ...]
    kinds: tuple[Kind, ...]
    optional: frozenset[str] = frozenset()  # left out where all zero


LAYOUTS: Mapping[FeedKind, Layout] = {
    FeedKind.TRADES: Layout(
        Type.TRADES,
        ("time", "price", "size", "side", "trade_id", "flags"),
        ("q", "d", "d", "q", "q", "q"),
        frozenset({"flags"}),
    ),
    FeedKind.QUOTES: Layout(Type.QUOTES, ("time", "bid", "bid_size", "ask", "ask_size"), ("q", "d", "d", "d", "d")),
    FeedKind.BARS: Layout(
        Type.STREAM_BARS,
        ("time", "open", "high", "low", "close", "volume", "closed"),
        ("q", "d", "d", "d", "d", "d", "q"),
    ),
}

Rows = tuple[array, ...]  # type: ignore[type-arg] # of int64 and of float64, as the layout has them


def pack_rows(layout: Layout, groups: Sequence[tuple[int, Rows]]) -> bytes:
    """One data message: the rows of each feed, one group after the other."""
    columns = {
        name: _joined([rows[at] for _, rows in groups])
        for at, name in enumerate(layout.names)
        if name not in layout.optional or any(_holds_something(rows[at]) for _, rows in groups)
    }
    feeds = [feed for feed, _ in groups]
    counts = [len(rows[0]) for _, rows in groups]
    return pack_message(layout.type, NO_ID, feeds=feeds, counts=counts, **columns)


def pack_feed(feeds: Iterable[int], is_up: bool, reason: str = "") -> bytes:
    return pack_message(Type.FEED, NO_ID, feeds=list(feeds), is_up=is_up, reason=reason)


def pack_pulse(feeds: Iterable[int], time_us: int) -> bytes:
    return pack_message(Type.PULSE, NO_ID, feeds=list(feeds), time=time_us)


def _joined(columns: Sequence[array]) -> bytes | memoryview:  # type: ignore[type-arg]
    parts = [column_bytes(memoryview(column), 0, len(column)) for column in columns]
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _holds_something(column: array) -> bool:  # type: ignore[type-arg]
    return column.tobytes().count(0) < len(column) * ITEM_BYTES
