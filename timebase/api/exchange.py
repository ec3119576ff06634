"""A request and a reply without a framework: what handlers take and give. Quart and the fast front adapt to it."""

from collections.abc import AsyncGenerator, Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import orjson
import trio

from timebase.api.meters import Metrics
from timebase.api.services import ApiSettings, Services
from timebase.api.websocket import Frames, text_frame
from timebase.model.lru import ByteLru
from timebase.streaming.encode import JSON as JSON_EVENTS

JSON = "application/json"
PROBLEM = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Asked:
    """One request. Header names are lower case; `in_path` holds what the path's `{names}` matched, unquoted."""

    method: str
    path: str
    query: bytes
    headers: Mapping[str, str]
    in_path: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Pieces:
    """A body too big to be held: rendered piece by piece while it is sent. `length` where it is known before."""

    make: Callable[[], AsyncGenerator[bytes | memoryview]]
    length: int | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """`is_text` bodies are worth compressing."""

    status: int
    body: bytes | Pieces = b""
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()
    is_text: bool = True

    def with_headers(self, *more: tuple[str, str]) -> "Reply":
        return replace(self, headers=(*self.headers, *more))

    def all_headers(self) -> list[tuple[str, str]]:
        """With Content-Type and, where it is known, Content-Length. A 304 has neither."""
        if self.status == 304:
            return list(self.headers)
        length = len(self.body) if isinstance(self.body, bytes) else self.body.length
        sizes = [] if length is None else [("content-length", str(length))]
        return [("content-type", self.content_type), *sizes, *self.headers]


@dataclass(frozen=True, slots=True)
class Desk:
    """What every handler is given beside the request."""

    services: Services
    settings: ApiSettings
    render_cache: ByteLru[Hashable, bytes]
    metrics: Metrics
    openapi: bytes = b""
    frames: Frames = field(default_factory=lambda: Frames(text_frame, JSON_EVENTS))  # of all who follow the stream
    # Rendering for people with much time must not take all the cores from those with little.
    render_threads: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(2))


def _plain(value: object) -> object:
    """Mappings that orjson does not know itself (read-only views, for one)."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, frozenset | set):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


dumps: Callable[[Any], bytes] = partial(orjson.dumps, default=_plain)


def json_reply(content: object, status: int = 200) -> Reply:
    return Reply(status, dumps(content))
