"""A provider's stream without a server: subscribe, and read what the core would hear. For a plugin's tests."""

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count, islice

import anyio
import anyio.lowlevel

from timebase.errors import ProviderError
from timebase.model.feed import FeedKind
from timebase.model.instrument import AssetClass, classify
from timebase.model.interval import Interval
from timebase.sdk.answering import call
from timebase.sdk.provider import Provider
from timebase.sdk.stream import Subscription
from timebase.sdk.streaming import Streaming
from timebase.sdk.threads import call_soon
from timebase.wire.columns import ITEM_BYTES
from timebase.wire.envelope import BATCH_ROWS, Message, Type, parse_error, unpack_message
from timebase.wire.streams import LAYOUTS, STREAM_CREDIT

CLOSE_S = 5.0
_LAYOUTS = {layout.type.value: layout for layout in LAYOUTS.values()}


@dataclass(frozen=True, slots=True)
class Heard:
    """What one message said of one feed; what it does not say is empty or None.

    Units: µs UTC. `rows` are (time, price, size, side, id, flags) of trades, (time, bid, bid_size, ask, ask_size) of
    quotes, (time, open, high, low, close, volume, closed) of bars.
    """

    feed: Subscription
    rows: tuple[tuple[float, ...], ...] = ()
    is_up: bool | None = None
    reason: str = ""
    pulse_us: int | None = None
    error: ProviderError | None = None


class Rehearsal:
    """Stands in the core's place, and grants credit for what has been read: who does not read is a slow core."""

    def __init__(self, provider: Provider, *, credit: int = STREAM_CREDIT, batch_rows: int = BATCH_ROWS) -> None:
        self._streaming = Streaming(provider, self._receive, credit, batch_rows, call_soon())
        self._ids = count(1)
        self._feeds: dict[int, Subscription] = {}
        self._messages: deque[Message] = deque()
        self._heard: deque[Heard] = deque()
        self._arrived = anyio.Event()

    def subscribe(
        self,
        symbol: str,
        kind: FeedKind | str = FeedKind.TRADES,
        interval: Interval | str | None = None,
        asset_class: AssetClass | None = None,
    ) -> Subscription:
        feed = Subscription(
            next(self._ids), FeedKind(kind), symbol, asset_class or classify(symbol),
            None if interval is None else Interval(interval),
        )  # fmt: skip
        self._feeds[feed.id] = feed
        self._streaming.subscribe(feed)
        return feed

    def unsubscribe(self, feed: Subscription) -> None:
        """What it had sent before may still be heard."""
        self._streaming.unsubscribe(feed.id)

    @property
    def strays(self) -> int:
        """Rows that were put for feeds that are not wanted, and dropped."""
        return self._streaming.strays

    async def next(self) -> Heard:
        """The next that is heard, of whichever feed; how long to wait is the caller's word."""
        await anyio.lowlevel.checkpoint()
        while not self._heard:
            while not self._messages:
                self._arrived = anyio.Event()
                await self._arrived.wait()
            self._read(self._messages.popleft())
        return self._heard.popleft()

    async def rows(self, feed: Subscription, n: int) -> list[tuple[float, ...]]:
        """At least the next `n` rows of `feed`; all else that is heard meanwhile is passed over.

        Raises: the feed's ProviderError.
        """
        found: list[tuple[float, ...]] = []
        while len(found) < n:
            heard = await self.next()
            if heard.feed == feed and heard.error is not None:
                raise heard.error
            found += heard.rows if heard.feed == feed else ()
        return found

    async def run(self) -> None:
        await self._streaming.run()

    async def leave(self) -> None:
        await self._streaming.leave()

    async def _receive(self, message: bytes) -> None:
        await anyio.lowlevel.checkpoint()
        self._messages.append(unpack_message(message))
        self._arrived.set()

    def _read(self, message: Message) -> None:
        if message.type in _LAYOUTS:
            self._heard += _groups(message, self._feeds)
            self._streaming.grant(1)
        elif message.type == Type.ERROR:
            self._heard.append(Heard(self._feeds[message.id], error=parse_error(message)))
        else:
            self._heard += (self._word(message, feed) for feed in message.integers("feeds"))

    def _word(self, message: Message, feed: int) -> Heard:
        if message.type == Type.PULSE:
            return Heard(self._feeds[feed], pulse_us=message.integer("time"))
        return Heard(self._feeds[feed], is_up=message.claim("is_up"), reason=message.text("reason", ""))


def _groups(message: Message, feeds: dict[int, Subscription]) -> list[Heard]:
    layout = _LAYOUTS[message.type]
    counts = message.integers("counts")
    nothing = bytes(ITEM_BYTES * sum(counts))
    columns = [
        memoryview(message.binary(name) if name in message.fields else nothing).cast(kind)
        for name, kind in zip(layout.names, layout.kinds, strict=True)
    ]
    rows = zip(*columns, strict=True)
    return [
        Heard(feeds[feed], tuple(islice(rows, n))) for feed, n in zip(message.integers("feeds"), counts, strict=True)
    ]


@asynccontextmanager
async def open_rehearsal(
    provider: Provider, *, credit: int = STREAM_CREDIT, batch_rows: int = BATCH_ROWS
) -> AsyncIterator[Rehearsal]:
    """Set `provider` up, run its stream whenever something is wanted, and close it in the end.

    On the loop that runs, which may be another than the provider's own.
    Example:
        async with open_rehearsal(MyVendor()) as core:
            feed = core.subscribe("BTC-USDT")
            first, second = (await core.rows(feed, 2))[:2]
    """
    await call(provider.setup)
    rehearsal = Rehearsal(provider, credit=credit, batch_rows=batch_rows)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(rehearsal.run)
        try:
            yield rehearsal
        finally:
            with anyio.move_on_after(CLOSE_S, shield=True):
                await rehearsal.leave()
                await call(provider.close)
            tasks.cancel_scope.cancel()
