"""What a client of the stream says -> an action, with an error that names what is wrong. Pure.

{"action": "subscribe", "channels": ["bars:BTC-USDT:1m"], "from": "-2h", "throttle_s": 1, "resume": {"bars:…": 17}}
{"action": "unsubscribe", "channels": [...]}        {"action": "ping"}
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from timebase.api import parameters as p
from timebase.api.times import parse_time
from timebase.errors import BadBody, BadParameter
from timebase.model.feed import Channel, parse_channel

ACTIONS = ("subscribe", "unsubscribe", "ping")
MAX_THROTTLE_S = 3_600.0
_FIELDS = {
    "subscribe": ("action", "channels", "from", "throttle_s", "resume"),
    "unsubscribe": ("action", "channels"),
    "ping": ("action",),
}
_CHANNEL_FORMS = ("trades:BTC-USDT", "quotes:AAPL", "bars:BTC-USDT:1m", "bars:BTC-USDT:1m@binance")


@dataclass(frozen=True, slots=True)
class Subscribe:
    """`from_us`: history since then comes first. `resume`: the newest number the client has seen, by channel."""

    channels: Sequence[Channel]
    from_us: int | None = None
    throttle_s: float = 0.0
    resume: Mapping[Channel, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    channels: Sequence[Channel]


@dataclass(frozen=True, slots=True)
class Ping:
    pass


Action = Subscribe | Unsubscribe | Ping


def parse_action(message: bytes, now_us: int) -> Action:
    """Raises: BadBody, BadParameter."""
    try:
        said = orjson.loads(message)
    except orjson.JSONDecodeError as exc:
        raise BadBody(f"the message is not JSON: {exc}") from exc
    if not isinstance(said, dict):
        raise BadBody(
            'the message is not a JSON object; write it like {"action":"subscribe","channels":["trades:AAPL"]}'
        )
    action = said.get("action")
    if action not in ACTIONS:
        raise BadParameter("action", f"{_short(action)} is none", ACTIONS)
    unknown = [name for name in said if name not in _FIELDS[action]]
    if unknown:
        raise BadParameter(unknown[0][:64], f"{action} has no such field", _FIELDS[action])
    match action:
        case "subscribe":
            return _subscribe(said, now_us)
        case "unsubscribe":
            return Unsubscribe(_channels(said))
    return Ping()


def _subscribe(said: Mapping[str, Any], now_us: int) -> Subscribe:
    channels = _channels(said)
    return Subscribe(channels, _from(said.get("from"), now_us), _throttle(said.get("throttle_s")), _resume(said))


def _channels(said: Mapping[str, Any]) -> Sequence[Channel]:
    names = said.get("channels")
    if not isinstance(names, list) or not names:
        raise BadParameter("channels", "name at least one, in a list", _CHANNEL_FORMS)
    return tuple(dict.fromkeys(_channel(name) for name in names))


def _channel(name: object) -> Channel:
    channel = parse_channel(name) if isinstance(name, str) and len(name) <= 200 else None
    if channel is None:
        raise BadParameter("channels", f"{_short(name)} is not a channel; write it like", _CHANNEL_FORMS)
    p.SYMBOL.read(channel.symbol)
    if channel.provider is not None:
        p.SLUG.read(channel.provider)
    return channel


def _from(given: object, now_us: int) -> int | None:
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, str | int | float):
        raise BadParameter("from", "write a time: -2h, 2024-01-31T09:30Z, epoch seconds or milliseconds")
    try:
        from_us = parse_time(str(given), now_us)
    except ValueError as exc:
        raise BadParameter("from", str(exc)) from exc
    if from_us > now_us:
        raise BadParameter("from", "is in the future")
    return from_us


def _throttle(given: object) -> float:
    if given is None:
        return 0.0
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given <= MAX_THROTTLE_S:
        raise BadParameter("throttle_s", f"write seconds, from 0 to {MAX_THROTTLE_S:g}")
    return float(given)


def _resume(said: Mapping[str, Any]) -> Mapping[Channel, int]:
    given = said.get("resume")
    if given is None:
        return {}
    if not isinstance(given, dict) or not all(type(seq) is int and 0 <= seq < 1 << 53 for seq in given.values()):
        raise BadParameter("resume", 'write the newest number seen of each channel, as in {"trades:AAPL": 17}')
    return {_channel(name): seq for name, seq in given.items()}


def _short(value: object) -> str:
    return repr(value)[:64]
