"""The envelope of every message, its types, and fields read with suspicion: the peer may be anybody's code."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import isfinite

from timebase.errors import Malformed, ProviderError, RateLimited, provider_error
from timebase.wire.codec import pack, unpack

VERSION = 1
BATCH_ROWS = 65_536
"""Rows of the largest `bars` message, and of all feeds together in the largest `trades`, `quotes` or `stream_bars`."""

NO_ID = 0  # hello of the plugin, log, shutdown: nobody answers them
_TEXT_CHARS = 2_000  # of a message for people; a vendor's HTML page is no error message


class Type(StrEnum):
    HELLO = "hello"
    READY = "ready"
    HISTORY = "history"
    BARS = "bars"
    ACTIONS = "actions"
    END = "end"
    ERROR = "error"
    CREDIT = "credit"
    CANCEL = "cancel"
    SYMBOLS = "symbols"
    PING = "ping"
    PONG = "pong"
    SPEND = "spend"
    GRANTED = "granted"
    LOG = "log"
    SHUTDOWN = "shutdown"
    SUBSCRIBE = "subscribe"
    UNSUBSCRIBE = "unsubscribe"
    TRADES = "trades"
    QUOTES = "quotes"
    STREAM_BARS = "stream_bars"
    FEED = "feed"
    PULSE = "pulse"


@dataclass(frozen=True, slots=True)
class Message:
    """Raises: every reader raises Malformed when the field is missing or of another kind."""

    type: str
    id: int
    fields: Mapping[str, object] = field(default_factory=dict)

    def text(self, name: str, default: str | None = None) -> str:
        return text(self.fields, name, default)

    def integer(self, name: str, default: int | None = None) -> int:
        value = self.fields.get(name, default)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        raise _not_a("whole number", name, value)

    def binary(self, name: str) -> bytes:
        value = self.fields.get(name)
        if isinstance(value, bytes):
            return value
        raise _not_a("binary", name, value)

    def mapping(self, name: str) -> dict[str, object]:
        value = self.fields.get(name, {})
        if isinstance(value, dict):
            return value
        raise _not_a("map", name, value)

    def texts(self, name: str) -> tuple[str, ...]:
        """An array of strings; missing is empty."""
        found = self._array(name)
        if all(isinstance(item, str) for item in found):
            return tuple(str(item)[:_TEXT_CHARS] for item in found)
        raise _not_a("array of strings", name, found)

    def integers(self, name: str) -> tuple[int, ...]:
        """An array of whole numbers; missing is empty."""
        found = self._array(name)
        if all(type(item) is int for item in found):
            return tuple(item for item in found if isinstance(item, int))
        raise _not_a("array of whole numbers", name, found)

    def claim(self, name: str) -> bool:
        value = self.fields.get(name)
        if isinstance(value, bool):
            return value
        raise _not_a("true or false", name, value)

    def rows(self) -> tuple[Mapping[str, object], ...]:
        found = self._array("rows")
        if all(isinstance(item, dict) for item in found):
            return tuple(item for item in found if isinstance(item, dict))
        raise _not_a("array of maps", "rows", found)

    def _array(self, name: str) -> list[object]:
        value = self.fields.get(name, [])
        if isinstance(value, list):
            return value
        raise _not_a("array", name, value)


def text(fields: Mapping[str, object], name: str, default: str | None = None) -> str:
    value = fields.get(name, default)
    if isinstance(value, str):
        return value[:_TEXT_CHARS]
    raise _not_a("string", name, value)


def number(fields: Mapping[str, object], name: str) -> float:
    """Finite; whole numbers count."""
    value = fields.get(name)
    if isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value):
        return float(value)
    raise _not_a("finite number", name, value)


def _not_a(kind: str, name: str, value: object) -> Malformed:
    return Malformed(f"{name}: {kind} wanted, not {value!r:.80}")


def pack_message(type: Type, id: int = NO_ID, **fields: object) -> bytes:
    return pack({"v": VERSION, "id": id, "type": type.value, **fields})


def unpack_message(data: bytes) -> Message:
    """Raises: Malformed on anything but an envelope of our version."""
    fields = unpack(data)
    version, id_, type_ = fields.get("v"), fields.get("id", NO_ID), fields.get("type")
    if version != VERSION:
        raise Malformed(f"protocol version {VERSION} wanted, not {version!r:.40}")
    if not isinstance(type_, str) or not isinstance(id_, int) or isinstance(id_, bool):
        raise Malformed(f"an envelope has a string `type` and a whole `id`, not {type_!r:.40} and {id_!r:.40}")
    return Message(type_, id_, fields)


def pack_error(id: int, error: ProviderError) -> bytes:
    retry_after_s = error.retry_after_s if isinstance(error, RateLimited) else None
    extra = {} if retry_after_s is None else {"retry_after": retry_after_s}
    return pack_message(Type.ERROR, id, code=error.code, message=str(error)[:_TEXT_CHARS], **extra)


def parse_error(message: Message) -> ProviderError:
    """The typed error of an `error` message. A negative or unreadable `retry_after` counts as not given."""
    given = message.fields.get("retry_after")
    is_wait = isinstance(given, int | float) and not isinstance(given, bool) and 0 <= given < float("inf")
    retry_after_s = number(message.fields, "retry_after") if is_wait else None
    return provider_error(message.text("code", "upstream"), message.text("message", "no reason given"), retry_after_s)
