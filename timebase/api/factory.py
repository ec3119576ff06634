"""The ASGI application: Quart for everything, with a shortcut before it for the questions for bars (`front.py`)."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from quart import Response, request
from quart_trio import QuartTrio
from quart_trio.wrappers import TrioRequest
from werkzeug.datastructures import Headers
from werkzeug.exceptions import HTTPException, MethodNotAllowed, RequestEntityTooLarge, RequestTimeout

from timebase.api import faults
from timebase.api.access import is_trusted
from timebase.api.dispatch import near_paths, refuse, respond
from timebase.api.exchange import Asked, Desk, Pieces, Reply
from timebase.api.front import AsgiApp, pattern, with_shortcut
from timebase.api.meters import Metrics, observe_server
from timebase.api.openapi import describe
from timebase.api.routes import ROOT, ROUTES, Route, paths
from timebase.api.services import ApiSettings, Services
from timebase.errors import RequestError
from timebase.model.lru import ByteLru

BODY_S = 30.0  # a client that needs longer for its few kilobytes gives them one at a time
PACKAGE_S = 300.0  # 16 MiB by half a megabit a second
_PACKAGES = [pattern(route) for route in ROUTES if route.packages]


def create_app(services: Services, settings: ApiSettings, render_cache: ByteLru[Any, bytes]) -> AsgiApp:
    """Registers its metrics in `services.registry`, so one registry serves one application."""
    observe_server(services, render_cache)
    desk = Desk(services, settings, render_cache, Metrics(services.registry), describe(ROUTES, services.version))
    return with_shortcut(desk, create_quart(desk))


def create_quart(desk: Desk) -> QuartTrio:
    app = QuartTrio("timebase.api", static_folder=None)
    app.request_class = _bounded(desk)
    app.config["RESPONSE_TIMEOUT"] = None  # dispatch has the deadline
    app.url_map.merge_slashes = False
    for route in ROUTES:
        for n, path in enumerate(paths(route)):
            rule = path.replace("{symbol}", "<path:symbol>").replace("{slug}", "<slug>")
            app.add_url_rule(
                rule,
                f"{route.name}{n}",
                _view(desk, route),
                methods=list(route.methods),
                provide_automatic_options=False,
            )
    app.add_url_rule(
        ROOT.path, ROOT.name, _view(desk, ROOT), methods=list(ROOT.methods), provide_automatic_options=False
    )
    app.register_error_handler(HTTPException, _refusal(desk))
    return app


def _bounded(desk: Desk) -> type[TrioRequest]:
    """Requests whose body has the room that it is due: bodies are received before anybody looks at them."""

    class Bounded(TrioRequest):
        def __init__(
            self,
            method: str,
            scheme: str,
            path: str,
            query_string: bytes,
            headers: Headers,
            *given: Any,  # noqa: ANN401 - as Quart has it
            **named: Any,  # noqa: ANN401
        ) -> None:
            room = _room(desk, Asked(method, path, query_string, _lower(headers)))
            named |= {"max_content_length": room, "body_timeout": _patience_s(desk, room)}
            super().__init__(method, scheme, path, query_string, headers, *given, **named)

    return Bounded


def _room(desk: Desk, asked: Asked) -> int:
    """Bytes that a body may have. An archive is no small thing: who may not send one is given no room for it."""
    takes_packages = any(each.fullmatch(asked.path) for each in _PACKAGES)
    is_due = asked.method == "POST" and takes_packages and is_trusted(desk, asked)
    return desk.settings.max_package_bytes if is_due else desk.settings.max_body_bytes


def _patience_s(desk: Desk, room: int) -> float:
    return BODY_S if room <= desk.settings.max_body_bytes else PACKAGE_S


def _view(desk: Desk, route: Route) -> Callable[..., Awaitable[Response]]:
    async def view(**in_path: str) -> Response:
        body = b"" if route.method == "GET" else await _read_body()
        return _to_quart(await respond(desk, route, _asked(in_path, body)))

    return view


async def _read_body() -> bytes:
    body = await request.get_data(cache=False)
    return body if isinstance(body, bytes) else body.encode()


def _refusal(desk: Desk) -> Callable[[HTTPException], Awaitable[Response]]:
    async def on_http_error(error: HTTPException) -> Response:
        return _to_quart(await refuse(desk, _asked({}), _as_ours(error, desk)))

    return on_http_error


def _asked(in_path: Mapping[str, str], body: bytes = b"") -> Asked:
    return Asked(request.method, request.path, request.query_string, _lower(request.headers), in_path, body)


def _lower(headers: Headers) -> Mapping[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _as_ours(error: HTTPException, desk: Desk) -> RequestError:
    match error:
        case MethodNotAllowed():
            return faults.MethodNotAllowed(request.method, sorted(error.valid_methods or ()))
        case RequestEntityTooLarge():
            return faults.BodyTooLarge(f"a body may have {_room(desk, _asked({})):,} bytes here")
        case RequestTimeout():
            patience_s = _patience_s(desk, _room(desk, _asked({})))
            return faults.BodyTooSlow(f"the body did not come within {patience_s:g} s")
        case _ if error.code == 404:
            return faults.UnknownPath(request.path, near_paths(request.path, [paths(route)[0] for route in ROUTES]))
        case _:
            return RequestError(error.description or error.name)


def _to_quart(reply: Reply) -> Response:
    body: Any = _chunks(reply.body) if isinstance(reply.body, Pieces) else reply.body
    response = Response(body, status=reply.status)
    response.headers.clear()
    for name, value in reply.all_headers():
        response.headers.add(name, value)
    return response


async def _chunks(body: Pieces) -> AsyncIterator[bytes]:
    async for piece in body.make():
        yield bytes(piece)
