"""What the API needs of the server behind it. `app.py` hands it over; the tests hand over a fake."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from timebase.history.answer import Answer, Completion
from timebase.live.seam import Seam
from timebase.model.collected import Collected
from timebase.model.demand import Question
from timebase.model.instrument import AssetClass, Instrument
from timebase.model.interval import Interval
from timebase.model.receipt import Attempt
from timebase.model.replay import ReplayOrder, ReplayState, Tape
from timebase.model.series import Series, TickSeries
from timebase.model.ticks import Quotes, TickPlace, Trades
from timebase.model.timerange import Ranges, TimeRange
from timebase.streaming.hub import Hub


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """Units: `_s` seconds. `port` 0 takes a free one."""

    host: str = "127.0.0.1"
    port: int = 8080
    token: str | None = field(default=None, repr=False)
    ask_s: float = 60.0
    backfill_s: float = 3600.0  # a backfill answers when its range is complete, and a vendor's limits may make it wait
    max_bars: int = 1_000_000
    max_body_bytes: int = 64 * 1024
    max_package_bytes: int = 16 << 20  # of a provider's folder as an archive: code, not data
    grace_s: float = 3.0  # how long requests that are being answered may take after the stop
    idle_s: float = 75.0  # a connection without a request is closed after so long
    stalled_s: float = 60.0  # a client that takes no byte of its answer for so long is cut off


class Option(Protocol):
    @property
    def type(self) -> str: ...
    @property
    def description(self) -> str: ...
    @property
    def default(self) -> object: ...


class RateWindow(Protocol):
    @property
    def requests(self) -> int: ...
    @property
    def window_s(self) -> float: ...


class Manifest(Protocol):
    """What a provider claims; see manifest/manifest.py."""

    @property
    def options(self) -> Mapping[str, Option]: ...
    @property
    def rate_limits(self) -> Sequence[RateWindow]: ...
    @property
    def description(self) -> str: ...
    @property
    def capabilities(self) -> frozenset[str]: ...
    @property
    def asset_classes(self) -> frozenset[AssetClass]: ...
    @property
    def intervals(self) -> frozenset[Interval]: ...
    @property
    def symbols(self) -> Sequence[Instrument]: ...
    @property
    def priority(self) -> int: ...
    @property
    def cost(self) -> float: ...


class ProviderState(Protocol):
    """What is known of one provider and its process; see supervisor/roster.py."""

    @property
    def slug(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def manifest(self) -> Manifest: ...
    @property
    def state(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def since_us(self) -> int: ...
    @property
    def pid(self) -> int | None: ...
    @property
    def restarts(self) -> int: ...
    @property
    def next_retry_us(self) -> int | None: ...
    @property
    def memory_bytes(self) -> int: ...
    @property
    def last_error(self) -> str: ...
    @property
    def in_flight(self) -> int: ...


class BrokenManifest(Protocol):
    """A folder that could not be loaded, and every fault in it."""

    @property
    def folder(self) -> Path: ...
    @property
    def faults(self) -> Sequence[str]: ...


class Roster(Protocol):
    """The providers. Raises: UnknownProvider where a slug is asked for that is not there."""

    def all(self) -> Sequence[ProviderState]: ...
    def broken(self) -> Sequence[BrokenManifest]: ...
    def symbols(self) -> Sequence[Instrument]: ...
    async def enable(self, slug: str) -> object: ...
    async def disable(self, slug: str) -> object: ...
    async def restart(self, slug: str) -> object: ...


class Installer(Protocol):
    """Raises: BadPackage, ProviderExists, FixedProvider, UnknownProvider, ConfigError; see supervisor/install.py."""

    async def install(self, archive: bytes) -> str: ...
    async def update(self, slug: str, archive: bytes) -> None: ...
    async def remove(self, slug: str) -> Path: ...


class Coverage(Protocol):
    """The ledger of one series: what each range is known to be."""

    @property
    def complete(self) -> Ranges: ...
    @property
    def empty(self) -> Ranges: ...
    @property
    def refused(self) -> Ranges: ...
    @property
    def partial(self) -> Ranges: ...
    @property
    def failed(self) -> Ranges: ...


class Store(Protocol):
    """Raises: StoreUnavailable from everything awaited, when the database is away."""

    @property
    def is_up(self) -> bool: ...
    async def ping(self) -> None: ...
    def health(self) -> Mapping[str, object]: ...
    async def known_instrument(self, symbol: str) -> Instrument | None: ...
    async def list_symbols(
        self, query: str, asset_class: AssetClass | None, after: str, limit: int
    ) -> Sequence[Instrument]: ...
    async def near_symbols(self, text: str, limit: int) -> Sequence[str]: ...
    async def series_of(self, instrument_id: int) -> Sequence[Series]: ...
    async def coverage(self, series_id: int) -> Coverage: ...
    async def tick_series_of(self, instrument_id: int, kind: str) -> Sequence[TickSeries]: ...
    async def newest_tick_us(self, series: TickSeries, within: TimeRange) -> int | None: ...
    async def recorded(self, series: TickSeries, within: TimeRange) -> Ranges: ...
    async def read_trades(
        self,
        series: TickSeries,
        within: TimeRange,
        *,
        limit: int | None = None,
        newest_first: bool = False,
        after: TickPlace | None = None,
    ) -> tuple[Trades, NDArray[np.int64]]: ...
    async def read_quotes(
        self,
        series: TickSeries,
        within: TimeRange,
        *,
        limit: int | None = None,
        newest_first: bool = False,
        after: TickPlace | None = None,
    ) -> tuple[Quotes, NDArray[np.int64]]: ...


class Feeds(Protocol):
    """The live feeds; see live/feeds.py."""

    def facts(self) -> Sequence[Mapping[str, object]]:
        """Each feed, its state and why, as plain data."""
        ...

    def counts(self) -> Mapping[tuple[str, str], int]:
        """(provider, state) -> how many feeds."""
        ...

    def failed(self) -> Mapping[str, int]:
        """Provider -> how often a feed of it fell or could not be had."""
        ...


class Healer(Protocol):
    @property
    def outcomes(self) -> Mapping[tuple[str, str], int]:
        """(provider, healed | given_up) -> how many gaps."""
        ...


class Collector(Protocol):
    """The list of what is kept up to date; see live/collector.py. Raises: StoreUnavailable from what is awaited."""

    def facts(self) -> Sequence[Mapping[str, object]]: ...
    def all(self) -> Sequence[Collected]: ...
    async def add(self, line: Collected) -> None: ...
    async def remove(self, line: Collected) -> None: ...


class ReplayDesk(Protocol):
    """The hand on the tapes; see replay.py."""

    def order(self) -> ReplayOrder: ...
    def state(self) -> ReplayState: ...
    def give(
        self, *, tapes: tuple[Tape, ...] | None, speed: float | None, is_playing: bool | None, position_us: int | None
    ) -> ReplayOrder: ...


class Services(Protocol):
    """Everything behind the API."""

    @property
    def version(self) -> str: ...
    @property
    def started_us(self) -> int: ...
    @property
    def registry(self) -> CollectorRegistry: ...
    @property
    def roster(self) -> Roster: ...
    @property
    def store(self) -> Store: ...
    @property
    def replay(self) -> ReplayDesk: ...
    @property
    def installer(self) -> Installer: ...
    @property
    def hub(self) -> Hub: ...
    @property
    def seam(self) -> Seam: ...
    @property
    def feeds(self) -> Feeds: ...
    @property
    def healer(self) -> Healer: ...
    @property
    def collector(self) -> Collector: ...

    def routing(self, slug: str) -> Mapping[str, object]:
        """What the router has learnt of a provider: circuit, budget left, reliability, last fault; as plain data."""
        ...

    def actors(self) -> Mapping[str, str]:
        """Each actor's state, by name; "running" is the healthy one."""
        ...

    def depths(self) -> Mapping[str, int]:
        """How many batches wait in each queue of the road, by name."""
        ...

    def refused(self) -> Mapping[tuple[str, str, str], int]:
        """(provider, kind of feed, rule) -> live rows refused since the start."""
        ...

    async def answer(self, question: Question, attempts: list[Attempt]) -> Answer:
        """The answer to `question`. `attempts` is appended to on the way: what a 504 can still show at the deadline."""
        ...

    async def explain(self, question: Question) -> Mapping[str, object]:
        """Who would be asked, in which order and why, as plain data."""
        ...

    async def complete(self, question: Question, attempts: list[Attempt]) -> Completion:
        """Make the range complete in the store without reading it."""
        ...
