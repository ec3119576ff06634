"""python-binance's multiplex socket as TimeBase uses it: its exceptions end here, and so does its reconnecting.

The library takes up a lost connection again by itself, at once and five times, and says so only in passing; a feed that
was down must be told of. So a socket here has one life, and whoever opened it opens the next, when he thinks fit.

Loads aiohttp, websockets and all of python-binance, so it is imported in `stream`.
"""

import json
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count

import anyio
from binance.async_client import AsyncClient
from binance.exceptions import ReadLoopClosed
from binance.ws.constants import WSListenerState
from binance.ws.reconnecting_websocket import ReconnectingWebsocket
from binance.ws.streams import BinanceSocketManager
from binance_errors import typed_error
from binance_messages import Event, Reply, parse_message
from websockets.exceptions import InvalidHandshake, InvalidStatus, InvalidURI, WebSocketException

from timebase.sdk import Malformed, Upstream, UpstreamTimeout

STREAM_URL = "wss://stream.binance.com:9443"

# Messages that may wait for us; beyond, python-binance gives the connection up, and the gap is healed as any other.
MAX_WAITING = 10_000
CLOSE_S = 2.0


class Socket:
    """One connection for many streams. Raises: ProviderError, typed, when it is lost or makes no sense."""

    def __init__(self, socket: ReconnectingWebsocket) -> None:
        self._socket = socket
        self._ids = count(1)

    async def receive(self) -> AsyncIterator[Event | Reply]:
        """What has come, oldest first, until the connection is lost, which raises.

        All that waits is taken at once: python-binance's own way is four timers and two tasks for each message.
        """
        while True:
            try:
                message = await self._socket.recv()  # type: ignore[no-untyped-call]
            except ReadLoopClosed as exc:
                raise Upstream("Binance's connection is closed") from exc
            yield _parsed(message)
            while not self._socket._queue.empty():
                yield _parsed(self._socket._queue.get_nowait())

    async def ask(self, method: str, streams: Sequence[str] = ()) -> int:
        """SUBSCRIBE, UNSUBSCRIBE or LIST_SUBSCRIPTIONS; the reply to the id that is returned comes by `receive`."""
        id_ = next(self._ids)
        request = {"method": method, "params": list(streams), "id": id_}
        if not streams:
            del request["params"]
        connection = self._socket.ws
        if connection is None:
            raise Upstream("Binance's connection is lost")
        try:
            await connection.send(json.dumps(request))
        except (WebSocketException, OSError) as exc:
            raise Upstream(f"Binance's connection is lost: {exc}") from exc
        return id_


class Sockets:
    """Where connections come from."""

    def __init__(self, client: AsyncClient, stream_url: str, timeout_s: float) -> None:
        logging.getLogger("binance.ws").setLevel(logging.CRITICAL)  # what it says is told here, or is no news
        self._manager = BinanceSocketManager(client, max_queue_size=MAX_WAITING)
        self._manager.STREAM_URL = f"{stream_url.rstrip('/')}/"
        self._manager.ws_kwargs = {
            "open_timeout": timeout_s,
            "ping_interval": None,
        }  # Line asks for signs of life itself
        if stream_url != STREAM_URL:
            self._manager.ws_kwargs["proxy"] = None  # a proxy is for the way to Binance

    @asynccontextmanager
    async def open(self, stream: str) -> AsyncIterator[Socket]:
        """A connection that begins with one stream; others are asked for.

        Raises: Unsupported (this country), RateLimited, Upstream, UpstreamTimeout.
        """
        socket = self._manager.multiplex_socket([stream])
        self._manager._conns.clear()  # it would give the same socket again while that one is not closed
        socket.MAX_RECONNECTS = 0
        try:
            await socket.connect()
        except TimeoutError as exc:
            raise UpstreamTimeout("Binance's stream did not answer in time") from exc
        except InvalidStatus as exc:
            response = exc.response
            body = bytes(response.body or b"")[:200].decode(errors="replace")
            raise typed_error(response.status_code, 0, body, response.headers.get("Retry-After")) from exc
        except (OSError, InvalidHandshake, InvalidURI, WebSocketException, EOFError) as exc:
            raise Upstream(f"Binance's stream cannot be reached: {exc}") from exc
        try:
            yield Socket(socket)
        finally:
            with anyio.CancelScope(shield=True):
                await _close(socket)


async def _close(socket: ReconnectingWebsocket) -> None:
    """The connection first: python-binance waits up to ten seconds for a message before it leaves."""
    socket.ws_state = WSListenerState.EXITING
    with anyio.move_on_after(CLOSE_S):
        if socket.ws is not None:
            await socket.ws.close()
        await socket.close()  # type: ignore[no-untyped-call]


def _parsed(message: object) -> Event | Reply:
    if isinstance(message, dict) and message.get("e") == "error" and "type" in message:
        raise _lost(str(message["type"]), str(message.get("m", "")))
    return parse_message(message)


def _lost(kind: str, text: str) -> Upstream | Malformed:
    if kind in {"JSONDecodeError", "ValueError", "TypeError", "UnicodeDecodeError"}:
        return Malformed(f"Binance sent what is not JSON: {text[:200]}")
    if kind == "BinanceWebsocketQueueOverflow":
        return Upstream(f"more than {MAX_WAITING} messages of Binance's waited here")
    return Upstream(f"Binance's connection is lost: {text[:200] or kind}")
