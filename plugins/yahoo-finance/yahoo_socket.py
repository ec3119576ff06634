"""yfinance's WebSocket as TimeBase uses it: its exceptions end here, and so does its reconnecting.

Of the library's client are used the connection, the requests, which it repeats every 15 s, and the decoding. Its
`listen` is not: it makes a lost connection anew by itself without a word, without asking for its symbols again, and
when the other side has closed in order it turns round and round without giving the event loop a turn.

Imported in `stream`; yfinance itself has been loaded in `setup`.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException
from yahoo_errors import TOO_MANY, retry_after_s
from yahoo_pricing import Pricing, parse_pricing
from yfinance.live import AsyncWebSocket

from timebase.sdk import Malformed, RateLimited, Upstream, UpstreamTimeout

CLOSE_S = 2.0


class _Client(AsyncWebSocket):
    """The library's, with time-outs of ours; signs of life are asked for by `Quoting`."""

    def __init__(self, url: str, timeout_s: float) -> None:
        super().__init__(**({"url": url} if url else {}), verbose=False)
        # A proxy is for the way to Yahoo.
        self._more: dict[str, Any] = {"proxy": None} if url else {}
        self._timeout_s = timeout_s

    async def _connect(self) -> None:
        if self._ws is None:
            self._ws = await connect(  # type: ignore[assignment]
                self.url, open_timeout=self._timeout_s, close_timeout=CLOSE_S, ping_interval=None, **self._more
            )

    @property
    def connection(self) -> ClientConnection:
        assert self._ws is not None
        return self._ws

    async def close(self) -> None:
        repeating = self._heartbeat_task
        await super().close()  # type: ignore[no-untyped-call]
        if repeating is not None:
            await asyncio.gather(repeating, return_exceptions=True)  # a lost connection has failed it too


class Socket:
    """One connection for many symbols. Raises: ProviderError, typed, when it is lost or makes no sense."""

    def __init__(self, client: _Client) -> None:
        self._client = client

    async def receive(self) -> AsyncIterator[Pricing]:
        """What has come, oldest first, until the connection is lost, which raises."""
        while True:
            try:
                text = await self._client.connection.recv()
            except WebSocketException as exc:
                raise _lost(exc) from exc
            pricing = self._parsed(text)
            if pricing is not None:
                yield pricing

    async def subscribe(self, natives: Sequence[str]) -> None:
        """Yahoo does not answer."""
        try:
            await self._client.subscribe(list(natives))
        except (WebSocketException, OSError) as exc:
            raise _lost(exc) from exc

    async def unsubscribe(self, natives: Sequence[str]) -> None:
        try:
            await self._client.unsubscribe(list(natives))
        except (WebSocketException, OSError) as exc:
            raise _lost(exc) from exc

    async def ping(self) -> None:
        """Returns with the other side's pong; how long to wait is the caller's word."""
        try:
            await (await self._client.connection.ping())
        except (WebSocketException, OSError) as exc:
            raise _lost(exc) from exc

    def _parsed(self, text: str | bytes) -> Pricing | None:
        """None: a message of another type than prices.

        Raw: {"type": "pricing", "message": base64 of a PricingData}
        """
        try:
            message = json.loads(text)
            if message.get("type", "pricing") != "pricing":
                return None
            fields = self._client._decode_message(message["message"])
        except (ValueError, KeyError, TypeError, AttributeError, DecodeError) as exc:
            raise Malformed(f"Yahoo sent what is no message of its stream: {text[:200]!r}") from exc
        return parse_pricing(fields)


@asynccontextmanager
async def open_socket(url: str, timeout_s: float) -> AsyncIterator[Socket]:
    """A connection to Yahoo, or to `url`, that has asked for nothing yet.

    Raises: RateLimited, Upstream, UpstreamTimeout.
    """
    client = _Client(url, timeout_s)
    try:
        await client._connect()
    except TimeoutError as exc:
        raise UpstreamTimeout(f"Yahoo's stream did not answer within {timeout_s:g} s") from exc
    except InvalidStatus as exc:
        raise _refused(exc) from exc
    except (OSError, WebSocketException, EOFError) as exc:
        raise Upstream(f"Yahoo's stream cannot be reached: {exc}") from exc
    try:
        yield Socket(client)
    finally:
        with anyio.CancelScope(shield=True), anyio.move_on_after(2 * CLOSE_S):
            await client.close()


def _refused(exc: InvalidStatus) -> RateLimited | Upstream:
    status, headers = exc.response.status_code, exc.response.headers
    if status in TOO_MANY:
        after_s = retry_after_s({name.lower(): value for name, value in headers.raw_items()})
        return RateLimited(f"Yahoo limits its stream (HTTP {status})", retry_after_s=after_s)
    return Upstream(f"Yahoo refuses its stream (HTTP {status})")


def _lost(exc: Exception) -> Upstream:
    return Upstream(f"Yahoo's connection is lost: {exc}")
