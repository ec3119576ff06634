"""Errors -> application/problem+json (RFC 9457). One table: class -> status and title."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from math import ceil
from typing import ClassVar

import trio

from timebase.api.exchange import PROBLEM, Reply, dumps
from timebase.errors import (
    AllProvidersFailed,
    BadBody,
    BadPackage,
    BadParameter,
    ConfigError,
    FixedProvider,
    NotSupported,
    ProviderError,
    ProviderExists,
    RequestError,
    StoreUnavailable,
    TimeBaseError,
    UnknownProvider,
    UnknownSymbol,
    sole,
)
from timebase.model.receipt import Attempt

log = logging.getLogger(__name__)


class UnknownPath(RequestError):
    code = "unknown_path"

    def __init__(self, path: str, near: Sequence[str]) -> None:
        self.near = tuple(near)
        super().__init__(f"there is nothing at {path[:200]}; the API is described at /docs")


class MethodNotAllowed(RequestError):
    code = "method_not_allowed"

    def __init__(self, method: str, allowed: Sequence[str]) -> None:
        self.allowed = tuple(allowed)
        super().__init__(f"{method} is not possible here; allowed: {', '.join(self.allowed)}")


class Unauthorized(RequestError):
    code = "unauthorized"


class CrossOrigin(RequestError):
    code = "cross_origin"


class WrongHost(RequestError):
    code = "wrong_host"

    def __init__(self, host: str) -> None:
        super().__init__(
            f"the request is for {host[:100]!r}, and a server without a token answers to its own address and to names "
            "of this machine's loopback only: a web page can give itself any other name"
        )


class BadHandshake(RequestError):
    code = "bad_handshake"


class BodyTooLarge(RequestError):
    code = "body_too_large"


class BodyTooSlow(RequestError):
    code = "body_too_slow"


class UnsupportedMedia(RequestError):
    code = "unsupported_media_type"


class DeadlineExceeded(TimeBaseError):
    """Not answered within the request's time; carries what had been tried by then."""

    code: ClassVar[str] = "deadline_exceeded"

    def __init__(self, seconds: float, attempts: Sequence[Attempt]) -> None:
        self.attempts = tuple(attempts)
        super().__init__(f"not answered within {seconds:g} s")


@dataclass(frozen=True, slots=True)
class Fault:
    status: HTTPStatus
    title: str
    advice: tuple[str, ...] = ()


# The most special class comes first: the first one that fits is taken.
FAULTS: dict[type[Exception], Fault] = {
    BadParameter: Fault(HTTPStatus.UNPROCESSABLE_ENTITY, "A parameter's value cannot be used"),
    UnknownSymbol: Fault(
        HTTPStatus.NOT_FOUND,
        "No provider knows this symbol",
        ("GET /api/v1/symbols?q=… searches the symbols known here", "GET /api/v1/providers shows who could know more"),
    ),
    UnknownProvider: Fault(HTTPStatus.NOT_FOUND, "There is no such provider", ("GET /api/v1/providers lists them",)),
    NotSupported: Fault(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "No provider can answer this kind of question",
        ("GET /api/v1/explain/{symbol} says why each of them cannot",),
    ),
    UnknownPath: Fault(HTTPStatus.NOT_FOUND, "There is nothing at this path"),
    MethodNotAllowed: Fault(HTTPStatus.METHOD_NOT_ALLOWED, "This method is not possible here"),
    Unauthorized: Fault(
        HTTPStatus.UNAUTHORIZED,
        "A token is needed",
        ("send the header `Authorization: Bearer <the server's TIMEBASE_TOKEN>`",),
    ),
    CrossOrigin: Fault(HTTPStatus.FORBIDDEN, "A page of another site may not change anything here"),
    WrongHost: Fault(
        HTTPStatus.MISDIRECTED_REQUEST,
        "This server does not go by that name",
        ("ask http://127.0.0.1 or http://localhost", "set TIMEBASE_TOKEN to be asked by any name"),
    ),
    BadHandshake: Fault(HTTPStatus.BAD_REQUEST, "The WebSocket cannot be opened"),
    BadBody: Fault(HTTPStatus.BAD_REQUEST, "The body cannot be read"),
    BodyTooLarge: Fault(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The body is too large"),
    BodyTooSlow: Fault(HTTPStatus.REQUEST_TIMEOUT, "The body did not come in time"),
    UnsupportedMedia: Fault(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "The body is of another kind than is asked for here"),
    ProviderExists: Fault(
        HTTPStatus.CONFLICT,
        "There is such a provider already",
        ("POST /api/v1/providers/{slug}/update puts another version in its place",),
    ),
    FixedProvider: Fault(
        HTTPStatus.CONFLICT,
        "This provider cannot be updated or removed",
        ("POST /api/v1/providers/{slug}/disable stops it",),
    ),
    BadPackage: Fault(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "This cannot be installed",
        ("`timebase plugin new` writes a folder that can be; docs/plugins.md says how to pack it",),
    ),
    RequestError: Fault(HTTPStatus.BAD_REQUEST, "The request cannot be answered"),
    ConfigError: Fault(HTTPStatus.CONFLICT, "The configuration forbids it", ("`timebase check` shows every fault",)),
    AllProvidersFailed: Fault(
        HTTPStatus.BAD_GATEWAY,
        "No provider could answer",
        (
            "GET /api/v1/explain/{symbol} says who would be asked and why",
            "GET /api/v1/providers shows each provider's state and last error",
            "ask again: nothing failed is remembered as answered",
        ),
    ),
    ProviderError: Fault(
        HTTPStatus.BAD_GATEWAY, "The provider failed", ("GET /api/v1/providers shows its state and last error",)
    ),
    StoreUnavailable: Fault(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "The database is away",
        ("ask again in a few seconds", "GET /health says when it is back"),
    ),
    DeadlineExceeded: Fault(
        HTTPStatus.GATEWAY_TIMEOUT,
        "Not answered in time",
        ("ask again: what was fetched meanwhile is kept", "ask for a shorter range"),
    ),
    trio.TooSlowError: Fault(HTTPStatus.GATEWAY_TIMEOUT, "Not answered in time"),
    TimeBaseError: Fault(HTTPStatus.INTERNAL_SERVER_ERROR, "The server failed"),
    Exception: Fault(
        HTTPStatus.INTERNAL_SERVER_ERROR, "The server failed", ("the server's log tells more under this request_id",)
    ),
}
_RETRY_AFTER_S = 5.0  # when nobody knows better


def problem(error: Exception, request_id: str) -> Reply:
    """The reply that `error` deserves. What is not ours to show is logged, and hidden."""
    cause = sole(error)
    fault = next(fault for kind, fault in FAULTS.items() if isinstance(cause, kind))
    is_known = isinstance(cause, TimeBaseError | trio.TooSlowError)
    if fault.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("request %s failed", request_id, exc_info=error)
    code = getattr(cause, "code", "internal") if is_known else "internal"
    attempts = getattr(cause, "attempts", ())
    content: dict[str, object] = {
        "type": f"/docs#{code}",
        "title": fault.title,
        "status": int(fault.status),
        "detail": str(cause) if is_known else "an unexpected error, which is a bug of the server",
        "code": code,
        "suggestions": [*_own_suggestions(cause), *_from_attempts(attempts), *_advice(cause, fault)],
        "attempts": attempts,
        "request_id": request_id,
    }
    if isinstance(cause, BadParameter):
        content |= {"parameter": cause.parameter, "allowed": cause.allowed}
    if isinstance(cause, BadPackage):
        content |= {"faults": cause.faults}
    return Reply(int(fault.status), dumps(content), PROBLEM, tuple(_headers(cause, fault)))


def _own_suggestions(error: BaseException) -> Sequence[str]:
    match error:
        case UnknownSymbol() | UnknownPath():
            return error.near
        case BadParameter() | MethodNotAllowed():
            return error.allowed
        case UnknownProvider():
            return error.known
    return ()


def _advice(error: BaseException, fault: Fault) -> Sequence[str]:
    symbol, slug = getattr(error, "symbol", "{symbol}"), getattr(error, "slug", "{slug}")
    return [each.replace("{symbol}", symbol).replace("{slug}", slug) for each in fault.advice]


def _from_attempts(attempts: Sequence[Attempt]) -> Sequence[str]:
    """What to do about each kind of failure that was met."""
    met = {(each.provider, each.outcome) for each in attempts}
    cures = {
        "auth": "{}: check its secret, then POST /api/v1/providers/{}/enable",
        "rate_limited": "{}: its rate limit is used up; wait, or name another provider",
        "unavailable": "{}: GET /api/v1/providers/{} says why it is down",
    }
    return [cures[outcome].format(slug, slug) for slug, outcome in sorted(met) if outcome in cures]


def _headers(error: BaseException, fault: Fault) -> Sequence[tuple[str, str]]:
    if isinstance(error, MethodNotAllowed):
        return [("allow", ", ".join(error.allowed))]
    if isinstance(error, Unauthorized):
        return [("www-authenticate", 'Bearer realm="timebase"')]
    retry_after_s = getattr(error, "retry_after_s", None)
    if retry_after_s is None and fault.status == HTTPStatus.SERVICE_UNAVAILABLE:
        retry_after_s = _RETRY_AFTER_S
    return [] if retry_after_s is None else [("retry-after", str(max(1, ceil(retry_after_s))))]
