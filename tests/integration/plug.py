"""A plug between the store and its database that a test can pull, push in again, or jam."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import parse_qs, urlsplit

import trio
import trio.testing


class Plug:
    """Made by `open_plug`. `url` is the database's, by way of the plug."""

    def __init__(self, url: str, nursery: trio.Nursery) -> None:
        self._given = urlsplit(url)
        self._nursery = nursery
        self._port = 0
        self._server: trio.CancelScope | None = None
        self._flowing = trio.Event()
        self._flowing.set()

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self._port}{self._given.path}"

    async def push(self) -> None:
        """Let connections through."""
        self._server = await self._nursery.start(self._serve)

    async def pull(self) -> None:
        """Break every connection and refuse new ones."""
        assert self._server is not None
        self._server.cancel()
        await trio.testing.wait_all_tasks_blocked()

    def jam(self) -> None:
        """Connections stay, and nothing moves in them."""
        self._flowing = trio.Event()

    def clear(self) -> None:
        self._flowing.set()

    async def _serve(self, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as connections:
                listeners = await trio.open_tcp_listeners(self._port, host="127.0.0.1")
                self._port = listeners[0].socket.getsockname()[1]
                task_status.started(scope)
                await trio.serve_listeners(self._connect, listeners, handler_nursery=connections)

    async def _connect(self, client: trio.SocketStream) -> None:
        async with client, await self._dial() as database, trio.open_nursery() as both:
            both.start_soon(self._pump, client, database, both)
            both.start_soon(self._pump, database, client, both)

    async def _dial(self) -> trio.SocketStream:
        folder = parse_qs(self._given.query).get("host")
        if folder:
            return await trio.open_unix_socket(f"{folder[0]}/.s.PGSQL.5432")
        return await trio.open_tcp_stream(self._given.hostname or "127.0.0.1", self._given.port or 5432)

    async def _pump(self, source: trio.SocketStream, sink: trio.SocketStream, both: trio.Nursery) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for data in source:
                await self._flowing.wait()
                await sink.send_all(data)
        both.cancel_scope.cancel()


@asynccontextmanager
async def open_plug(url: str) -> AsyncIterator[Plug]:
    async with trio.open_nursery() as nursery:
        plug = Plug(url, nursery)
        await plug.push()
        yield plug
        nursery.cancel_scope.cancel()
