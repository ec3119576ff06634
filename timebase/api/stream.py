"""WS /stream: one client's conversation. Actions in, frames of events out; docs/streaming.md is its text.

Spends nothing per event: each is encoded once for all who follow it, and a frame holds all that waits for this client.
"""

import random
from collections.abc import Callable, Iterator
from functools import partial

import trio

from timebase.api.actions import Action, Ping, Subscribe, Unsubscribe, parse_action
from timebase.api.address import parse_address
from timebase.api.exchange import Asked, Desk
from timebase.api.sender import Sender
from timebase.api.websocket import Gone, WebSocket
from timebase.clock import now_us
from timebase.errors import RequestError
from timebase.model.feed import Channel
from timebase.streaming.event import Event, Fault, Remark
from timebase.streaming.follower import Follower

MAX_CHANNELS = 1_000  # of one client: more than a screen shows, few enough to walk through
HEARTBEAT_S = 15.0  # without an event; proxies close what is idle for a minute
PING_S = 20.0
SILENT_S = 60.0  # a client that answers no ping for so long is not there
SILENT = 4009  # of the codes that RFC 6455 leaves to applications


async def serve_stream(desk: Desk, asked: Asked, socket: WebSocket) -> None:
    """Until the client goes, or is told goodbye."""
    with desk.services.hub.follow() as follower:
        async with trio.open_nursery() as nursery:
            session = _Session(desk, socket, follower, nursery)
            nursery.start_soon(session.write)
            nursery.start_soon(session.watch)
            session.hear(lambda: parse_address(asked, now_us()))
            await session.read()


def ping_pauses() -> Iterator[float]:
    """Seconds from one ping to the next. The first is any: clients who came together are not pinged all at once."""
    yield random.uniform(0.0, PING_S)  # noqa: S311 - guards nothing
    while True:
        yield PING_S


class _Session:
    """Its tasks end together: whichever ends first ends the nursery."""

    def __init__(self, desk: Desk, socket: WebSocket, follower: Follower, nursery: trio.Nursery) -> None:
        self._desk = desk
        self._hub = desk.services.hub
        self._socket = socket
        self._follower = follower
        self._nursery = nursery
        self._sender = Sender(follower, socket, desk.frames.of, self._hub.lags.sent, nursery)
        self._bridges: dict[Channel, trio.CancelScope] = {}

    # --- out ---

    async def write(self) -> None:
        try:
            goodbye = await self._sender.run()
            await self._socket.close(goodbye.code, goodbye.message)
        except Gone:
            pass
        self._nursery.cancel_scope.cancel()

    async def watch(self) -> None:
        """Ping, and let go who does not answer."""
        try:
            for pause_s in ping_pauses():
                await self._socket.ping()
                await self._beat(trio.current_time() + pause_s)
                if trio.current_time() - self._socket.heard_at >= SILENT_S:
                    break
        except Gone:
            return  # the reader hears of it too
        self._follower.say_goodbye(SILENT, f"nothing was heard of you for {SILENT_S:g} s, not even a pong")

    async def _beat(self, until: float) -> None:
        """Something to read every HEARTBEAT_S, whatever happens."""
        while (now := trio.current_time()) < until:
            next_beat = self._sender.sent_at + HEARTBEAT_S
            if next_beat <= now:
                self._tell(Remark("heartbeat", {"time": now_us() // 1000}))
                next_beat = now + HEARTBEAT_S
            await trio.sleep_until(min(next_beat, until))

    # --- in ---

    async def read(self) -> None:
        try:
            while True:
                message = await self._socket.receive()
                self.hear(partial(parse_action, message, now_us()))
        except Gone:
            self._nursery.cancel_scope.cancel()

    def hear(self, parse: Callable[[], Action | None]) -> None:
        """Do what the client says; what makes no sense is answered, and the conversation goes on."""
        try:
            action = parse()
            if action is not None:
                self._act(action)
        except RequestError as error:
            self._tell(Fault(error.code, str(error)))

    def _act(self, action: Action) -> None:
        match action:
            case Ping():
                self._tell(Remark("pong", {"time": now_us() // 1000}))
            case Subscribe():
                for channel in action.channels:
                    self._subscribe(channel, action)
            case Unsubscribe():
                for channel in action.channels:
                    self._unsubscribe(channel)

    def _subscribe(self, channel: Channel, action: Subscribe) -> None:
        if len(self._follower.channels) >= MAX_CHANNELS and channel not in self._follower.channels:
            self._tell(Fault("too_many_channels", f"one client may follow {MAX_CHANNELS:,} channels"), channel)
            return
        self._stop_bridge(channel)
        joined = self._hub.join(
            self._follower, channel, throttle_s=action.throttle_s, resume=action.resume.get(channel), is_held=True
        )
        facts = {"seq": joined.seq, "resumed": joined.is_resumed, "provider": self._hub.provider_of(channel)}
        self._tell(Remark("subscribed", facts), channel)
        for event in joined.missed:
            self._follower.tell(event)
        for event in joined.standing:
            self._follower.push(event)
        if action.from_us is None or joined.is_resumed:
            self._follower.release(channel, joined.seq)
        else:
            self._nursery.start_soon(self._bridge, channel, joined.seq, action.from_us)

    async def _bridge(self, channel: Channel, joined_seq: int, from_us: int) -> None:
        with trio.CancelScope() as scope:
            self._bridges[channel] = scope
            await self._desk.services.seam.bridge(self._follower, channel, joined_seq, from_us)

    def _stop_bridge(self, channel: Channel) -> None:
        scope = self._bridges.pop(channel, None)
        if scope is not None:
            scope.cancel()

    def _unsubscribe(self, channel: Channel) -> None:
        self._stop_bridge(channel)
        self._hub.leave(self._follower, channel)
        self._tell(Remark("unsubscribed"), channel)

    def _tell(self, what: Fault | Remark, channel: Channel | None = None) -> None:
        self._follower.tell(Event(what, channel))
