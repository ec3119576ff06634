"""WS /v2/{feed}, /v1beta3/crypto/{feed}: the stream that Alpaca's stock SDK expects; see compat/alpaca_session.py."""

import trio

from timebase.api.exchange import Asked, Desk
from timebase.api.sender import Sender
from timebase.api.stream import SILENT_S, ping_pauses
from timebase.api.websocket import Gone, WebSocket, binary_frame, text_frame
from timebase.compat.alpaca_events import MSGPACK
from timebase.compat.alpaca_session import AlpacaSession, Said
from timebase.model.feed import Channel
from timebase.model.interval import Interval
from timebase.streaming.event import Event
from timebase.streaming.follower import TOO_SLOW, Follower

AUTH_S = 10.0
DAILY_S = 60.0  # a day so far is told once a minute, as Alpaca does
POLICY_VIOLATION = 1008


async def serve_alpaca(desk: Desk, asked: Asked, socket: WebSocket) -> None:
    """Until the client goes, fails to authenticate, or is too slow. Its `{feed}` is all one to us."""
    session = AlpacaSession.of(asked.headers.get("content-type", ""), desk.settings.token)
    with desk.services.hub.follow() as follower:
        async with trio.open_nursery() as nursery:
            conversation = _Conversation(desk, session, socket, follower, nursery)
            await conversation.send(session.greeting())
            nursery.start_soon(conversation.write, nursery.cancel_scope)
            nursery.start_soon(conversation.watch, nursery.cancel_scope)
            await conversation.read()
            nursery.cancel_scope.cancel()


class _Conversation:
    def __init__(
        self, desk: Desk, session: AlpacaSession, socket: WebSocket, follower: Follower, nursery: trio.Nursery
    ) -> None:
        self._hub = desk.services.hub
        self._session = session
        self._socket = socket
        self._follower = follower
        self._frame = binary_frame if session.encoder is MSGPACK else text_frame
        self._sender = Sender(follower, socket, self._shown, self._hub.lags.sent, nursery)

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
            goodbye = await self._sender.run()
            await self.send(self._session.too_slow() if goodbye.code == TOO_SLOW else b"")
            await self._socket.close(goodbye.code, goodbye.message)
        except Gone:
            pass
        over.cancel()

    def _shown(self, events: list[Event]) -> bytes:
        payload = self._session.shown(events)
        return self._frame(payload) if payload else b""

    async def watch(self, over: trio.CancelScope) -> None:
        """Ping, and let go who does not answer."""
        try:
            for pause_s in ping_pauses():
                await self._socket.ping()
                await trio.sleep(pause_s)
                if trio.current_time() - self._socket.heard_at >= SILENT_S:
                    break
        except Gone:
            pass
        over.cancel()


def _throttle_s(channel: Channel) -> float:
    return DAILY_S if channel.interval is Interval.D1 else 0.0
