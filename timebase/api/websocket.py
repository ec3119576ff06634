"""A connection that has become a WebSocket: the opening handshake, messages in, frames out.

hypercorn recognises the request and then stays out of it. Its own way costs 38 µs of CPU for a frame of 150 bytes (2
here), agrees to compress whenever a browser offers it (220 KB of zlib's windows for each client, and 3.5 µs for each
frame, anew for each of them; all measured), and does not show pongs.
"""

import base64
import hashlib
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import trio
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN, Protocol, Side

from timebase.api.connection import Connection
from timebase.streaming.event import Encoder, Event

_RFC6455 = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_DATA = frozenset({Opcode.TEXT, Opcode.BINARY, Opcode.CONT})
_UNREAD = 16  # messages of one client; then its socket is not read until it is their turn
_RECENT = 4  # frames that are shared: as many groups of clients as usually are at the same place
_CLOSING_S = 1.0  # for the other side to close, once we said so


class Gone(Exception):
    """The client has gone."""


class WebSocket:
    """`heard_at`: when anything came last, pongs included. Raises: Gone from everything awaited."""

    def __init__(self, connection: Connection, max_message_bytes: int) -> None:
        self._connection = connection
        self._protocol = Protocol(Side.SERVER, max_size=max_message_bytes)
        self._messages_in, self._messages = trio.open_memory_channel[bytes](_UNREAD)
        self._parts = bytearray()
        self._turn = trio.Lock()
        self._rest = b""  # of a frame that did not go out at once
        self._ended = trio.Event()
        self.heard_at = trio.current_time()

    async def accept(self, headers: Mapping[str, str]) -> None:
        """Answer the opening handshake, which hypercorn has found to be one. No extension is agreed to."""
        key = headers["sec-websocket-key"]
        digest = hashlib.sha1((key + _RFC6455).encode("latin-1"), usedforsecurity=False).digest()
        accepted = base64.b64encode(digest).decode()
        self._connection.take(self._receive)
        await self._write(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accepted}\r\nServer: timebase\r\n\r\n".encode("latin-1")
        )

    async def receive(self) -> bytes:
        """The next message, text or binary."""
        try:
            return await self._messages.receive()
        except trio.EndOfChannel:
            raise Gone from None

    async def send(self, frame: bytes) -> None:
        """One frame, as `text_frame` or `binary_frame` made it."""
        if self._protocol.state is not OPEN:
            raise Gone
        await self._write(frame)

    @property
    def is_free(self) -> bool:
        """Whether `send_now` may be called: nothing else is being sent."""
        return self._protocol.state is OPEN and not self._rest and not self._turn.locked()

    def send_now(self, frame: bytes) -> bool:
        """What the kernel takes of a frame at once, and whether that was all; the rest goes with `finish`.

        Raises: Gone.
        """
        try:
            self._rest = frame[self._connection.write_now(frame) :]
        except trio.BrokenResourceError:
            raise Gone from None
        return not self._rest

    async def finish(self) -> None:
        """Send the rest of what `send_now` began with."""
        await self._write(b"")

    async def ping(self) -> None:
        if self._protocol.state is not OPEN:
            raise Gone
        self._protocol.send_ping(b"")
        await self._flush()

    async def close(self, code: int, reason: str) -> None:
        """Say so, give the other side a moment to agree, and close."""
        with trio.move_on_after(_CLOSING_S):
            if self._protocol.state is OPEN:
                self._protocol.send_close(code, reason[:120])
                await self._flush()
            await self._ended.wait()
        self.abort()

    def abort(self) -> None:
        self._connection.abort()

    async def _receive(self, data: bytes) -> None:
        """What hypercorn's reader hands over."""
        self.heard_at = trio.current_time()
        if data:
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
        for frame in self._protocol.events_received():
            assert isinstance(frame, Frame)
            if frame.opcode in _DATA:
                await self._take(frame)
        try:
            await self._flush()
        except Gone:
            data = b""
        if not data or self._protocol.close_rcvd or self._protocol.parser_exc:
            self._messages_in.close()
            self._ended.set()

    async def _take(self, frame: Frame) -> None:
        """A message may come in pieces; their sum is bounded by the protocol, the number of empty ones by nothing."""
        self._parts += frame.data
        if frame.fin:
            message = bytes(self._parts)
            self._parts.clear()
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):  # nobody reads any more
                await self._messages_in.send(message)

    async def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                await self._write(data)

    async def _write(self, data: bytes) -> None:
        if self._turn.locked():
            await self._turn.acquire()
        else:
            self._turn.acquire_nowait()  # without a turn of trio's loop
        try:
            data, self._rest = self._rest + data, b""
            if data:
                await self._connection.write(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise Gone from None
        finally:
            self._turn.release()


def text_frame(payload: bytes) -> bytes:
    return Frame(Opcode.TEXT, payload).serialize(mask=False)


def binary_frame(payload: bytes) -> bytes:
    return Frame(Opcode.BINARY, payload).serialize(mask=False)


class Frames:
    """The frames made last. Whoever follows the same channels and keeps up is sent the very same bytes."""

    def __init__(self, make: Callable[[bytes], bytes], encoder: Encoder) -> None:
        self._make = make
        self._encoder = encoder
        self._recent: deque[tuple[list[Event], bytes]] = deque(maxlen=_RECENT)

    def of(self, events: list[Event]) -> bytes:
        for known, frame in self._recent:
            if known == events:  # the same objects: events are compared by identity
                return frame
        frame = self._make(self._encoder.frame(events))
        self._recent.append((events, frame))
        return frame


def connection_of(scope: Mapping[str, Any]) -> Connection:
    """The connection on which an ASGI scope came; see server.py."""
    connection: Connection = scope["state"]["connection"]
    return connection
