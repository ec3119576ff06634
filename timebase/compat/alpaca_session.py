"""One client of the Alpaca-compatible stream, without its socket: what it says -> what is answered and followed.

connected -> auth -> authenticated -> subscribe, unsubscribe -> subscription, always the full list
"""

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgpack
import orjson

from timebase.compat.alpaca_events import JSON, MSGPACK, JsonEncoder, MsgpackEncoder, bar_type
from timebase.model.feed import Channel, FeedKind
from timebase.model.instrument import canonical_symbol, is_symbol
from timebase.model.interval import Interval
from timebase.streaming.event import BarRows, Event

# What can be subscribed, and the channel behind it. Two of them share one: a minute's bar, and its later changes.
LISTS: Mapping[str, tuple[FeedKind, Interval | None]] = {
    "trades": (FeedKind.TRADES, None),
    "quotes": (FeedKind.QUOTES, None),
    "bars": (FeedKind.BARS, Interval.M1),
    "updatedBars": (FeedKind.BARS, Interval.M1),
    "dailyBars": (FeedKind.BARS, Interval.D1),
}
NEVER = ("statuses", "lulds", "news", "orderbooks", "corrections", "cancelErrors")  # we have none: always empty
MAX_SYMBOLS = 1_000
# msgpack makes room for a list by what its head says: a thousand of them, each in the one before, took 80 MB and 65 ms.
_LIMITS = {"max_map_len": 64, "max_array_len": 2 * MAX_SYMBOLS, "max_ext_len": 0}
_LIST_OF = {"b": "bars", "u": "updatedBars", "d": "dailyBars"}

SYNTAX, NOT_AUTHENTICATED, AUTH_FAILED, ALREADY, AUTH_TIMEOUT, TOO_MANY, TOO_SLOW, NOT_OFFERED = (
    400, 401, 402, 403, 404, 405, 407, 409
)  # fmt: skip
_MESSAGES = {
    SYNTAX: "invalid syntax",
    NOT_AUTHENTICATED: "not authenticated",
    AUTH_FAILED: "auth failed",
    ALREADY: "already authenticated",
    AUTH_TIMEOUT: "auth timeout",
    TOO_MANY: "symbol limit exceeded",
    TOO_SLOW: "slow client",
}


@dataclass(frozen=True, slots=True)
class Said:
    """What comes of one message of the client: the reply, whether it is to be hung up on, whom to follow or not."""

    reply: bytes = b""
    is_over: bool = False
    join: tuple[Channel, ...] = ()
    leave: tuple[Channel, ...] = ()


@dataclass(slots=True)
class AlpacaSession:
    """`token` is what the client must show as its key or its secret; without one every pair will do."""

    encoder: MsgpackEncoder | JsonEncoder
    token: str | None = None
    is_authenticated: bool = False
    lists: dict[str, dict[str, str]] = field(default_factory=lambda: {name: {} for name in LISTS})

    @classmethod
    def of(cls, content_type: str, token: str | None) -> "AlpacaSession":
        """The SDK asks for msgpack with the header Content-Type; whoever does not, gets JSON."""
        return cls(MSGPACK if MSGPACK.content_type in content_type else JSON, token)

    def greeting(self) -> bytes:
        return self._success("connected")

    def auth_timeout(self) -> bytes:
        return self._error(AUTH_TIMEOUT).reply

    def too_slow(self) -> bytes:
        return self._error(TOO_SLOW).reply

    def hear(self, data: bytes) -> Said:
        """Raises: nothing, whatever `data` is."""
        try:
            message = _parse(data)
        except _TooLong:
            return self._error(TOO_MANY if self.is_authenticated else NOT_AUTHENTICATED)
        action = message.get("action") if message else None
        if action == "auth":
            return self._authenticate(message)
        if not self.is_authenticated:
            return self._error(NOT_AUTHENTICATED)
        named = _names(message)
        if named is not None and action == "subscribe":
            return self._subscribe(named)
        if named is not None and action == "unsubscribe":
            return self._unsubscribe(named)
        return self._error(SYNTAX)

    def shown(self, events: Sequence[Event]) -> bytes:
        """A frame of those events that this client has subscribed to; empty when there is none."""
        return self.encoder.frame([event for event in events if self._wants(event)])

    def _wants(self, event: Event) -> bool:
        if event.channel is None:
            return False
        if not isinstance(event.content, BarRows):
            return event.channel.kind is not FeedKind.BARS
        kind = bar_type(event.channel.interval, event.content.status)
        return event.channel.symbol in self.lists.get(_LIST_OF.get(kind, ""), ())

    def _authenticate(self, message: Mapping[str, object]) -> Said:
        if self.is_authenticated:
            return self._error(ALREADY)
        given = [message.get("key"), message.get("secret")]
        if self.token is not None and not any(_is_same(each, self.token) for each in given):
            return Said(self._error(AUTH_FAILED).reply, is_over=True)
        self.is_authenticated = True
        return Said(self._success("authenticated"))

    def _subscribe(self, named: Mapping[str, Sequence[str]]) -> Said:
        """Either all of it or nothing."""
        if any("*" in symbols for symbols in named.values()):
            return self._error(NOT_OFFERED, "subscribe to symbols by name: everything there is, is not one stream here")
        if sum(len(own) for own in self.lists.values()) + sum(len(set(each)) for each in named.values()) > MAX_SYMBOLS:
            return self._error(TOO_MANY)
        before = self._channels()
        for name, symbols in named.items():
            self.lists[name] |= {canonical_symbol(symbol): symbol for symbol in symbols}
        return Said(self._subscription(), join=tuple(self._channels() - before))

    def _unsubscribe(self, named: Mapping[str, Sequence[str]]) -> Said:
        before = self._channels()
        for name, symbols in named.items():
            for symbol in list(self.lists[name]) if "*" in symbols else map(canonical_symbol, symbols):
                self.lists[name].pop(symbol, None)
        return Said(self._subscription(), leave=tuple(before - self._channels()))

    def _channels(self) -> set[Channel]:
        return {
            Channel(kind, symbol, interval)
            for name, (kind, interval) in LISTS.items()
            for symbol in self.lists[name]
        }  # fmt: skip

    def _subscription(self) -> bytes:
        lists: dict[str, object] = {name: list(own.values()) for name, own in self.lists.items()}
        return self.encoder.words({"T": "subscription", **lists, **{name: [] for name in NEVER}})

    def _success(self, words: str) -> bytes:
        return self.encoder.words({"T": "success", "msg": words})

    def _error(self, code: int, words: str = "") -> Said:
        return Said(self.encoder.words({"T": "error", "code": code, "msg": words or _MESSAGES[code]}))


class _TooLong(ValueError):
    """A list of more symbols than anybody may name."""


def _parse(data: bytes) -> Mapping[str, object]:
    """Raises: _TooLong. What is no message is an empty one."""
    try:
        said = orjson.loads(data) if data[:1] == b"{" else msgpack.unpackb(data, **_LIMITS)
    except ValueError as exc:
        # msgpack has no class for it; and a head that promises more than the message can hold is no list of symbols.
        if "max_array_len" in str(exc) and len(data) > 2 * _LIMITS["max_array_len"]:
            raise _TooLong from exc
        return {}
    except (TypeError, RecursionError):
        return {}
    return said if isinstance(said, dict) and all(isinstance(key, str) for key in said) else {}


def _names(message: Mapping[str, object]) -> dict[str, list[str]] | None:
    """The lists of symbols in a message; None when one of them is none. Lists that we have nothing for are ignored."""
    named: dict[str, list[str]] = {}
    for name in LISTS:
        symbols = message.get(name, [])
        if not isinstance(symbols, list) or not all(isinstance(each, str) and is_symbol(each) for each in symbols):
            return None
        if symbols:
            named[name] = symbols
    return named


def _is_same(given: object, token: str) -> bool:
    return isinstance(given, str) and hmac.compare_digest(given.encode(), token.encode())
