"""A provider's claims as values. `load.py` makes them from the file; router and supervisor read them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from timebase.model.feed import FeedKind
from timebase.model.instrument import AssetClass, Instrument
from timebase.model.interval import Interval

HISTORICAL_DATA = "historical_data"
REAL_TIME_STREAMING = "real_time_streaming"
BACKFILL = "backfill"

# The plural words of `data_types` and what they are in the model.
DATA_TYPES: Mapping[str, AssetClass] = {
    "stocks": AssetClass.STOCK,
    "etfs": AssetClass.ETF,
    "indices": AssetClass.INDEX,
    "crypto": AssetClass.CRYPTO,
    "forex": AssetClass.FOREX,
    "funds": AssetClass.FUND,
    "futures": AssetClass.FUTURE,
    "options": AssetClass.OPTION,
    "commodities": AssetClass.COMMODITY,
    "bonds": AssetClass.BOND,
}


@dataclass(frozen=True, slots=True)
class RateWindow:
    """No more than `requests` in any `window_s` seconds."""

    requests: int
    window_s: float


@dataclass(frozen=True, slots=True)
class Option:
    """What the operator may set. `type` is int, float, str, bool, list or map; bounds are inclusive."""

    type: str
    description: str = ""
    default: object = None
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[object, ...] = ()
    required: bool = False


@dataclass(frozen=True, slots=True)
class Secret:
    """Where a secret's value comes from: the environment variable `env`, unless the configuration sets it."""

    description: str
    env: str
    required: bool = True


@dataclass(frozen=True, slots=True)
class Reach:
    """How far back a provider's history goes: so long before now, or since an instant. One of the two is set."""

    back_us: int | None = None
    since_us: int | None = None

    def earliest_us(self, now_us: int) -> int:
        if self.since_us is not None:
            return self.since_us
        return now_us - (self.back_us or 0)


@dataclass(frozen=True, slots=True)
class Manifest:
    """One provider's claims, checked.

    `entrypoint` is "file.py:Class" or a command line with {folder} already replaced; `code` is the file that the first
    form resolved to, None for the second. `rate_limits` go from the shortest window to the longest. `streams` is empty
    when it does not stream. `symbols`, when not empty, are the only ones that it answers for; `lists_symbols`: the
    program names those that it has. `only_by_name`: never chosen, only asked by who names it.
    """

    slug: str
    name: str
    version: str
    entrypoint: str | tuple[str, ...]
    folder: Path
    asset_classes: frozenset[AssetClass]
    intervals: frozenset[Interval]
    description: str = ""
    code: Path | None = None
    capabilities: frozenset[str] = frozenset({HISTORICAL_DATA})
    streams: frozenset[FeedKind] = frozenset()
    rate_limits: tuple[RateWindow, ...] = ()
    identical_window_s: float = 0.0
    options: Mapping[str, Option] = field(default_factory=dict)
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    cost: float = 0.0
    priority: int = 50
    delay_s: float = 0.0
    history: Mapping[Interval, Reach] = field(default_factory=dict)
    symbols: tuple[Instrument, ...] = ()
    lists_symbols: bool = False
    only_by_name: bool = False
    enabled: bool = True
    memory_mb: int = 512
    max_concurrent: int = 4

    def earliest_us(self, interval: Interval, now_us: int) -> int | None:
        """The first instant for which it may be asked at `interval`; None when it claims no limit."""
        reach = self.history.get(interval)
        return None if reach is None else reach.earliest_us(now_us)
