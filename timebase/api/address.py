"""The simplest client of the stream says nothing: what it follows is in the address. Pure."""

from collections.abc import Sequence

from timebase.api import parameters as p
from timebase.api.actions import Subscribe
from timebase.api.exchange import Asked
from timebase.api.parameters import Parameter
from timebase.api.parse import Given, parse_query
from timebase.errors import BadParameter
from timebase.model.feed import Channel, FeedKind
from timebase.model.interval import Interval

_KINDS = tuple(kind.value for kind in FeedKind)


def _kinds(text: str) -> tuple[FeedKind, ...]:
    return tuple(FeedKind(kind) for kind in text.split(","))


CHANNELS: Parameter[tuple[FeedKind, ...]] = Parameter(
    "channels", _kinds, "What to follow: bars (if not given), trades, quotes; several with commas.",
    {"type": "string", "pattern": f"^({'|'.join(_KINDS)})(,({'|'.join(_KINDS)}))*$"}, _KINDS, "bars",
)  # fmt: skip
FROM = p.time("from", "History since then comes first.")
IN_ADDRESS = (CHANNELS, p.INTERVAL, FROM, p.PROVIDER)


def parse_address(asked: Asked, now_us: int) -> Subscribe | None:
    """What WS …/stream/{symbol}?channels=&interval=&from= follows; None where no symbol is in the path.

    Raises: BadParameter.
    """
    if "symbol" not in asked.in_path:
        parse_query(asked.query, ())
        return None
    symbol = p.SYMBOL.read(asked.in_path["symbol"])
    given = parse_query(asked.query, IN_ADDRESS)
    return Subscribe(_in_address(given, symbol), _from_address(given, now_us))


def _in_address(given: Given, symbol: str) -> Sequence[Channel]:
    interval, provider = given.get(p.INTERVAL) or Interval.M1, given.get(p.PROVIDER)
    kinds = given.get(CHANNELS) or (FeedKind.BARS,)
    named = [Channel(kind, symbol, interval if kind is FeedKind.BARS else None, provider) for kind in kinds]
    return tuple(dict.fromkeys(named))


def _from_address(given: Given, now_us: int) -> int | None:
    from_us = given.time_us(FROM, now_us)
    if from_us is not None and from_us > now_us:
        raise BadParameter("from", "is in the future")
    return from_us
