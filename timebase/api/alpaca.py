"""WS /v2/{feed}, /v1beta3/crypto/{feed}: the stream that Alpaca's stock SDK expects; see compat/alpaca_session.py."""

import trio

from timebase.api.exchange import Asked, Desk
from timebase.api.stream import PING_S, SILENT_S
from timebase.api.websocket import Gone, WebSocket, binary_frame, text_frame
from timebase.compat.alpaca_events import MSGPACK
from timebase.compat.alpaca_session import AlpacaSession, Said
from timebase.model.feed import Channel
from timebase.model.interval import Interval
from timebase.streaming.event import Goodbye
from timebase.streaming.follower import TOO_SLOW, Follower

AUTH_S = 10.0
DAILY_S = 60.0  # a day so far is told once a minute, as Alpaca does
POLICY_VIOLATION = 1008


async def serve_alpaca(desk: Desk, asked: Asked, socket: WebSocket) -> None:
    """Until the client goes, fails to authenticate, or is too slow. Its `{feed}` is all one to us."""
    session = AlpacaSession.of(asked.headers.get("content-type", ""), desk.settings.token)
    with desk.services.hub.follow() as follower:
        async with trio.open_nursery() as nursery:
            conversation = _Conversation(desk, session, socket, follower)
            await conversation.send(session.greeting())
            nursery.start_soon(conversation.write, nursery.cancel_scope)
            nursery.start_soon(conversation.watch, nursery.cancel_scope)
            await conversation.read()
            nursery.cancel_scope.cancel()


class _Conversation:
    def __init__(self, desk: Desk, session: AlpacaSession, socket: WebSocket, follower: Follower) -> None:
        self._hub = desk.services.hub
        self._session = session
        self._socket = socket
        self._follower = follower
        self._frame = binary_frame if session.encoder is MSGPACK else text_frame

    async def send(self, payload: bytes) -> None:
        if payload:
            await self._socket.send(self._frame(payload))

    async def read(self) -> None:
        try:
            with trio.CancelScope(deadline=trio.current_time() + AUTH_S) as patience:
                while True:
                    said = self._session.hear(await self._socket.receive())
                    if self._session.is_authenticated:
                        patience.deadline = float("inf")
                    await self._do(said)
                    if said.is_over:
                        break
            if patience.cancelled_caught:
                await self.send(self._session.auth_timeout())
            await self._socket.close(POLICY_VIOLATION, "not authenticated")
        except Gone:
            pass

    async def _do(self, said: Said) -> None:
        """The reply first: whoever asked for a channel is told that it has it before anything comes on it."""
        await self.send(said.reply)
        for channel in said.leave:
            self._hub.leave(self._follower, channel)
        for channel in said.join:
            joined = self._hub.join(self._follower, channel, throttle_s=_throttle_s(channel))
            for event in joined.standing:
                self._follower.push(event)

    async def write(self, over: trio.CancelScope) -> None:
        try:
            while True:
                events = await self._follower.next()
                await self.send(self._session.shown(events))
                last = events[-1].content
                if isinstance(last, Goodbye):
                    await self.send(self._session.too_slow() if last.code == TOO_SLOW else b"")
                    await self._socket.close(last.code, last.message)
                    break
        except Gone:
            pass
        over.cancel()

    async def watch(self, over: trio.CancelScope) -> None:
        """Ping, and let go who does not answer."""
        try:
            while trio.current_time() - self._socket.heard_at < SILENT_S:
                await self._socket.ping()
                await trio.sleep(PING_S)
        except Gone:
            pass
        over.cancel()


def _throttle_s(channel: Channel) -> float:
    return DAILY_S if channel.interval is Interval.D1 else 0.0
