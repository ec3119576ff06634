"""A server without providers and without a database: what the API is tested on, through the Protocols it asks for."""

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import numpy as np
import trio
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry
from unit.live.tape import FakeTape

from timebase.api.server import run_api
from timebase.api.services import ApiSettings
from timebase.clock import now_us
from timebase.errors import (
    AllProvidersFailed,
    FixedProvider,
    ProviderExists,
    StoreUnavailable,
    TimeBaseError,
    UnknownProvider,
    UnknownSymbol,
)
from timebase.history.answer import Answer, Completion, Freshness, Missing
from timebase.live.seam import Seam
from timebase.manifest.manifest import Manifest, Option, RateWindow
from timebase.model.bars import Bars
from timebase.model.collected import Collected
from timebase.model.demand import Question
from timebase.model.instrument import AssetClass, Instrument
from timebase.model.interval import Interval
from timebase.model.lru import ByteLru
from timebase.model.receipt import Attempt
from timebase.model.series import Series, TickSeries
from timebase.model.ticks import Quotes, TickPlace, Trades
from timebase.model.timerange import Ranges, TimeRange
from timebase.replay import Replay
from timebase.streaming.hub import Hub

AAPL = Instrument(1, "AAPL", AssetClass.STOCK, "Apple Inc.", "USD", "NASDAQ", "America/New_York")
BTC = Instrument(2, "BTC-USDT", AssetClass.CRYPTO, "Bitcoin")
DEMO = Instrument(0, "DEMO-STOCK", AssetClass.STOCK, "Demonstration")
STARTED_US = 1_700_000_000_000_000
NOTHING = Ranges()


def make_bars(question: Question) -> Bars:
    """Bars on every period of the range, with prices that have no short decimal form."""
    step_us = question.interval.us
    time = np.arange(question.range.start_us, question.range.end_us, step_us, dtype=np.int64)
    wave = np.sin(time / 1e13) * 10 + 100
    return Bars.of(time, wave, wave + 1 / 3, wave - 1 / 3, wave + 0.1, np.round(wave * 1000), (time // step_us) % 4)


@asynccontextmanager
async def open_api(services: "FakeServices", cache_bytes: int = 10_000_000, **settings: Any) -> AsyncIterator[int]:
    """The API on a real socket, while the block runs. Yields its port."""
    cache: ByteLru[Any, bytes] = ByteLru(cache_bytes)
    async with trio.open_nursery() as nursery:
        yield await nursery.start(run_api, services, ApiSettings(**{"port": 0, **settings}), cache)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_client(services: "FakeServices", **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with open_api(services, **settings) as port:
        url = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(base_url=url, headers={"Accept-Encoding": "identity"}, timeout=30) as client:
            yield client


@dataclass(frozen=True, slots=True)
class FakeState:
    slug: str
    manifest: Manifest
    state: str = "ready"
    reason: str = ""
    pid: int | None = 4711
    name: str = "Demo"
    version: str = "1.0.0"
    since_us: int = STARTED_US
    restarts: int = 0
    next_retry_us: int | None = None
    memory_bytes: int = 40_000_000
    last_error: str = ""
    in_flight: int = 0


@dataclass(frozen=True, slots=True)
class FakeBroken:
    folder: Path
    faults: Sequence[str]


def make_manifest(slug: str, **claims: object) -> Manifest:
    usual: dict[str, object] = {
        "name": "Demo",
        "version": "1.0.0",
        "entrypoint": "provider.py:Demo",
        "folder": Path("manifests") / slug,
        "asset_classes": frozenset({AssetClass.STOCK, AssetClass.CRYPTO}),
        "intervals": frozenset(Interval),
        "rate_limits": (RateWindow(60, 60.0),),
        "options": {"timeout": Option("int", "Request timeout in seconds", 30)},
    }
    return Manifest(slug=slug, **{**usual, **claims})  # type: ignore[arg-type]


class FakeRoster:
    def __init__(self) -> None:
        listed = make_manifest("listed", symbols=(DEMO,))
        self.states = [
            FakeState("demo", make_manifest("demo")),
            FakeState("listed", listed, "disabled", "as configured"),
        ]
        self.faults = [FakeBroken(Path("manifests/bad"), ("manifests/bad/config.yaml:3: not valid YAML",))]
        self.error: TimeBaseError | None = None

    def all(self) -> Sequence[FakeState]:
        return self.states

    def broken(self) -> Sequence[FakeBroken]:
        return self.faults

    def symbols(self) -> Sequence[Instrument]:
        return (DEMO,)

    async def enable(self, slug: str) -> None:
        await self._set(slug, "ready")

    async def disable(self, slug: str) -> None:
        await self._set(slug, "disabled")

    async def restart(self, slug: str) -> None:
        await self._set(slug, "starting")

    async def _set(self, slug: str, state: str) -> None:
        await trio.lowlevel.checkpoint()
        if self.error is not None:
            raise self.error
        if slug not in {each.slug for each in self.states}:
            raise UnknownProvider(slug)
        self.states = [replace(each, state=state) if each.slug == slug else each for each in self.states]


@dataclass
class FakeInstaller:
    """Takes whatever it is given for the folder of a provider called `installed`."""

    roster: FakeRoster
    took: list[bytes] = field(default_factory=list)
    error: TimeBaseError | None = None

    async def install(self, archive: bytes) -> str:
        await self._take(archive)
        if "installed" in {each.slug for each in self.roster.states}:
            raise ProviderExists("installed", "manifests/installed")
        self.roster.states = [*self.roster.states, FakeState("installed", make_manifest("installed"), "starting")]
        return "installed"

    async def update(self, slug: str, archive: bytes) -> None:
        self._known(slug)
        await self._take(archive)

    async def remove(self, slug: str) -> Path:
        await trio.lowlevel.checkpoint()
        self._known(slug)
        if slug == "listed":
            raise FixedProvider(slug, "is bundled with TimeBase")
        self.roster.states = [each for each in self.roster.states if each.slug != slug]
        return Path("manifests") / f".removed-{slug}"

    async def _take(self, archive: bytes) -> None:
        await trio.lowlevel.checkpoint()
        if self.error is not None:
            raise self.error
        self.took.append(archive)

    def _known(self, slug: str) -> None:
        if slug not in {each.slug for each in self.roster.states}:
            raise UnknownProvider(slug)


@dataclass(frozen=True, slots=True)
class FakeCoverage:
    complete: Ranges = NOTHING
    empty: Ranges = NOTHING
    refused: Ranges = NOTHING
    partial: Ranges = NOTHING
    failed: Ranges = NOTHING


class FakeStore:
    def __init__(self) -> None:
        self.is_up = True
        self.instruments = {each.symbol: each for each in (AAPL, BTC)}
        self.recorders: tuple[str, ...] = ("demo", "other")

    async def ping(self) -> None:
        await trio.lowlevel.checkpoint()
        if not self.is_up:
            raise StoreUnavailable("connection refused")

    def health(self) -> Mapping[str, object]:
        return {"kind": "fake", "migrations": 3}

    async def known_instrument(self, symbol: str) -> Instrument | None:
        await self.ping()
        return self.instruments.get(symbol)

    async def list_symbols(
        self, query: str, asset_class: AssetClass | None, after: str, limit: int
    ) -> Sequence[Instrument]:
        await self.ping()
        found = [
            each
            for symbol, each in sorted(self.instruments.items())
            if query.casefold() in f"{symbol} {each.name}".casefold() and symbol > after
        ]
        return [each for each in found if asset_class in (None, each.asset_class)][:limit]

    async def near_symbols(self, text: str, limit: int) -> Sequence[str]:
        await self.ping()
        return [symbol for symbol in self.instruments if symbol[0] == text[0]][:limit]

    async def series_of(self, instrument_id: int) -> Sequence[Series]:
        await self.ping()
        return [
            Series(each.id * 10, each.id, each.symbol, "demo", Interval.D1)
            for each in self.instruments.values()
            if each.id == instrument_id
        ]

    async def coverage(self, series_id: int) -> FakeCoverage:
        await self.ping()
        return FakeCoverage(
            complete=Ranges.of([TimeRange(0, 86_400_000_000)]), failed=Ranges.of([TimeRange(10**15, 2 * 10**15)])
        )

    async def tick_series_of(self, instrument_id: int, kind: str) -> Sequence[TickSeries]:
        await self.ping()
        return [
            TickSeries(each.id * 10 + n, each.id, each.symbol, provider, kind)
            for each in self.instruments.values()
            if each.id == instrument_id
            for n, provider in enumerate(self.recorders)
        ]

    async def newest_tick_us(self, series: TickSeries, within: TimeRange) -> int | None:
        times = (await self.read_trades(series, within))[0].time
        return int(times[-1]) if len(times) else None

    async def recorded(self, series: TickSeries, within: TimeRange) -> Ranges:
        await self.ping()
        return Ranges.of([TimeRange(STARTED_US - 1, STARTED_US + 1_000)]) & Ranges((within,))

    async def read_trades(self, series: TickSeries, within: TimeRange, **cut: Any) -> tuple[Trades, NDArray[np.int64]]:
        await self.ping()
        n = 10 - series.id % 10  # the second recorder has one less
        trades = Trades.of(
            [STARTED_US + 100 * (at // 3) for at in range(n)],
            np.arange(n) + 1 / 3,
            [0.5] * n,
            [1, -1] * (n // 2) + [0] * (n % 2),
            range(1, n + 1),
            [0] * n,
        )
        place = _cut(trades.time, within, **cut)
        return trades.pick(place), np.full(len(place), 7)

    async def read_quotes(self, series: TickSeries, within: TimeRange, **cut: Any) -> tuple[Quotes, NDArray[np.int64]]:
        trades, commit_ids = await self.read_trades(series, within, **cut)
        return Quotes.of(trades.time, trades.price, trades.size, trades.price + 1, trades.size), commit_ids


def _cut(
    time: NDArray[np.int64],
    within: TimeRange,
    limit: int | None = None,
    newest_first: bool = False,
    after: TickPlace | None = None,
) -> NDArray[np.intp]:
    found = np.flatnonzero((time >= within.start_us) & (time < within.end_us))
    if after is not None:
        found = found[time[found] >= after.time_us][after.given :]
    return found if limit is None else found[-limit:] if newest_first else found[:limit]


@dataclass
class FakeSpool:
    max_bytes: int = 1 << 30
    bytes: int = 0
    refusal: str = ""
    lost: int = 0
    stuck: int = 0
    waiting: int = 0

    def __len__(self) -> int:
        return self.waiting


class FakeFeeds:
    """One feed that is quiet; it is healing."""

    def facts(self) -> Sequence[Mapping[str, object]]:
        healing = {"interval": "1m", "owed": [[1_700_000_000_000, 1_700_000_060_000]], "tries": 1, "reason": "timeout"}
        return [{
            "kind": "trades", "symbol": "BTC-USDT", "interval": None, "provider": "demo",
            "channels": ["bars:BTC-USDT:1m"], "state": "quiet", "since": 1_700_000_000_000, "reason": "silent for 90 s",
            "attempts": 0, "made": 1, "retry_in_s": 0.0, "last_event": 1_700_000_000_000, "last_received": None,
            "usual_pause_s": 1.5, "followers": 2, "is_collected": False, "healing": [healing],
        }]  # fmt: skip

    def event_now_us(self, symbol: str, provider: str) -> int | None:
        return None

    def counts(self) -> Mapping[tuple[str, str], int]:
        return {("demo", "quiet"): 1}

    def failed(self) -> Mapping[str, int]:
        return {"demo": 3}


class FakeHealer:
    outcomes: Mapping[tuple[str, str], int] = MappingProxyType({("demo", "healed"): 2})


class FakeCollector:
    def __init__(self, store: FakeStore) -> None:
        self._store = store
        self._lines: list[Collected] = []

    def all(self) -> Sequence[Collected]:
        return tuple(self._lines)

    def facts(self) -> Sequence[Mapping[str, object]]:
        return [
            {"symbol": line.symbol, "interval": line.interval, "provider": line.provider, "by": "history",
             "asked": None, "reason": ""}
            for line in self._lines
        ]  # fmt: skip

    async def add(self, line: Collected) -> None:
        await self._store.ping()
        self._lines = sorted({*self._lines, line}, key=str)

    async def remove(self, line: Collected) -> None:
        await self._store.ping()
        self._lines.remove(line)


@dataclass
class FakeServices:
    """`error` is raised, `hang` waited on by every question; `asked` collects them."""

    version: str = "0.1.0"
    started_us: int = STARTED_US
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    roster: FakeRoster = field(default_factory=FakeRoster)
    store: FakeStore = field(default_factory=FakeStore)
    spool: FakeSpool = field(default_factory=FakeSpool)
    installer: FakeInstaller = field(init=False)
    feeds: FakeFeeds = field(default_factory=FakeFeeds)
    healer: FakeHealer = field(default_factory=FakeHealer)
    collector: FakeCollector = field(init=False)
    facts: dict[str, object] = field(default_factory=lambda: {"circuit": {"state": "closed"}})
    replay: Replay = field(default_factory=lambda: Replay(Path(os.devnull)))  # no folder: nothing is played
    states: dict[str, str] = field(default_factory=lambda: {"writer": "running", "supervisor": "running"})
    error: Exception | None = None
    hang: trio.Event | None = None
    asked: list[Question] = field(default_factory=list)
    loads: int = 0
    generation: int = 0
    bars: Bars | None = None
    missing: tuple[Missing, ...] = ()
    warnings: tuple[str, ...] = ()
    adjustment: Mapping[str, object] = field(default_factory=lambda: {"mode": "raw", "applied": []})
    page: int = 1_000_000
    hub: Hub = field(default_factory=lambda: Hub(now_us))
    tape: FakeTape = field(default_factory=FakeTape)
    seam: Seam = field(init=False)

    def __post_init__(self) -> None:
        self.seam = Seam(self.hub, self, self.tape, self.feeds, now_us)
        self.installer = FakeInstaller(self.roster)
        self.collector = FakeCollector(self.store)

    def depths(self) -> Mapping[str, int]:
        return {"raw": 1}

    def refused(self) -> Mapping[tuple[str, str, str], int]:
        return {("alpha", "trades", "price"): 2}

    def routing(self, slug: str) -> Mapping[str, object]:
        return self.facts

    def actors(self) -> Mapping[str, str]:
        return self.states

    async def answer(self, question: Question, attempts: list[Attempt]) -> Answer:
        await self._ask(question, attempts)
        instrument = self._known(question.symbol)
        bars = (
            make_bars(question)
            if self.bars is None
            else self.bars.within(question.range.start_us, question.range.end_us)
        )
        limit = min(question.limit or self.page, self.page)
        is_cut = len(bars) > limit
        newest = question.keep == "newest"
        shown = bars.pick(slice(len(bars) - limit, None) if newest else slice(limit)) if is_cut else bars

        async def load() -> Bars:
            await trio.lowlevel.checkpoint()
            self.loads += 1
            return shown

        return Answer(
            question=question,
            instrument=instrument,
            series=Series(
                instrument.id * 10, instrument.id, question.symbol, question.provider or "demo", question.interval
            ),
            version=(replace(question, refresh=False, provider=None), self.generation),
            source="store",
            load=load,
            attempts=tuple(attempts),
            missing=self.missing,
            freshness=Freshness(STARTED_US),
            adjustment=self.adjustment,
            warnings=self.warnings,
            next_start_us=int(bars.time[limit]) if is_cut and not newest else None,
        )

    async def explain(self, question: Question) -> Mapping[str, object]:
        await self._ask(question, [])
        self._known(question.symbol)
        return {
            "symbol": question.symbol,
            "asset_class": "stock",
            "interval": question.interval.value,
            "resampled_from": None,
            "rule": None,
            "candidates": [{"provider": "demo", "place": 1, "score": 0.5, "factors": []}],
            "refused": [{"provider": "listed", "reason": "it is disabled"}],
            "stored": [],
        }

    async def complete(self, question: Question, attempts: list[Attempt]) -> Completion:
        await self._ask(question, attempts)
        instrument = self._known(question.symbol)
        series = Series(
            instrument.id * 10, instrument.id, question.symbol, question.provider or "demo", question.interval
        )
        return Completion(series, tuple(attempts), self.missing, 7, 1, self.warnings)

    async def _ask(self, question: Question, attempts: list[Attempt]) -> None:
        self.asked.append(question)
        await trio.lowlevel.checkpoint()
        attempts.append(Attempt("demo", "ok", "", 3))
        if self.hang is not None:
            await self.hang.wait()
        if self.error is not None:
            raise self.error
        if question.provider not in (None, "demo", "listed"):
            raise UnknownProvider(question.provider, ("demo", "listed"))

    def _known(self, symbol: str) -> Instrument:
        known = {**self.store.instruments, DEMO.symbol: DEMO}
        if symbol == "FAIL":
            raise AllProvidersFailed(symbol, [Attempt("demo", "upstream", "HTTP 500", 12)])
        if symbol not in known:
            raise UnknownSymbol(symbol, ("AAPL",))
        return known[symbol]
