"""The core's end of the link: demands go out, bars come in, many at once over one connection.

A receive loop that never waits for anybody hands each message to the question it belongs to; flow control is by credit,
so a question's inbox cannot fill up unless the plugin breaks the rules. What is streamed goes into `inflow`, bounded in
the same way. Sending never waits either: what goes out is small and is queued, and a plugin that does not read is found
out by the queue's end.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Never

import trio

from timebase.clock import now_us
from timebase.errors import Malformed, ProviderError, TimeBaseError, Unavailable
from timebase.link.inflow import Delivery, Inflow
from timebase.link.socket import LinkClosed, Socket
from timebase.model.bars import Bars
from timebase.model.calendar import zone_of
from timebase.model.demand import Demand
from timebase.model.feed import Feed
from timebase.model.instrument import CorporateAction, Instrument
from timebase.wire.bars import parse_bars
from timebase.wire.codec import MAX_MESSAGE_BYTES
from timebase.wire.envelope import (
    BATCH_ROWS,
    NO_ID,
    Message,
    Type,
    pack_error,
    pack_message,
    parse_error,
    unpack_message,
)  # fmt: skip
from timebase.wire.instruments import parse_action, parse_instrument
from timebase.wire.streams import STREAM_CREDIT

CREDIT = 2
"""Data messages on their way per question, 3 MiB each: the next travels while one is stored. Measured with 1 M bars:
6 M rows/s with 1, 8 with 2, 9 with 4; the writer behind it does not reach 2."""

OUTBOX = 1_000  # messages of some 100 bytes; more unread ones than this and the plugin is stuck
SPENDS = 64  # permissions that a plugin may wait for at once

_DATA = frozenset({Type.BARS, Type.ACTIONS})  # what credit is for
_UNKNOWN_TYPES = 100  # told to the log, each once

Spend = Callable[[int], Awaitable[None]]
Log = Callable[[str, str], None]


class Answer:
    """What a plugin says to one demand: `async for part in answer`.

    Order: as the plugin sent it; bars ascend from message to message if the plugin keeps its promise.
    Raises: while iterating, the ProviderError that the answer ended with. `warnings` are there after the last part.
    """

    def __init__(self, credit: int, ends_in: Type, grant: Callable[[], None]) -> None:
        # One place beyond the credit, for the message that ends the answer.
        self._arrived, self._inbox = trio.open_memory_channel[Message](credit + 1)
        self._fault: ProviderError | None = None
        self._ends_in = ends_in
        self._grant = grant
        self.ended = trio.Event()
        self.warnings: tuple[str, ...] = ()

    def __aiter__(self) -> "Answer":
        return self

    async def __anext__(self) -> Bars | tuple[CorporateAction, ...]:
        message = await self.next_message()
        if message.type == Type.END:
            self.warnings = message.texts("warnings")
            raise StopAsyncIteration
        part = _parse_part(message)
        self._grant()
        return part

    async def next_message(self) -> Message:
        """Raises: what the answer failed with, after everything that came before."""
        try:
            message = await self._inbox.receive()
        except trio.EndOfChannel:
            raise self._fault or Unavailable("asked after the answer's end") from None
        if message.type == Type.ERROR:
            raise parse_error(message)
        if message.type not in {self._ends_in, *_DATA} or (message.type in _DATA and self._ends_in != Type.END):
            raise Malformed(f"{self._ends_in} wanted, not {message.type}")
        return message

    def put(self, message: Message) -> None:
        if self.ended.is_set():
            return
        try:
            self._arrived.send_nowait(message)
        except trio.WouldBlock:
            self.fail(Malformed("the plugin sent more messages than it had credit for"))
        if message.type not in _DATA:
            self._end()

    def fail(self, fault: ProviderError) -> None:
        self._fault = self._fault or fault
        self._end()

    def _end(self) -> None:
        self._arrived.close()
        self.ended.set()


class ProviderLink:
    """One plugin process, as the core talks to it. A link lives as long as the process and is never used again."""

    def __init__(self, socket: Socket, credit: int, clock: Callable[[], int]) -> None:
        self._socket = socket
        self._credit = credit
        self._ids = count(1)
        self._answers: dict[int, Answer] = {}
        self._inflow = Inflow(STREAM_CREDIT, clock)
        self._spends: dict[int, trio.CancelScope] = {}
        self._posted, self._outbox = trio.open_memory_channel[bytes](OUTBOX)
        self._peer_spoke = trio.Event()
        self._receiving = trio.CancelScope()  # cancelled from nng's thread when the peer's connection is gone
        self._fault: ProviderError | None = None
        self._unknown_types: set[str] = set()
        self.peer: str = ""

    async def run(
        self, spend: Spend, log: Log, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> Never:
        """Receive until the peer is gone; `spend(n)` answers a plugin that asks for n more upstream requests.

        Raises: Unavailable when the connection closes, Malformed when the peer does not speak the protocol. Everyone
        who still waits gets an Unavailable with the same reason.
        """
        fault: ProviderError = Unavailable("the link was closed")
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send_posted)
                task_status.started()
                fault = await self._receive_all(nursery, spend, log)
                nursery.cancel_scope.cancel()
        finally:
            self._fail_all(Unavailable(str(fault)))
        raise fault

    async def hello(
        self, *, slug: str, options: Mapping[str, object], secrets: Mapping[str, str], cache_dir: Path | str
    ) -> tuple[str, ...]:
        """Shake hands: wait for the plugin, tell it who it is, wait until it is set up. Returns its methods.

        Raises: the ProviderError that its setup ended with.
        """
        with self._asking(Type.READY) as (id_, answer):
            await self._spoken_to(answer)
            self._post(
                Type.HELLO, id_, slug=slug, options=dict(options), secrets=dict(secrets), cache_dir=str(cache_dir),
                max_message_bytes=MAX_MESSAGE_BYTES, batch_rows=BATCH_ROWS, stream_credit=STREAM_CREDIT,
            )  # fmt: skip
            ready = await answer.next_message()
        return ready.texts("methods")

    @asynccontextmanager
    async def history(self, demand: Demand) -> AsyncIterator[Answer]:
        """Ask for bars and corporate actions. Leaving early tells the plugin to stop; late messages are dropped.

        Example:
            async with link.history(demand) as answer:
                async for part in answer:
                    ...
        """
        with self._asking(Type.END, self._credit) as (id_, answer):
            zone = zone_of(demand.instrument)
            self._post(
                Type.HISTORY, id_, symbol=demand.instrument.symbol, asset_class=demand.instrument.asset_class.value,
                interval=demand.series.interval.value, start=demand.range.start_us, end=demand.range.end_us,
                credit=self._credit, **({"timezone": zone} if zone else {}),
            )  # fmt: skip
            yield answer

    async def symbols(self, query: str, limit: int) -> tuple[Instrument, ...]:
        """Raises: the plugin's ProviderError; Malformed when a row is none."""
        with self._asking(Type.SYMBOLS) as (id_, answer):
            self._post(Type.SYMBOLS, id_, query=query, limit=limit)
            message = await answer.next_message()
            return tuple(parse_instrument(row) for row in message.rows()[:limit])

    def subscribe(self, feed: Feed) -> None:
        """What comes of it is a delivery; so is its end, when the plugin or the link fails it.

        Raises: Unavailable when the link is at its end.
        """
        if self._fault is not None:
            raise Unavailable(str(self._fault))
        if self._inflow.id_of(feed) is not None:
            return
        instrument = feed.instrument
        interval = {"interval": feed.interval.value} if feed.interval else {}
        id_ = next(self._ids)  # a number of its own each time: what was on its way for an earlier one is nobody's
        self._post(
            Type.SUBSCRIBE, id_, kind=feed.kind.value, symbol=instrument.symbol,
            asset_class=instrument.asset_class.value, **interval,
        )  # fmt: skip
        self._inflow.add(id_, feed)

    def unsubscribe(self, feed: Feed) -> None:
        """Nothing of it is delivered any more."""
        id_ = self._inflow.drop(feed)
        if id_ is not None:
            with suppress(Unavailable):
                self._post(Type.UNSUBSCRIBE, id_)

    async def next_delivery(self) -> Delivery | None:
        """What was streamed, in order, one at a time: it stays the next until `delivered`. None after the end.

        After the link's end comes what had arrived before, and then the end of every feed that is left.
        """
        return await self._inflow.next()

    def delivered(self) -> None:
        """The next delivery is out of the house, and the plugin may send another message."""
        if self._inflow.done().is_data and self._fault is None:
            with suppress(Unavailable):  # it does not read: its pings find that out
                self._post(Type.CREDIT, NO_ID, n=1)

    async def ping(self) -> None:
        """Returns when the plugin's event loop has answered; how long to wait is the caller's word."""
        with self._asking(Type.PONG) as (id_, answer):
            self._post(Type.PING, id_)
            await answer.next_message()

    async def shutdown(self) -> None:
        """Ask the plugin to leave. Returns when the message is out, not when the process is gone."""
        with suppress(LinkClosed):
            await self._socket.send(pack_message(Type.SHUTDOWN))

    @contextmanager
    def _asking(self, ends_in: Type, credit: int = 1) -> Iterator[tuple[int, Answer]]:
        if self._fault is not None:
            raise Unavailable(str(self._fault))
        id_ = next(self._ids)
        answer = self._answers[id_] = Answer(credit, ends_in, lambda: self._post(Type.CREDIT, id_, n=1))
        try:
            yield id_, answer
        finally:
            # Still there: nobody has ended it, so the plugin may be at work on it.
            if self._answers.pop(id_, None) is not None:
                with suppress(Unavailable):
                    self._post(Type.CANCEL, id_)

    async def _spoken_to(self, answer: Answer) -> None:
        """Wait for the plugin's hello, or for the link's end."""
        async with trio.open_nursery() as nursery:

            async def leave_on(event: Callable[[], Awaitable[object]]) -> None:
                await event()
                nursery.cancel_scope.cancel()

            nursery.start_soon(leave_on, self._peer_spoke.wait)
            nursery.start_soon(leave_on, answer.ended.wait)

    def _post(self, type_: Type, id_: int, **fields: object) -> None:
        self._post_packed(pack_message(type_, id_, **fields))

    def _post_packed(self, message: bytes) -> None:
        try:
            self._posted.send_nowait(message)
        except trio.WouldBlock:
            raise Unavailable("the plugin does not read what it is sent") from None

    async def _send_posted(self) -> None:
        async for message in self._outbox:
            await self._socket.send(message)

    async def _receive_all(self, nursery: trio.Nursery, spend: Spend, log: Log) -> ProviderError:
        """Returns why there is nothing more to receive."""
        try:
            with self._receiving:
                while True:
                    self._dispatch(unpack_message(await self._socket.receive()), nursery, spend, log)
            # The peer is gone, but what had arrived before (its last words) still counts.
            while True:
                self._dispatch(unpack_message(self._socket.receive_nowait()), nursery, spend, log)
        except Malformed as fault:
            return Malformed(f"the plugin does not speak the protocol: {fault}")
        except LinkClosed:
            return Unavailable(f"the plugin's connection closed (so does a message above {MAX_MESSAGE_BYTES} bytes)")

    def _dispatch(self, message: Message, nursery: trio.Nursery, spend: Spend, log: Log) -> None:
        match message.type:
            case _ if self._inflow.takes(message):
                self._inflow.put(message)
            case Type.BARS | Type.ACTIONS | Type.READY | Type.END | Type.ERROR | Type.SYMBOLS | Type.PONG:
                self._put_answer(message)
            case Type.HELLO:
                self.peer = message.text("sdk", "unknown")
                self._peer_spoke.set()
            case Type.LOG:
                log(message.text("level", "info"), message.text("message", ""))
            case Type.SPEND:
                self._start_spending(message, nursery, spend)
            case Type.CANCEL:
                if (scope := self._spends.get(message.id)) is not None:
                    scope.cancel()
            case _:
                self._say_once(message.type, log)

    def _put_answer(self, message: Message) -> None:
        is_last = message.type not in _DATA
        answer = self._answers.pop(message.id, None) if is_last else self._answers.get(message.id)
        if answer is not None:
            answer.put(message)

    def _start_spending(self, message: Message, nursery: trio.Nursery, spend: Spend) -> None:
        n = message.integer("n", 1)
        if n < 1 or message.id in self._spends or len(self._spends) >= SPENDS:
            raise Malformed(f"spend {message.id}: {n} requests asked with {len(self._spends)} permissions pending")
        scope = self._spends[message.id] = trio.CancelScope()
        nursery.start_soon(self._spend, message.id, n, scope, spend)

    async def _spend(self, id_: int, n: int, scope: trio.CancelScope, spend: Spend) -> None:
        try:
            with scope, suppress(Unavailable):  # of our own posting: then the link is at its end anyway
                self._post_packed(await _permission(id_, n, spend))
        finally:
            del self._spends[id_]

    def _say_once(self, type_: str, log: Log) -> None:
        if type_ not in self._unknown_types and len(self._unknown_types) < _UNKNOWN_TYPES:
            self._unknown_types.add(type_)
            log("warning", f"messages of the unknown type {type_!r:.40} are ignored")

    def peer_is_gone(self) -> None:
        self._receiving.cancel()

    def _fail_all(self, fault: Unavailable) -> None:
        self._fault = fault
        self._inflow.end(fault)
        while self._answers:
            _, answer = self._answers.popitem()
            answer.fail(fault)


def _parse_part(message: Message) -> Bars | tuple[CorporateAction, ...]:
    if message.type == Type.BARS:
        return parse_bars(message)
    return tuple(parse_action(row) for row in message.rows())


async def _permission(id_: int, n: int, spend: Spend) -> bytes:
    try:
        await spend(n)
    except ProviderError as refusal:
        return pack_error(id_, refusal)
    except TimeBaseError as fault:
        return pack_error(id_, Unavailable(str(fault)))
    return pack_message(Type.GRANTED, id_)


@asynccontextmanager
async def open_link(
    address: str, *, credit: int = CREDIT, clock: Callable[[], int] = now_us
) -> AsyncIterator[ProviderLink]:
    """Listen at `address` for one plugin process. Start `run` in a nursery before asking anything.

    `clock` says when what is streamed was received.
    """
    token = trio.lowlevel.current_trio_token()

    def tell_loop() -> None:  # in a thread of nng's
        with suppress(trio.RunFinishedError):
            token.run_sync_soon(link.peer_is_gone)

    with Socket.open(tell_loop) as socket:
        link = ProviderLink(socket, credit, clock)
        socket.listen(address)
        yield link
