"""What `Provider.stream` is handed: what is wanted, and where to put what the vendor says."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from operator import index
from typing import Any

import anyio
import anyio.lowlevel

from timebase.errors import ProviderError
from timebase.model.feed import FeedKind
from timebase.model.instrument import AssetClass
from timebase.model.interval import Interval
from timebase.model.timerange import to_us
from timebase.sdk.bars import NAMES, Bars, as_us
from timebase.sdk.carrier import Carrier
from timebase.sdk.threads import Withdrawn, in_loop
from timebase.wire.columns import ITEM_BYTES, Column, as_column
from timebase.wire.streams import LAYOUTS, pack_feed

BUY, SELL = 1, -1
"""Who crossed the spread, as `side` of a trade; 0 or None where it is not known."""

CANCEL, CORRECTION = 1, 2
"""`flags` of a trade: it takes back, or replaces, the one with the same id."""

ROWS_A_TURN = 256
"""Rows put one by one before the event loop gets its turn, so that a vendor's full socket does not starve the link."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """One feed that the core wants. `symbol` is TimeBase's spelling; `interval` is that of a feed of bars.

    `id` names this subscription only: the same symbol wanted again has another.
    """

    id: int
    kind: FeedKind
    symbol: str
    asset_class: AssetClass
    interval: Interval | None = None


class Wanted:
    """What is wanted now, kept by who runs the stream."""

    def __init__(self) -> None:
        self.feeds: dict[int, Subscription] = {}
        self._changed = anyio.Event()

    def put(self, subscription: Subscription) -> None:
        self.feeds = self.feeds | {subscription.id: subscription}
        self._tell()

    def drop(self, *ids: int) -> None:
        self.feeds = {id_: feed for id_, feed in self.feeds.items() if id_ not in ids}
        self._tell()

    async def change(self) -> None:
        """Returns at the next change."""
        await self._changed.wait()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


class Stream:
    """The live side of a provider: follow `wanted`, and put in what comes, as it comes.

    Every method that waits does so while the core is busy and the buffer full, so that a slow core slows the plugin and
    nothing is lost or piled up. Each has a twin that ends in `_sync` for a `stream` that is plain `def`. What is put
    for a feed that is not wanted any more is dropped without a word.

    Units: times are event times in µs UTC (or aware datetimes); prices in the quote currency per unit, sizes in units.
    Order: what is put for a feed arrives in that order, data, `up`, `down` and `pulse` alike.
    Raises: TypeError, ValueError or OverflowError when a value is no number of its kind. In a thread, any `_sync` may
        raise to end it when nothing is wanted any more.

    Example:
        async def stream(self, stream):
            async with connect(URL) as socket:
                await socket.subscribe({feed.symbol: feed for feed in stream.wanted})
                await stream.up()
                async for symbol, time_us, price, size in socket:
                    await stream.trades(self.feeds[symbol], time_us, price, size)
    """

    def __init__(self, carrier: Carrier, wanted: Wanted, refuse: Callable[[Subscription, ProviderError], None]) -> None:
        self._carrier = carrier
        self._wanted = wanted
        self._refuse = refuse
        self._read: dict[int, Subscription] = {}
        self._in_a_row = 0
        self._is_over = False

    # --- what is wanted ---

    @property
    def wanted(self) -> tuple[Subscription, ...]:
        """All that the core wants now, in the order in which it was asked for."""
        self._read = self._wanted.feeds
        return tuple(self._read.values())

    async def changed(self) -> None:
        """Returns when `wanted` differs from what it was when last read; at once when it does so already."""
        await anyio.lowlevel.checkpoint()
        while self._wanted.feeds == self._read:
            await self._wanted.change()

    # --- data ---

    async def trades(
        self,
        feed: Subscription,
        time: Any,  # noqa: ANN401 - one value or a column of them, of whatever holds numbers
        price: Any,  # noqa: ANN401
        size: Any,  # noqa: ANN401
        side: Any = None,  # noqa: ANN401
        id: Any = None,  # noqa: ANN401
        flags: Any = None,  # noqa: ANN401
    ) -> None:
        """One trade, or columns of them. `side` is BUY, SELL or 0; `id` the vendor's number, 0 where there is none.

        With an id a trade that comes again (after a reconnect, say) is known for a copy. `flags`: CANCEL, CORRECTION.
        """
        await self._put(feed, FeedKind.TRADES, (time, price, size, side, id, flags))

    async def quotes(
        self,
        feed: Subscription,
        time: Any,  # noqa: ANN401
        bid: Any,  # noqa: ANN401
        bid_size: Any,  # noqa: ANN401
        ask: Any,  # noqa: ANN401
        ask_size: Any,  # noqa: ANN401
    ) -> None:
        """The best bid and ask as they are from `time` on: one quote, or columns of them."""
        await self._put(feed, FeedKind.QUOTES, (time, bid, bid_size, ask, ask_size))

    async def bars(self, feed: Subscription, bars: Bars, is_closed: bool | Iterable[bool]) -> None:
        """Bars as the vendor makes them. One that is not closed may come again and again, with what it has so far."""
        await self._put_columns(feed, FeedKind.BARS, _bar_columns(bars, is_closed))

    # --- words about feeds ---

    async def up(self, *feeds: Subscription) -> None:
        """The vendor's connection for `feeds` (none named: for all) works, and data follows without a gap."""
        await self._say(pack_feed(self._ids(feeds), True), feeds)

    async def down(self, reason: str, *feeds: Subscription) -> None:
        """The connection is lost, or cannot be made yet: until the next `up` nobody knows what happens."""
        await self._say(pack_feed(self._ids(feeds), False, reason), feeds)

    async def pulse(self, time_us: int, *feeds: Subscription) -> None:
        """The connection is alive and nothing older than `time_us` (event time) is still to come.

        Say so on the vendor's heartbeats: it tells a quiet market from a dead line, and closes bars in one. May be said
        as often as there is reason to; only the newest leaves.
        """
        await anyio.lowlevel.checkpoint()
        self._carrier.put_pulse(self._ids(feeds), index(time_us))

    async def refuse(self, feed: Subscription, error: ProviderError) -> None:
        """`feed` cannot be had, or has failed for good; it is not wanted any more. The others go on."""
        await anyio.lowlevel.checkpoint()
        self._refuse(feed, error)

    # --- the same from a thread ---

    def changed_sync(self) -> None:
        in_loop(self.changed)

    def trades_sync(
        self,
        feed: Subscription,
        time: Any,  # noqa: ANN401
        price: Any,  # noqa: ANN401
        size: Any,  # noqa: ANN401
        side: Any = None,  # noqa: ANN401
        id: Any = None,  # noqa: ANN401
        flags: Any = None,  # noqa: ANN401
    ) -> None:
        self._put_sync(feed, FeedKind.TRADES, (time, price, size, side, id, flags))

    def quotes_sync(
        self,
        feed: Subscription,
        time: Any,  # noqa: ANN401
        bid: Any,  # noqa: ANN401
        bid_size: Any,  # noqa: ANN401
        ask: Any,  # noqa: ANN401
        ask_size: Any,  # noqa: ANN401
    ) -> None:
        self._put_sync(feed, FeedKind.QUOTES, (time, bid, bid_size, ask, ask_size))

    def bars_sync(self, feed: Subscription, bars: Bars, is_closed: bool | Iterable[bool]) -> None:
        in_loop(self.bars, feed, bars, is_closed)

    def up_sync(self, *feeds: Subscription) -> None:
        in_loop(self.up, *feeds)

    def down_sync(self, reason: str, *feeds: Subscription) -> None:
        in_loop(self.down, reason, *feeds)

    def pulse_sync(self, time_us: int, *feeds: Subscription) -> None:
        self._check_over()
        self._carrier.put_pulse(self._ids(feeds), index(time_us))

    def refuse_sync(self, feed: Subscription, error: ProviderError) -> None:
        in_loop(self.refuse, feed, error)

    # --- the runner's ---

    def end(self) -> None:
        """Nothing is wanted any more: a thread that still puts is told so."""
        self._is_over = True

    async def _put(self, feed: Subscription, kind: FeedKind, values: tuple[Any, ...]) -> None:
        if not _is_one_row(values):
            await self._put_columns(feed, kind, _columns(kind, values))
            return
        row = _row(feed, kind, values)
        while not self._carrier.put_row(kind, feed.id, row):
            await self._carrier.room()
        self._in_a_row += 1
        if self._in_a_row >= ROWS_A_TURN:
            self._in_a_row = 0
            await anyio.lowlevel.checkpoint()

    async def _put_columns(self, feed: Subscription, kind: FeedKind, columns: tuple[Column, ...]) -> None:
        _check_kind(feed, kind)
        done, rows = 0, len(columns[0])
        while True:
            done = self._carrier.put_columns(kind, feed.id, columns, done)
            if done >= rows:
                break
            await self._carrier.room()
        await anyio.lowlevel.checkpoint()

    def _put_sync(self, feed: Subscription, kind: FeedKind, values: tuple[Any, ...]) -> None:
        self._check_over()
        if not _is_one_row(values):
            in_loop(self._put_columns, feed, kind, _columns(kind, values))
            return
        row = _row(feed, kind, values)
        while not self._carrier.put_row(kind, feed.id, row):
            in_loop(self._carrier.room)

    async def _say(self, word: bytes, feeds: tuple[Subscription, ...]) -> None:
        await anyio.lowlevel.checkpoint()
        while self._ids(feeds) and not self._carrier.put_word(word):
            await self._carrier.room()

    def _ids(self, feeds: tuple[Subscription, ...]) -> list[int]:
        wanted = self._wanted.feeds
        return [feed.id for feed in feeds if feed.id in wanted] if feeds else list(wanted)

    def _check_over(self) -> None:
        if self._is_over:
            raise Withdrawn


def _is_one_row(values: tuple[Any, ...]) -> bool:
    return type(values[0]) is int or not hasattr(values[0], "__len__")


def _row(feed: Subscription, kind: FeedKind, values: tuple[Any, ...]) -> list[Any]:
    _check_kind(feed, kind)
    time, *others = values
    if type(time) is not int:
        time = to_us(time) if isinstance(time, datetime) else index(time)
    return [time, *(0 if value is None else value for value in others)]


def _columns(kind: FeedKind, values: tuple[Any, ...]) -> tuple[Column, ...]:
    """Raises: ValueError when they differ in length."""
    layout = LAYOUTS[kind]
    rows = len(values[0])
    given = (as_us(values[0]), *values[1:])
    zeros = memoryview(bytes(ITEM_BYTES * rows))  # one for all that is left out: ten million rows are 80 MB
    columns: tuple[Column, ...] = tuple(
        as_column(zeros.cast(code) if value is None else value, code)
        for value, code in zip(given, layout.kinds, strict=True)
    )
    return _of_one_length(layout.names, columns)


def _bar_columns(bars: Bars, is_closed: bool | Iterable[bool]) -> tuple[Column, ...]:
    closed = [is_closed] * len(bars) if isinstance(is_closed, bool) else [bool(each) for each in is_closed]
    columns: tuple[Column, ...] = (*(getattr(bars, name) for name in NAMES), as_column(closed, "q"))
    return _of_one_length(LAYOUTS[FeedKind.BARS].names, columns)


def _of_one_length(names: tuple[str, ...], columns: tuple[Column, ...]) -> tuple[Column, ...]:
    lengths = {name: len(column) for name, column in zip(names, columns, strict=True)}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"columns have one length, not {lengths}")
    return columns


def _check_kind(feed: Subscription, kind: FeedKind) -> None:
    if feed.kind is not kind:
        raise ValueError(f"{feed.symbol} is wanted as {feed.kind}, not as {kind}")
