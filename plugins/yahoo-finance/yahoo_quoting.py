"""Best bid and ask from Yahoo's WebSocket: one connection for all feeds, made anew when it is lost.

    wanted feeds -> known to Yahoo? -> subscribe -> up -> messages with a bid and an ask -> quotes; pongs -> pulses

What keeps it honest. Yahoo acknowledges nothing and is silent about symbols that it does not have, so each is looked up
first; a feed is then up when it has been asked for on a connection that works. Most of what Yahoo sends is a last price
without bid and ask, which is neither a quote nor, without a size, a trade: it is passed over, and a symbol of which so
many messages came and none with both is refused, for somebody else may have its quotes. The connection is asked for a
pong every `beat_s`; without one it is mute and given up. Waits before the next try double, cut by chance.
"""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import anyio
from yahoo_pricing import Pricing
from yahoo_shares import Share
from yahoo_socket import Socket
from yahoo_symbols import to_native

from timebase.clock import SteadyClock
from timebase.errors import first_of
from timebase.sdk import ProviderError, Stream, Subscription, SymbolNotFound, Unsupported, UpstreamTimeout, Waits

ENOUGH = 20  # messages of one symbol without bid and ask
HOPELESS = (SymbolNotFound, Unsupported)

Opener = Callable[[], AbstractAsyncContextManager[Socket]]
Admission = Callable[[Subscription], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Patience:
    """How often the connection is asked for a pong, how long that may take, and how late Yahoo's prices may be."""

    beat_s: float
    answer_s: float
    late_us: int


class Quoting:
    def __init__(
        self,
        stream: Stream,
        share: Share,
        open_socket: Opener,
        admit: Admission,
        patience: Patience,
        log: logging.Logger,
    ) -> None:
        self._stream = stream
        self._share = share
        self._open_socket = open_socket
        self._admit = admit
        self._patience = patience
        self._log = log
        self._feeds: dict[str, tuple[Subscription, ...]] = {}  # admitted, by Yahoo's name of the symbol
        self._steady = SteadyClock()
        self._up: set[Subscription] = set()
        self._newest_us: dict[str, int] = {}
        self._without: Counter[str] = Counter()  # messages that were no quotes

    async def run(self) -> None:
        """Until cancelled."""
        waits = Waits()
        while True:
            await self._take_up()
            if not self._feeds:
                await self._share.changed()
                continue
            began_s = anyio.current_time()
            problem = await self._connection()
            if problem is None:
                continue
            pause_s = waits.next_s(problem, anyio.current_time() - began_s)
            symbols = len(self._feeds)
            self._log.warning("%s; %d symbols are down, attempt %d in %.1f s", problem, symbols, waits.attempt, pause_s)
            await anyio.sleep(pause_s)

    async def _take_up(self) -> None:
        """What is wanted becomes what is admitted; what cannot be had is refused."""
        wanted = self._share.wanted
        known = {feed for feeds in self._feeds.values() for feed in feeds}
        named: dict[str, tuple[Subscription, ...]] = {}
        for feed in wanted:
            try:
                native = to_native(feed.symbol, feed.asset_class)
                if feed not in known:
                    await self._admit(feed)
            except HOPELESS as error:
                await self._share.refuse(feed, error)
                continue
            named[native] = (*named.get(native, ()), feed)
        self._feeds = named
        self._up &= set(wanted)
        for kept in (self._newest_us, self._without):
            for native in kept.keys() - named.keys():
                del kept[native]

    async def _connection(self) -> ProviderError | None:
        """One connection's life; None: nothing is wanted any more."""
        try:
            async with self._open_socket() as socket:
                return await self._live(socket)
        except ProviderError as problem:
            await self._tell_down(str(problem))
            return problem

    async def _live(self, socket: Socket) -> ProviderError | None:
        """What went wrong is told before the connection is closed, which may take a while."""
        problems: list[ProviderError] = []
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._steer, socket, tasks.cancel_scope)
                tasks.start_soon(self._watch, socket)
                async for pricing in socket.receive():
                    await self._put(pricing)
        except* ProviderError as group:
            problems.append(first_of(group))
        if not problems:
            return None
        await self._tell_down(str(problems[0]))
        return problems[0]

    async def _steer(self, socket: Socket, over: anyio.CancelScope) -> None:
        """Ask for what is wanted, and no longer for what is not."""
        asked: set[str] = set()
        while True:
            gone, new = asked - self._feeds.keys(), self._feeds.keys() - asked
            asked = set(self._feeds)
            if gone:
                await socket.unsubscribe(sorted(gone))
            if new:
                await socket.subscribe(sorted(new))
            await self._tell_up()
            if not self._feeds:
                over.cancel()
            await self._share.changed()
            await self._take_up()

    async def _watch(self, socket: Socket) -> None:
        """A pong says that the connection is alive, and what Yahoo has not told by then it tells late."""
        while True:
            await anyio.sleep(self._patience.beat_s)
            asked_us = self._steady.earliest_us()
            try:
                with anyio.fail_after(self._patience.answer_s):
                    await socket.ping()
            except TimeoutError as exc:
                raise UpstreamTimeout(
                    f"Yahoo's connection is mute: no answer within {self._patience.answer_s:g} s"
                ) from exc
            if self._up:
                await self._stream.pulse(asked_us - self._patience.late_us, *self._up)

    async def _put(self, pricing: Pricing) -> None:
        native = pricing.native
        if native not in self._feeds:
            return
        if not pricing.is_quote:
            self._without[native] += 1
            if self._without[native] >= ENOUGH and native not in self._newest_us:
                await self._refuse(native)
            return
        if pricing.time_us < self._newest_us.get(native, 0):
            return  # what Yahoo repeats when it is asked again, or has overtaken: not the best bid and ask any more
        self._newest_us[native] = pricing.time_us
        for feed in self._feeds[native]:
            await self._stream.quotes(
                feed, pricing.time_us, pricing.bid, pricing.bid_size, pricing.ask, pricing.ask_size
            )

    async def _refuse(self, native: str) -> None:
        for feed in self._feeds[native]:
            why = f"Yahoo streams {feed.symbol} without bid and ask: {ENOUGH} prices came, and no quote"
            await self._share.refuse(feed, Unsupported(why))

    async def _tell_up(self) -> None:
        risen = [feed for feeds in self._feeds.values() for feed in feeds if feed not in self._up]
        if risen:
            self._up.update(risen)
            await self._stream.up(*risen)

    async def _tell_down(self, reason: str) -> None:
        feeds = [feed for feeds in self._feeds.values() for feed in feeds]
        self._up.clear()
        if feeds:
            await self._stream.down(reason, *feeds)
