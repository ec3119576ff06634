"""request -> [dispatch] -> reply: what happens to every request, whoever brought it.

Order: name it, check who asks, answer within the deadline, turn errors into problems, compress, count.
"""

import logging
import re
import secrets
import time
from collections.abc import Sequence
from difflib import get_close_matches

import trio

from timebase.api.access import check_host, check_origin, check_token
from timebase.api.compress import compressed
from timebase.api.exchange import Asked, Desk, Reply
from timebase.api.faults import DeadlineExceeded, Unauthorized, WrongHost, problem
from timebase.api.routes import Route
from timebase.logs import request_id
from timebase.model.receipt import Attempt

log = logging.getLogger(__name__)

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_SERVER = ("server", "timebase")


async def respond(desk: Desk, route: Route, asked: Asked) -> Reply:
    """Raises: nothing but Cancelled."""
    began = time.perf_counter()
    name = _name(asked)
    try:
        check_host(desk, asked)
        if not route.is_open:
            check_token(desk, asked)
        check_origin(asked)
        reply = await _handle(desk, route, asked)
    except Exception as exc:  # noqa: BLE001 - the last resort: `problem` logs what is a bug
        reply = problem(exc, name)
    return await _finish(desk, route.path, asked, reply, name, began)


async def refuse(desk: Desk, asked: Asked, error: Exception) -> Reply:
    """For requests that no route takes. They are asked for the token too: paths are nobody's business."""
    began = time.perf_counter()
    name = _name(asked)
    try:
        check_host(desk, asked)
        check_token(desk, asked)
    except (Unauthorized, WrongHost) as exc:
        error = exc
    return await _finish(desk, "none", asked, problem(error, name), name, began)


async def _handle(desk: Desk, route: Route, asked: Asked) -> Reply:
    attempts: list[Attempt] = []
    deadline_s = desk.settings.backfill_s if route.is_long else desk.settings.ask_s
    with trio.move_on_after(deadline_s) as scope:
        return await route.handler(desk, asked, attempts)
    assert scope.cancelled_caught
    raise DeadlineExceeded(deadline_s, attempts)


async def _finish(desk: Desk, path: str, asked: Asked, reply: Reply, name: str, began: float) -> Reply:
    packed = await compressed(reply, asked.headers.get("accept-encoding", ""))
    desk.metrics.count(path, asked.method, reply.status, began)
    if log.isEnabledFor(logging.DEBUG) or reply.status >= 500:
        level = logging.DEBUG if reply.status < 500 else logging.WARNING
        ms = (time.perf_counter() - began) * 1000
        log.log(level, "%s %s -> %d in %.1f ms", asked.method, asked.path, reply.status, ms)
    return packed.with_headers(("x-request-id", name), _SERVER)


def _name(asked: Asked) -> str:
    """The client's own name for the request if it is a decent one; every log line on its way carries it."""
    given = asked.headers.get("x-request-id", "")
    name = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
    request_id.set(name)
    return name


def near_paths(path: str, known: Sequence[str]) -> Sequence[str]:
    """Those that are spelled alike, by their fixed beginnings."""
    heads = {each.partition("{")[0]: each for each in known}
    return [heads[head] for head in get_close_matches(path, heads, n=3, cutoff=0.5)]
