"""A small world without processes: providers that fail and die, a hub that takes notes, a store, a vendor's past."""

from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
import trio
from unit.router.fakes import FakeLedger, Wall, manifest

from timebase.clock import SteadyClock
from timebase.errors import StoreUnavailable, Unavailable
from timebase.history.answer import Completion, Missing
from timebase.history.cover import align
from timebase.live.feeds import Feeds, run_feeds
from timebase.live.healer import Healer, run_healer
from timebase.live.settings import LiveSettings
from timebase.live.wants import Wants
from timebase.manifest.manifest import HISTORICAL_DATA, REAL_TIME_STREAMING
from timebase.model.bars import Bars
from timebase.model.feed import FeedKind, parse_channel
from timebase.model.instrument import AssetClass, Instrument
from timebase.model.interval import Interval
from timebase.model.live import Arrival
from timebase.model.series import Series, TickSeries
from timebase.model.timerange import SECOND_US, Ranges, TimeRange
from timebase.router.router import Router

BTC = Instrument(1, "BTC-USDT", AssetClass.CRYPTO)
BARS, TRADES = parse_channel("bars:BTC-USDT:1m"), parse_channel("trades:BTC-USDT")


def streaming(slug="binance", streams=(FeedKind.TRADES, FeedKind.QUOTES), **claims):
    """A manifest that streams."""
    whole = {
        "capabilities": frozenset({HISTORICAL_DATA, REAL_TIME_STREAMING}),
        "asset_classes": frozenset({AssetClass.CRYPTO, AssetClass.STOCK}),
        "intervals": frozenset(Interval),
        "streams": frozenset(streams),
    }
    return manifest(slug, **{**whole, **claims})


@dataclass
class FakeProvider:
    """Roster's line and handle in one. `errors` are raised by the next subscriptions, `error` by all."""

    manifest: object
    state: str = "ready"
    reason: str = ""
    next_retry_us: int | None = None
    errors: list = field(default_factory=list)
    error: Exception | None = None
    subscribed: list = field(default_factory=list)  # (time, feed), each attempt
    active: dict = field(default_factory=dict)
    restarts: list = field(default_factory=list)
    roster: object = None

    @property
    def slug(self):
        return self.manifest.slug

    @property
    def feed(self):
        """The one that is subscribed."""
        (feed,) = self.active.values()
        return feed

    async def wait_ready(self):
        await trio.lowlevel.checkpoint()
        if self.state != "ready":
            raise Unavailable(f"{self.slug} is {self.state}")

    def subscribe(self, feed):
        self.subscribed.append((trio.current_time(), feed))
        error = self.errors.pop(0) if self.errors else self.error
        if error is not None:
            raise error
        self.active[feed.id] = feed

    def unsubscribe(self, feed):
        self.active.pop(feed.id, None)

    async def restart(self):
        self.restarts.append(trio.current_time())
        self.die(Unavailable("by order of the operator"))
        await trio.sleep(0.1)
        self.become("ready")

    def become(self, state):
        self.state = state
        self.roster.tell(self.slug)

    def die(self, error=None):
        """The process is gone, and with it every subscription."""
        self.become("backing_off")
        for feed in list(self.active.values()):
            self.fail(feed, error or Unavailable("killed by SIGKILL"))

    def fail(self, feed, error):
        self.active.pop(feed.id, None)
        for hook in self.roster.on_feed_end:
            hook(feed, error)


class FakeRoster:
    def __init__(self, *providers):
        self.on_change, self.on_feed_end = [], []
        self._providers = {provider.slug: provider for provider in providers}
        for provider in providers:
            provider.roster = self

    def all(self):
        return tuple(self._providers.values())

    def get(self, slug):
        return self._providers.get(slug)

    def symbols(self):
        return tuple(each for provider in self.all() for each in provider.manifest.symbols)

    def tell(self, slug):
        for hook in self.on_change:
            hook(slug)


@dataclass
class FakeHub:
    bound: dict = field(default_factory=dict)
    states: list = field(default_factory=list)  # (state, provider, reason)
    refused: list = field(default_factory=list)
    forgotten: list = field(default_factory=list)  # feeds by number
    made_up: list = field(default_factory=list)  # (provider, time of a bar)

    def make_up(self, series, bars):
        told = [(series.provider, time) for time in bars.time.tolist()]
        self.made_up += [each for each in told if each not in self.made_up]

    def bind(self, channel, provider):
        if provider is None:
            self.bound.pop(channel, None)
        else:
            self.bound[channel] = provider

    def tell_state(self, feed, state, since_us, reason=""):
        self.states.append((state.value, feed.provider, reason))

    def forget(self, feed):
        self.forgotten.append(feed.id)

    def refuse(self, channel, code, message):
        if (str(channel), code, message) not in self.refused:
            self.refused.append((str(channel), code, message))

    def followers(self, channel):
        return 1

    def seen(self, provider="binance"):
        """The states that followers were told, one after the other."""
        return [state for state, slug, _ in self.states if slug == provider]


@dataclass
class Settled:
    settled: Ranges = field(default_factory=Ranges)


class FakeStore:
    """Instruments, series, bars and a ledger; away while `is_away`."""

    def __init__(self):
        self.is_away = False
        self.instruments = {}
        self.all_series = {}
        self.ledger = {}
        self.bars = {}
        self.first_heard = {}  # series id -> event time
        self.collected_since = {}  # series id -> when it was put on the list
        self.list = []

    async def _ask(self):
        await trio.lowlevel.checkpoint()
        if self.is_away:
            raise StoreUnavailable("connection refused")

    async def instrument(self, symbol):
        await self._ask()
        return self.instruments.get(symbol)

    async def upsert_instruments(self, given):
        await self._ask()
        for each in given:
            known = Instrument(len(self.instruments) + 1, each.symbol, each.asset_class, timezone=each.timezone)
            self.instruments.setdefault(each.symbol, known)
        return tuple(self.instruments[each.symbol] for each in given)

    async def series(self, instrument, provider, interval):
        await self._ask()
        key = (instrument.id, provider, interval)
        fresh = Series(len(self.all_series) + 1, instrument.id, instrument.symbol, provider, interval)
        return self.all_series.setdefault(key, fresh)

    async def tick_series(self, instrument, provider, kind):
        await self._ask()
        return TickSeries(1, instrument.id, instrument.symbol, provider, kind)

    async def series_of(self, instrument_id):
        await self._ask()
        return tuple(series for key, series in self.all_series.items() if key[0] == instrument_id)

    async def coverage(self, series_id):
        await self._ask()
        return Settled(self.ledger.get(series_id, Ranges()))

    async def first_heard_us(self, series):
        await self._ask()
        return self.first_heard.get(series.id)

    async def collected_since_us(self, series):
        await self._ask()
        return self.collected_since.get(series.id)

    async def read(self, series, within, *, limit=None):
        await self._ask()
        return self.bars.get(series.id, Bars.empty()).within(within.start_us, within.end_us)

    def put(self, series_id, bars, covers):
        kept = self.bars.get(series_id, Bars.empty())
        whole = Bars.concat((kept.pick(~np.isin(kept.time, bars.time)), bars))
        self.bars[series_id] = whole.pick(np.argsort(whole.time, kind="stable"))
        self.ledger[series_id] = self.ledger.get(series_id, Ranges()) | Ranges((covers,))

    async def collected(self):
        await self._ask()
        return tuple(self.list)

    async def collect(self, line):
        await self._ask()
        self.list.append(line)

    async def uncollect(self, line):
        await self._ask()
        self.list = [each for each in self.list if each != line]


class FakeHistorian:
    """The past of a vendor that has a bar of each minute, `behind_s` after it is over. `errors` come first.

    The vendor's clock is right. We ask by the wall's, and believe what is over by the earliest that it can be.
    """

    def __init__(self, store, clock, wall, earliest_us, provider="binance"):
        self._store, self._clock, self._provider = store, clock, provider
        self._wall, self._earliest_us = wall, earliest_us
        self.asked = []  # (time, question)
        self.errors = []
        self.behind_s = 0.0
        self.missing = ()

    async def complete(self, question, attempts):
        self.asked.append((trio.current_time(), question))
        await trio.sleep(0.05)
        if self.errors:
            raise self.errors.pop(0)
        slug = question.provider or self._provider
        (instrument,) = await self._store.upsert_instruments((Instrument(0, question.symbol, AssetClass.CRYPTO),))
        series = await self._store.series(instrument, slug, question.interval)
        settled = self._store.ledger.get(series.id, Ranges())
        asked = align(question.range, question.interval, self._wall())
        if asked is None or (not question.refresh and not Ranges((asked,)) - settled):
            return Completion(series, (), (), 0, 0, ())
        if lacks := tuple(each for each in self.missing if each.range.intersect(asked)):
            return Completion(series, (), lacks, 0, 0, ())
        over_us = question.interval.floor_us(self._clock() - int(self.behind_s * SECOND_US))
        step_us = question.interval.us
        time = np.arange(asked.start_us, min(asked.end_us, max(over_us, asked.start_us)), step_us)
        price = time / 1e12
        self._store.put(series.id, Bars.of(time, price, price, price, price, price), asked)
        self._store.ledger[series.id] &= Ranges((TimeRange(0, max(self._earliest_us(), 1)),))
        return Completion(series, (), (), len(time), 0, ())

    def ranges(self):
        return [question.range for _, question in self.asked]


def missing(range_, why="the provider broke off"):
    return (Missing(range_, why),)


class World:
    """Feeds and healer over fakes, on trio's virtual clock. `true` is the time; `clock`, the wall's, may step."""

    def __init__(self, *providers, **settings):
        self.true, self.clock = Wall(), Wall()
        self.steady = SteadyClock(self.clock, self.true)
        self.providers = providers or (FakeProvider(streaming()),)
        self.vendor = self.providers[0]
        self.roster = FakeRoster(*self.providers)
        self.store = FakeStore()
        self.hub = FakeHub()
        self.settings = LiveSettings(**settings)
        self.wants = Wants(self.settings.linger_s)
        self.router = Router(self.roster, FakeLedger(), wall_us=self.clock)
        self.historian = FakeHistorian(self.store, self.true, self.clock, self.steady.earliest_us)
        shared = {"store": self.store, "settings": self.settings, "clock": self.clock}
        self.healer = Healer(
            historian=self.historian, hub=self.hub, delay_s=lambda _: 0.0,
            earliest_us=lambda: self.steady.earliest_us(), **shared,
        )  # fmt: skip
        self.jammed = False
        self.feeds = Feeds(
            wants=self.wants, router=self.router, roster=self.roster, hub=self.hub, healer=self.healer,
            is_jammed=lambda: self.jammed, **shared,
        )  # fmt: skip

    @asynccontextmanager
    async def running(self):
        async with trio.open_nursery() as nursery:
            await nursery.start(run_healer, self.healer)
            await nursery.start(run_feeds, self.feeds)
            yield nursery
            nursery.cancel_scope.cancel()

    def tick(self, provider=None, event_us=None, oldest_us=None):
        """A trade comes, or several from `oldest_us` on."""
        for feed in (provider or self.vendor).active.values():
            at_us = self.true() if event_us is None else event_us
            self.feeds.note(feed, self.clock(), at_us, 1, oldest_us=at_us if oldest_us is None else oldest_us)

    def say(self, provider=None, **word):
        for feed in (provider or self.vendor).active.values():
            self.feeds.hear(Arrival(feed, self.clock(), **word))

    def pulse(self):
        self.say(pulse_us=self.true())

    async def trade_for(self, seconds, every_s=1.0, *, pulses=False):
        for _ in range(int(seconds / every_s)):
            self.tick()
            if pulses:
                self.pulse()
            await trio.sleep(every_s)

    def state(self):
        (fact,) = self.feeds.facts()
        return fact["state"]

    @property
    def minute(self):
        """The opening instant of the minute that runs."""
        return Interval.M1.floor_us(self.true())


def span(first_us, last_us):
    return TimeRange(first_us, last_us)
