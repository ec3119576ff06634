"""Feeds over a few connections to Binance's streams, each made anew when it is lost.

    wanted feeds -> stream names -> lines of 200 -> SUBSCRIBE -> acknowledged, or the first message: up -> data, pulses

What keeps it honest. A feed is up when Binance has acknowledged it or sent something for it, and down as soon as its
connection is lost, mute or garbled, or a trade's number shows that some were left out. When nothing comes for a while
Binance is asked which streams it serves here: the answer is evidence that the connection is alive and nothing older is
still to come, as every message is, and the feeds get a pulse; without an answer the connection is given up. Lost
connections are made anew after waits that double, cut by chance, and counted until one has held for a minute. Binance
ends each after a day; an hour before, another one takes over while the first still runs.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import anyio
from binance_clock import ExchangeClock
from binance_messages import Event, Kline, Quote, Reply, Trade, stream_name
from binance_socket import Socket

from timebase.clock import SteadyClock
from timebase.errors import first_of
from timebase.sdk import (
    AuthFailed,
    Bars,
    ProviderError,
    Stream,
    Subscription,
    Unsupported,
    Upstream,
    UpstreamTimeout,
    Waits,
)

STREAMS_PER_LINE = 200  # Binance allows 1024; one lost connection shall not take everything along
NAMES_PER_REQUEST = 100
REQUEST_GAP_S = 0.25  # Binance hangs up on more than five messages a second
PULSE_US = 100_000
RENEW_S = 23 * 3_600.0
DOUBT_S = 60.0  # what could not be told whether Binance has it is asked for again
HOPELESS = (Unsupported, AuthFailed)  # trying again cannot help

Opener = Callable[[str], AbstractAsyncContextManager[Socket]]
Admission = Callable[[Subscription], Awaitable[bool]]  # False: nobody can tell at the moment. Raises: ProviderError
Feeds = Mapping[str, tuple[Subscription, ...]]  # by the name of the stream


@dataclass(frozen=True, slots=True)
class Patience:
    """After how long a silence Binance is asked for a sign of life, and how long an answer may take."""

    silence_s: float
    answer_s: float


async def run_lines(
    stream: Stream, open_socket: Opener, admit: Admission, patience: Patience, log: logging.Logger
) -> None:
    """Supply what `stream` wants until cancelled. Raises: ProviderError when no further try can help."""
    lines: list[Line] = []
    admitted: dict[Subscription, bool] = {}  # whether it is certain that Binance has it
    async with anyio.create_task_group() as tasks:
        while True:
            wanted = stream.wanted
            admitted = {feed: is_certain for feed, is_certain in admitted.items() if feed in wanted}
            for feed in [each for each in wanted if not admitted.get(each)]:
                try:
                    admitted[feed] = await admit(feed)
                except ProviderError as error:
                    admitted.pop(feed, None)
                    await stream.refuse(feed, error)
            for line in _placed(_named(admitted), lines, lambda: Line(stream, open_socket, patience, log)):
                tasks.start_soon(line.run)
            with anyio.move_on_after(None if all(admitted.values()) else DOUBT_S):
                await stream.changed()


def _named(feeds: Iterable[Subscription]) -> dict[str, tuple[Subscription, ...]]:
    named: dict[str, tuple[Subscription, ...]] = {}
    for each in feeds:
        name = stream_name(each)
        named[name] = (*named.get(name, ()), each)
    return named


def _placed(named: Feeds, lines: list["Line"], new_line: Callable[[], "Line"]) -> list["Line"]:
    """Give each stream its line, where it stays as long as it is wanted. Returns the lines that were added."""
    for line in lines:
        line.want({name: named[name] for name in line.feeds if name in named})
    homeless = sorted(named.keys() - {name for line in lines for name in line.feeds})
    added: list[Line] = []
    for name in homeless:
        line = next((line for line in (*lines, *added) if len(line.feeds) < STREAMS_PER_LINE), None) or new_line()
        if line not in lines and line not in added:
            added.append(line)
        line.want({**line.feeds, name: named[name]})
    lines.extend(added)
    return added


class Line:
    """The feeds of one connection, whichever connection it is at the moment."""

    def __init__(self, stream: Stream, open_socket: Opener, patience: Patience, log: logging.Logger) -> None:
        self.stream = stream
        self.open_socket = open_socket
        self.patience = patience
        self.feeds: Feeds = {}
        self.clock = ExchangeClock()
        self.now_us = SteadyClock().now_us  # a step of the wall's would be taken for the exchange's time
        self._up: set[Subscription] = set()
        self._changed = anyio.Event()
        self._log = log

    def want(self, feeds: Feeds) -> None:
        if feeds != self.feeds:
            self.feeds = feeds
            self._up &= {feed for group in feeds.values() for feed in group}
            self._changed.set()
            self._changed = anyio.Event()

    async def changed(self) -> None:
        await self._changed.wait()

    async def run(self) -> None:
        """Raises: ProviderError of the kinds that no further try can help."""
        waits = Waits()
        while True:
            while not self.feeds:
                await self.changed()
            began_s = anyio.current_time()
            problem = await self._live()
            if problem is None:
                continue
            if isinstance(problem, HOPELESS):
                raise problem
            pause_s = waits.next_s(problem, anyio.current_time() - began_s)
            self._log.warning(
                "%s; %d streams are down, attempt %d in %.1f s", problem, len(self.feeds), waits.attempt, pause_s
            )
            await self.tell_down(str(problem), *self.feeds)
            await anyio.sleep(pause_s)

    async def _live(self) -> ProviderError | None:
        """Connection after connection, each taking over from the one before, until one fails or nothing is wanted."""
        problems: list[ProviderError] = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._until_unwanted, tasks.cancel_scope.cancel)
            before: Connection | None = None
            while True:
                connection = Connection(self)
                tasks.start_soon(connection.run, problems, tasks.cancel_scope.cancel)
                await connection.is_up.wait()
                if before is not None:
                    before.scope.cancel()
                before = connection
                await anyio.sleep(RENEW_S)
        return problems[0] if problems else None

    async def _until_unwanted(self, leave: Callable[[], None]) -> None:
        while self.feeds:
            await self.changed()
        leave()

    async def tell_up(self, *names: str) -> None:
        risen = [feed for name in names for feed in self.feeds.get(name, ()) if feed not in self._up]
        if risen:
            self._up.update(risen)
            await self.stream.up(*risen)

    async def tell_down(self, reason: str, *names: str) -> None:
        feeds = [feed for name in names for feed in self.feeds.get(name, ())]
        self._up.difference_update(feeds)
        if feeds:
            await self.stream.down(reason, *feeds)

    async def tell_pulse(self, time_us: int, names: Iterable[str]) -> None:
        alive = [feed for name in names for feed in self.feeds.get(name, ()) if feed in self._up]
        if alive:
            await self.stream.pulse(time_us, *alive)


@dataclass(frozen=True, slots=True)
class Request:
    """What Binance was asked and has not answered yet. `asked_us` is in our clock, `asked_s` in the loop's."""

    names: tuple[str, ...]
    asked_us: int
    asked_s: float


class Connection:
    """One connection's life."""

    def __init__(self, line: Line) -> None:
        self.is_up = anyio.Event()  # everything that was wanted has been acknowledged
        self.scope = anyio.CancelScope()
        self._line = line
        self._patience = line.patience
        self._asked: set[str] = set()
        self._served: set[str] = set()  # and acknowledged
        self._pending: dict[int, Request] = {}
        self._last_ids: dict[str, int] = {}
        self._heard_s = 0.0
        self._pulse_us = 0

    async def run(self, problems: list[ProviderError], give_up: Callable[[], None]) -> None:
        """Until it is lost, which ends what the line has at the moment, or another one has taken over."""
        with self.scope:
            try:
                await self._serve()
            except* ProviderError as group:
                problems.append(first_of(group))
                give_up()

    async def _serve(self) -> None:
        async with self._line.open_socket(min(self._line.feeds)) as socket, anyio.create_task_group() as tasks:
            self._heard_s = anyio.current_time()
            tasks.start_soon(self._steer, socket)
            tasks.start_soon(self._watch, socket)
            async for message in socket.receive():
                self._heard_s = anyio.current_time()
                if isinstance(message, Reply):
                    await self._replied(message)
                elif message.stream in self._line.feeds:
                    await self._put(message, self._line.now_us())

    async def _steer(self, socket: Socket) -> None:
        """Ask for what is wanted, also for what the connection began with: only an answer is evidence."""
        while True:
            wanted = set(self._line.feeds)
            gone, new = self._asked - wanted, wanted - self._asked
            self._asked, self._served = (
                wanted,
                self._served & wanted,
            )  # first: an answer may come before the last is sent
            for method, names in (("UNSUBSCRIBE", gone), ("SUBSCRIBE", new)):
                for some in _portions(sorted(names)):
                    await self._ask(socket, method, some)
                    await anyio.sleep(REQUEST_GAP_S)
            if self._line.feeds.keys() == wanted:
                await self._line.changed()

    async def _watch(self, socket: Socket) -> None:
        """A connection that says nothing, and nothing when it is asked, is dead, whatever TCP thinks."""
        while True:
            now_s = anyio.current_time()
            due_s = self._heard_s + self._patience.silence_s
            if self._pending:
                due_s = min(request.asked_s for request in self._pending.values()) + self._patience.answer_s
                if now_s >= due_s:
                    raise UpstreamTimeout(
                        f"Binance's connection is mute: no answer within {self._patience.answer_s:g} s"
                    )
            elif now_s >= due_s:
                await self._ask(socket, "LIST_SUBSCRIPTIONS")
                continue
            await anyio.sleep(min(due_s - now_s, self._patience.silence_s))

    async def _ask(self, socket: Socket, method: str, names: tuple[str, ...] = ()) -> None:
        request = Request(names if method == "SUBSCRIBE" else (), self._line.now_us(), anyio.current_time())
        self._pending[await socket.ask(method, names)] = request

    async def _replied(self, reply: Reply) -> None:
        request = self._pending.pop(reply.id, None)
        if reply.error:
            raise Upstream(f"Binance refuses a request: {reply.error}")
        if request is None:
            return
        if request.names:
            self._served |= self._asked.intersection(request.names)
            if self._served == self._asked:
                self.is_up.set()
            await self._line.tell_up(*request.names)
        if reply.streams is not None:
            gone = self._served - reply.streams
            if gone:
                raise Upstream(f"Binance does not serve {', '.join(sorted(gone)[:5])} here any more")
            await self._line.tell_pulse(self._line.clock.surely_us(request.asked_us), reply.streams)

    async def _put(self, event: Event, received_us: int) -> None:
        line, name, what = self._line, event.stream, event.what
        if isinstance(what, Trade):
            last = self._last_ids.get(name)
            if last is not None and what.id > last + 1:
                await line.tell_down(f"Binance left out {what.id - last - 1} trades after number {last}", name)
            self._last_ids[name] = max(what.id, last or 0)
        await line.tell_up(name)
        for feed in line.feeds[name]:
            await self._hand_on(feed, what, received_us)
        if not isinstance(what, Quote):
            line.clock.hear(what.event_us, received_us)
            if what.event_us >= self._pulse_us + PULSE_US:
                self._pulse_us = what.event_us
                await line.tell_pulse(what.event_us, line.feeds)

    async def _hand_on(self, feed: Subscription, what: Trade | Quote | Kline, received_us: int) -> None:
        stream = self._line.stream
        match what:
            case Trade():
                await stream.trades(feed, what.time_us, what.price, what.size, what.side, what.id)
            case Quote():
                at_us = self._line.clock.at_us(received_us)
                await stream.quotes(feed, at_us, what.bid, what.bid_size, what.ask, what.ask_size)
            case Kline():
                row = (what.open_us, what.open, what.high, what.low, what.close, what.volume)
                await stream.bars(feed, Bars.from_rows([row]), what.is_closed)


def _portions(names: list[str]) -> list[tuple[str, ...]]:
    return [tuple(names[i : i + NAMES_PER_REQUEST]) for i in range(0, len(names), NAMES_PER_REQUEST)]
