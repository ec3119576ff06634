"""What can be followed live: channels, as clients name them, and feeds, as providers supply them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from timebase.model.instrument import Instrument, canonical_symbol
from timebase.model.interval import Interval, parse_interval
from timebase.model.series import Series, TickSeries


class FeedKind(StrEnum):
    TRADES = "trades"
    QUOTES = "quotes"
    BARS = "bars"


class FeedState(StrEnum):
    """How a feed is, so that a quiet market and a broken feed are never mistaken for each other."""

    CONNECTING = "connecting"
    LIVE = "live"
    QUIET = "quiet"  # nothing happens, and the vendor's connection is known to be alive
    MUTE = "mute"  # connected, but silent beyond the instrument's own rhythm: a fault, the feed is made anew
    DOWN = "down"
    CLOSED = "closed"  # out of session


@dataclass(frozen=True, slots=True)
class Channel:
    """What a client follows: `trades:BTC-USDT`, `quotes:AAPL`, `bars:BTC-USDT:1m`; `@slug` behind it pins the provider.

    Without a provider the best one supplies it, and another one when that fails.
    """

    kind: FeedKind
    symbol: str
    interval: Interval | None = None  # of bars
    provider: str | None = None

    def __str__(self) -> str:
        interval = f":{self.interval.value}" if self.interval else ""
        return f"{self.kind.value}:{self.symbol}{interval}{f'@{self.provider}' if self.provider else ''}"


def parse_channel(text: str) -> Channel | None:
    """The channel that `text` names, or None. A symbol may hold colons; what follows the last `@` is a provider."""
    what, at, provider = text.rpartition("@")
    if not at:
        what, provider = provider, ""
    kind, _, rest = what.partition(":")
    if kind not in set(FeedKind) or not rest or (at and not provider):
        return None
    if kind != FeedKind.BARS:
        return Channel(FeedKind(kind), canonical_symbol(rest), None, provider or None)
    symbol, _, name = rest.rpartition(":")
    interval = parse_interval(name)
    if not symbol or interval is None:
        return None
    return Channel(FeedKind.BARS, canonical_symbol(symbol), interval, provider or None)


@dataclass(frozen=True, slots=True)
class Feed:
    """One stream of one provider that somebody wants.

    `id` is unique in this process; on the link each subscription has a number of its own. `ticks` is where trades and
    quotes are stored; `bars` has a series for each interval that is built from trades, or the one of a feed of
    ready-made bars. `since_us`: when it was subscribed, by our clock; 0 believes whatever comes first.
    """

    id: int
    kind: FeedKind
    instrument: Instrument
    provider: str
    interval: Interval | None = None  # of a feed of ready-made bars
    ticks: TickSeries | None = None
    bars: Mapping[Interval, Series] = field(default_factory=lambda: MappingProxyType({}))
    since_us: int = 0
