"""A WebSocket client for tests, over a real socket."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import trio
from websockets.client import ClientProtocol
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import CLOSED, OPEN
from websockets.uri import parse_uri


class Client:
    """A WebSocket client on trio: the protocol is the library's, the bytes go as they come."""

    def __init__(self, stream: trio.SocketStream, url: str, headers: dict[str, str]) -> None:
        self.stream = stream
        self.protocol = ClientProtocol(parse_uri(url))
        self.frames: list[Frame] = []
        self._headers = headers

    async def open(self) -> None:
        request = self.protocol.connect()
        for name, value in self._headers.items():
            request.headers[name] = value
        self.protocol.send_request(request)
        await self.flush()
        while self.protocol.state is not OPEN and not self.protocol.handshake_exc:
            await self._pump()
        if self.protocol.handshake_exc:
            raise self.protocol.handshake_exc

    async def say(self, what: object) -> None:
        self.protocol.send_text(what.encode() if isinstance(what, str) else json.dumps(what).encode())
        await self.flush()

    async def flush(self) -> None:
        for data in self.protocol.data_to_send():
            if data:
                await self.stream.send_all(data)

    async def frame(self) -> Frame:
        """The next one with data. Raises: EndOfChannel when there is none."""
        with trio.fail_after(20):
            while True:
                while self.frames:
                    frame = self.frames.pop(0)
                    if frame.opcode in {Opcode.TEXT, Opcode.BINARY}:
                        return frame
                if self.protocol.state is CLOSED:
                    raise trio.EndOfChannel
                await self._pump()

    async def events(self) -> list[dict[str, Any]]:
        """Those of the next frame."""
        return json.loads((await self.frame()).data)

    async def until(self, is_it: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
        """All events up to the frame with that one."""
        seen: list[dict[str, Any]] = []
        while not any(is_it(event) for event in seen):
            seen += await self.events()
        return seen

    async def closed(self) -> Close | None:
        """How the server closed."""
        with trio.fail_after(20):
            while self.protocol.state is not CLOSED:
                await self._pump()
        return self.protocol.close_rcvd

    async def _pump(self) -> None:
        try:
            data = await self.stream.receive_some()
        except trio.BrokenResourceError:
            data = b""
        if data:
            self.protocol.receive_data(data)
        else:
            self.protocol.receive_eof()
        self.frames += [e for e in self.protocol.events_received() if isinstance(e, Frame)]
        with suppress(trio.BrokenResourceError):
            await self.flush()


@asynccontextmanager
async def connected(port: int, path: str = "/api/v1/stream", **headers: str) -> AsyncIterator[Client]:
    async with await trio.open_tcp_stream("127.0.0.1", port) as tcp:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        client = Client(tcp, f"ws://127.0.0.1:{port}{path}", named)
        with trio.fail_after(20):
            await client.open()
        yield client


def is_type(*types: str) -> Callable[[dict[str, Any]], bool]:
    return lambda event: event["type"] in types
