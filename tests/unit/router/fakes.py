"""A roster, its handles, a ledger that outlives the budget, and a vendor that counts."""

from dataclasses import dataclass, field
from pathlib import Path

import trio

from timebase.errors import StoreUnavailable, Unavailable
from timebase.manifest.manifest import Manifest
from timebase.model.demand import Demand, Question
from timebase.model.instrument import AssetClass, Instrument
from timebase.model.interval import Interval
from timebase.model.series import Series
from timebase.model.timerange import DAY_US, TimeRange

NOW_US = 19_800 * DAY_US
AAPL = Instrument(1, "AAPL", AssetClass.STOCK)


def manifest(slug="demo", **claims):
    return Manifest(
        slug=slug,
        name=slug.title(),
        version="1",
        entrypoint="provider.py:Provider",
        folder=Path(slug),
        **{
            "asset_classes": frozenset({AssetClass.STOCK}),
            "intervals": frozenset({Interval.D1, Interval.M1}),
            **claims,
        },
    )


def question(**parts):
    whole = {"symbol": "AAPL", "interval": Interval.D1, "range": TimeRange(NOW_US - 30 * DAY_US, NOW_US)}
    return Question(**{**whole, **parts})


def demand(n=0, provider="demo", interval=Interval.D1, range=None):
    """Another question for each n."""
    range_ = range or TimeRange(NOW_US - (n + 2) * DAY_US, NOW_US - (n + 1) * DAY_US)
    return Demand(n, Series(1, 1, "AAPL", provider, interval), AAPL, range_)


@dataclass
class FakeProvider:
    """Its state as the roster lists it, and its handle in one."""

    manifest: Manifest
    state: str = "ready"
    reason: str = ""
    ready: trio.Event | None = None
    next_retry_us: int | None = None

    @property
    def slug(self):
        return self.manifest.slug

    async def wait_ready(self):
        await trio.lowlevel.checkpoint()
        if self.state == "backing_off":
            raise Unavailable(self.reason)
        if self.ready is not None:
            await self.ready.wait()


class FakeRoster:
    def __init__(self, *providers):
        self._providers = {provider.slug: provider for provider in providers}

    def all(self):
        return tuple(self._providers.values())

    def get(self, slug):
        return self._providers.get(slug)

    def remove(self, slug):
        del self._providers[slug]


@dataclass(frozen=True)
class Row:
    provider: str
    at_us: int
    n: int
    key: str | None


@dataclass
class FakeLedger:
    """Lives as long as the test, like a database beside a server that is restarted."""

    rows: list[Row] = field(default_factory=list)
    is_away: bool = False
    loads: int = 0
    slow_s: list[float] = field(default_factory=list)  # how long the next writes take

    async def take_budget(self, provider, at_us, n, key):
        await trio.sleep(self.slow_s.pop(0) if self.slow_s else 0.002)
        if self.is_away:
            raise StoreUnavailable("the database is away")
        self.rows.append(Row(provider, at_us, n, key))

    async def load_budget_takes(self, since_us):
        await trio.sleep(0.002)
        self.loads += 1
        if self.is_away:
            raise StoreUnavailable("the database is away")
        return [row for row in self.rows if row.at_us >= since_us]

    async def prune_budget_takes(self, before_us):
        await trio.lowlevel.checkpoint()
        if self.is_away:
            raise StoreUnavailable("the database is away")
        self.rows = [row for row in self.rows if row.at_us >= before_us]


class Wall:
    """A wall clock that goes with the scheduler's, and can be put forward or back."""

    def __init__(self, at_us=NOW_US):
        self.offset_us = at_us - int(trio.current_time() * 1_000_000)

    def __call__(self):
        return self.offset_us + int(trio.current_time() * 1_000_000)

    def step(self, by_s):
        self.offset_us += int(by_s * 1_000_000)


async def live_for(life_s, work, *args):
    """Run something and kill it after a while, without telling it beforehand that its time is short."""
    async with trio.open_nursery() as life:

        async def whole_life():
            await work(*args)
            life.cancel_scope.cancel()

        life.start_soon(whole_life)
        await trio.sleep(life_s)
        life.cancel_scope.cancel()


class Vendor:
    """Notes when requests reach it, and takes its time to answer."""

    def __init__(self, *, way_s=0.0, work_s=0.0):
        self.arrivals = []
        self.way_s, self.work_s = way_s, work_s

    async def answer(self, _=None, n=1):
        await trio.sleep(self.way_s() if callable(self.way_s) else self.way_s)
        self.arrivals += [trio.current_time()] * n
        await trio.sleep(self.work_s() if callable(self.work_s) else self.work_s)

    def violations(self, *windows):
        """Every moment from which a closed sliding window sees more than its limit."""
        arrivals = sorted(self.arrivals)
        return [
            (window, start)
            for window in windows
            for start in arrivals
            if sum(start <= at <= start + window.window_s for at in arrivals) > window.requests
        ]
