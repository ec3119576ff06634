"""Everything that can be followed, as one table: which WebSocket is served by whom, and who may open it."""

import re
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl, urlencode

from timebase.api.access import check_host, check_page, check_token
from timebase.api.alpaca import serve_alpaca
from timebase.api.exchange import Asked, Desk
from timebase.api.faults import BadHandshake, UnknownPath, problem
from timebase.api.routes import PREFIXES
from timebase.api.stream import serve_stream
from timebase.api.websocket import Gone, WebSocket, connection_of

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

MAX_MESSAGE_BYTES = 64 * 1024  # from a client: a thousand channels have room


@dataclass(frozen=True, slots=True)
class SocketRoute:
    """`is_open`: asks for the token itself, in its own protocol. `prefixes`: where it is found."""

    path: str
    serve: Callable[[Desk, Asked, WebSocket], Awaitable[None]]
    is_open: bool = False
    prefixes: Sequence[str] = PREFIXES

    def match(self, path: str) -> Mapping[str, str] | None:
        pattern = self.path.replace("{symbol}", "(?P<symbol>.+)").replace("{feed}", "(?P<feed>.+)")
        found = re.fullmatch(f"(?:{'|'.join(self.prefixes)}){pattern}", path, re.DOTALL)
        return None if found is None else found.groupdict()


SOCKETS = (
    SocketRoute("/stream", serve_stream),
    SocketRoute("/stream/{symbol}", serve_stream),
    SocketRoute("/v2/{feed}", serve_alpaca, is_open=True, prefixes=("",)),
    SocketRoute("/v1beta3/crypto/{feed}", serve_alpaca, is_open=True, prefixes=("",)),
)


async def serve_socket(desk: Desk, scope: Scope, receive: Receive, send: Send) -> None:
    await receive()  # websocket.connect
    try:
        asked = _asked(scope)
        route, in_path = _find(asked.path)
        asked = _with_header(asked)
        check_host(desk, asked)
        check_page(desk, asked)
        if not route.is_open:
            check_token(desk, asked)
        if scope["http_version"] != "1.1":
            raise BadHandshake("a WebSocket is opened with HTTP/1.1 here")
    except Exception as exc:  # noqa: BLE001 - the last resort: `problem` logs what is a bug
        await _refuse(exc, send)
        return
    socket = WebSocket(connection_of(scope), MAX_MESSAGE_BYTES)
    try:
        await socket.accept(asked.headers)
        await route.serve(desk, replace(asked, in_path=in_path), socket)
    except Gone:
        pass
    finally:
        socket.abort()


def _find(path: str) -> tuple[SocketRoute, Mapping[str, str]]:
    for route in SOCKETS:
        in_path = route.match(path)
        if in_path is not None:
            return route, in_path
    raise UnknownPath(path, [f"{route.prefixes[0]}{route.path}" for route in SOCKETS])


def _asked(scope: Scope) -> Asked:
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    return Asked("GET", scope["path"], scope["query_string"], headers)


def _with_header(asked: Asked) -> Asked:
    """`?token=` as the header that browsers cannot send; it goes no further than here."""
    pairs = parse_qsl(asked.query.decode("latin-1"), keep_blank_values=True, encoding="utf-8")
    tokens = [value for name, value in pairs if name == "token"]
    if not tokens:
        return asked
    query = urlencode([(name, value) for name, value in pairs if name != "token"]).encode()
    return replace(asked, query=query, headers={"authorization": f"Bearer {tokens[0]}", **asked.headers})


async def _refuse(error: Exception, send: Send) -> None:
    reply = problem(error, secrets.token_hex(8))
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in reply.all_headers()]
    await send({"type": "websocket.http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": reply.body})
