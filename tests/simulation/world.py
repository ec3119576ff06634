"""One seeded life of the live road, without processes and without waiting: real feeds, rhythm, healer, validator,
aggregator and hub; a market whose truth is known; a vendor, a link, a store and followers that misbehave by the seed.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import trio
from trio.testing import MockClock
from unit.live.fakes import BARS, TRADES, FakeProvider, FakeRoster, FakeStore, streaming
from unit.router.fakes import FakeLedger, Wall

from timebase.aggregation.aggregator import run_aggregator
from timebase.aggregation.bar_builder import Building
from timebase.aggregation.rebuild import rebuild
from timebase.clock import SteadyClock
from timebase.errors import AllProvidersFailed, StoreUnavailable, Unavailable, Upstream
from timebase.history.answer import Completion
from timebase.history.cover import align
from timebase.live.feeds import Feeds, run_feeds
from timebase.live.healer import Healer, run_healer
from timebase.live.settings import LiveSettings
from timebase.live.wants import Wants
from timebase.model.bars import Bars, Batch, Durable, Flag, Outcome
from timebase.model.feed import Feed
from timebase.model.instrument import AssetClass, Instrument
from timebase.model.interval import Interval
from timebase.model.live import Arrival, BarStatus, DurableLive, Live
from timebase.model.ticks import Trades
from timebase.model.timerange import DAY_US, HOUR_US, MINUTE_US, SECOND_US, Ranges, TimeRange
from timebase.quality.live import Refusals
from timebase.quality.validator import run_validator
from timebase.router.router import Router
from timebase.streaming.event import BarRows
from timebase.streaming.hub import Hub, run_hub
from timebase.turn import Turn

TROUBLE_S = 480.0  # so long things go wrong
CALM_S = 420.0  # so long everything has to become right again
HOUR_S = 3600.0
LATENESS_US = 500_000
DELAY_S = 0.4  # on the link, at most: less than the lateness
TOGETHER_US = 50_000
STALE_US = (365 * DAY_US, HOUR_US, 5 * MINUTE_US, 130 * SECOND_US, 61 * SECOND_US, 20 * SECOND_US, 3 * SECOND_US)
IN_FLIGHT = 4


@dataclass(frozen=True, slots=True)
class Market:
    """What really happened. `tape` is every trade, in order."""

    tape: Trades

    @classmethod
    def of(cls, draw: random.Random, start_us: int, seconds: float) -> "Market":
        pause_s = draw.choice((0.3, 1.0, 2.0))
        at_s, times = 0.0, []
        while at_s < seconds:
            times.append(start_us + int(at_s * SECOND_US))
            at_s += draw.expovariate(1 / pause_s) + (draw.uniform(60, 150) if draw.random() < 0.002 else 0.001)
        n = len(times)
        price = [100 + draw.randint(-99, 99) / 8 for _ in range(n)]
        size = [draw.randint(1, 64) / 8 for _ in range(n)]
        return cls(Trades.of(times, price, size, id=range(1, n + 1)))

    def bars(self) -> Bars:
        return rebuild(self.tape, intervals=[Interval.M1])[Interval.M1].bars


@dataclass(slots=True)
class Vendor(FakeProvider):
    """Streams the market to every feed that is subscribed, over a link that delays, reorders, repeats and is cut."""

    is_cut: bool = False
    is_mute: bool = False
    on_subscribe: Callable[[Feed], None] = lambda feed: None

    __hash__ = object.__hash__

    def subscribe(self, feed):
        FakeProvider.subscribe(self, feed)
        self.on_subscribe(feed)


@dataclass(slots=True)
class Seen:
    """What one follower was told of the minutes, in order; `holes` and `repeats` are numbers that did not follow."""

    first_us: int
    told: list = field(default_factory=list)  # (status, time, values)
    next_seq: int | None = None
    faults: list = field(default_factory=list)


class Writer:
    """ready -> durable: the ledger claims what closed, and history what it covers. Keeps nothing while `is_full`."""

    def __init__(self, store, clock, draw, turn):
        self._store, self._clock, self._draw, self._turn = store, clock, draw, turn
        self.is_full = False

    async def run(self, inbox, outbox):
        async with inbox, outbox:
            while True:
                with self._turn.free():
                    item = await inbox.receive()
                await trio.sleep(self._draw.choice((0.0, 0.002, 0.02)))
                if self.is_full:
                    lost = Durable(item) if isinstance(item, Batch) else DurableLive(item, None, self._clock())
                    await outbox.send(replace(lost, error="the database is away, and the spool is full"))
                    continue
                if isinstance(item, Batch):
                    self._store.put(item.series.id, item.bars, item.covers)
                    await outbox.send(Durable(item))
                    continue
                for update in item.updates:
                    if update.status in (BarStatus.CLOSED, BarStatus.REVISED):
                        for at, open_us in enumerate(update.bars.time.tolist()):
                            covers = TimeRange(open_us, update.series.interval.end_us(open_us))
                            self._store.put(update.series.id, update.bars.pick(slice(at, at + 1)), covers)
                await outbox.send(DurableLive(item, 1, self._clock()))


class History:
    """The vendor's past, down the same road: exact, but now and then it fails or lags behind."""

    def __init__(self, world):
        self._world = world
        self._waiting = {}
        self._lost = set()
        self.asked = 0

    async def complete(self, question, attempts):
        world = self._world
        self.asked += 1
        await trio.sleep(world.draw.uniform(0.01, 1.0))
        is_calm = trio.current_time() > TROUBLE_S
        if not is_calm and world.draw.random() < 0.2:
            raise world.draw.choice((AllProvidersFailed(question.symbol, ()), StoreUnavailable("away")))
        instrument = await world.store.instrument(question.symbol)
        series = await world.store.series(instrument, question.provider, question.interval)
        settled = world.store.ledger.get(series.id, Ranges())
        asked = align(question.range, question.interval, world.clock())
        gaps = (Ranges() if asked is None else Ranges((asked,))) - (Ranges() if question.refresh else settled)
        for gap in gaps.parts:
            await self._bring(series, gap, 0.0 if is_calm else world.draw.choice((0.0, 0.0, 8.0)))
        return Completion(series, (), (), 0, 0, ())

    async def _bring(self, series, gap, behind_s):
        world = self._world
        bars = world.truth.within(gap.start_us, min(gap.end_us, world.true() - int(behind_s * SECOND_US) - MINUTE_US))
        bars = replace(bars, flags=bars.flags | np.int16(Flag.BACKFILLED))
        demand_id = len(self._waiting) + 1
        self._waiting[demand_id] = trio.Event()
        outcome = Outcome.COMPLETE if len(bars) else Outcome.EMPTY
        await world.raw_in.send(Batch(demand_id, series, gap, outcome, "backfill", world.clock(), bars, is_last=True))
        await self._waiting[demand_id].wait()
        if demand_id in self._lost:
            raise StoreUnavailable("the database is away, and the spool is full")

    async def run(self, inbox):
        async with inbox:
            async for durable in inbox:
                if durable.error:
                    self._lost.add(durable.batch.demand_id)
                self._waiting[durable.batch.demand_id].set()


class World:
    """`seed` decides everything.

    `has_plagues`: things go wrong outside; `has_steps`: the wall clock does; `fills_spool`: at times nothing can be
    stored.
    """

    def __init__(self, seed, *, has_plagues=True, has_steps=False, fills_spool=False):
        self.fills_spool = fills_spool
        self.draw = random.Random(seed)
        self.clock_draw = random.Random(seed)  # one of its own: the rest of a life is the same with steps and without
        self.has_plagues, self.has_steps = has_plagues, has_steps
        self.refusals = Refusals()
        self.true, self.clock = Wall(), Wall()  # what time it is, and what the machine's wall clock says
        self.steady = SteadyClock(self.clock, self.true)
        self.start_us = self.true()
        self.market = Market.of(self.draw, self.start_us, TROUBLE_S + CALM_S)
        self.truth = self.market.bars()
        self.store = FakeStore()
        self.vendor = Vendor(streaming())
        self.roster = FakeRoster(self.vendor)
        self.settings = LiveSettings(linger_s=5.0, settle_s=3.0)
        self.wants = Wants(self.settings.linger_s)
        self.hub = Hub(self.clock)
        self.raw_in, self.raw_out = trio.open_memory_channel(IN_FLIGHT)
        self.history = History(self)
        shared = {"store": self.store, "settings": self.settings, "clock": self.clock}
        self.healer = Healer(
            historian=self.history, hub=self.hub, delay_s=lambda _: 0.0, earliest_us=self.steady.earliest_us, **shared
        )
        router = Router(self.roster, FakeLedger(), wall_us=self.clock)
        self.feeds = Feeds(
            wants=self.wants, router=router, roster=self.roster, hub=self.hub, healer=self.healer,
            **shared | {"clock": self.steady.earliest_us},
        )  # fmt: skip
        self.hub.attach(self.wants, self.feeds)
        self.turn = Turn()
        self.writer = Writer(self.store, self.clock, self.draw, self.turn)
        self.followers = []
        self.deepest = 0

    async def run(self):
        channels = [trio.open_memory_channel(IN_FLIGHT) for _ in range(4)]
        (good_in, good_out), (ready_in, ready_out), (durable_in, durable_out), (past_in, past_out) = channels
        build = Building(lateness_us=LATENESS_US)
        async with trio.open_nursery() as road:
            road.start_soon(self.history.run, past_out)
            await road.start(run_hub, durable_out, past_in, self.hub)
            road.start_soon(self.writer.run, ready_out, durable_in)
            road.start_soon(lambda: run_aggregator(good_out, ready_in, building=build, turn=self.turn))
            validate = partial(run_validator, latest_us=self.steady.latest_us, refusals=self.refusals)
            road.start_soon(validate, self.raw_out, good_in)
            await road.start(run_healer, self.healer)
            await road.start(run_feeds, self.feeds)
            self.vendor.on_subscribe = lambda feed: road.start_soon(self.greet, feed)
            road.start_soon(self.play)
            if self.has_plagues:
                road.start_soon(self.trouble)
            if self.has_steps:
                road.start_soon(self.step)
            road.start_soon(self.watch)
            for n in range(3):
                road.start_soon(self.follow, self.draw.uniform(0, TROUBLE_S) if n else 0.0)
            await trio.sleep(TROUBLE_S + CALM_S)
            road.cancel_scope.cancel()

    # --- the vendor and the link ---

    async def play(self):
        """Trade by trade, some at once; what a cut catches on its way is lost, and the feed hears of the cut after."""
        (link_in, link), tape = trio.open_memory_channel(10_000), self.market.tape
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.carry, link)
            nursery.start_soon(self.pulse)
            at = 0
            while at < len(tape):
                # What waits for others to go with it waits no longer than a pulse may be wrong.
                near = int(np.searchsorted(tape.time, tape.time[at] + TOGETHER_US))
                part = tape.pick(slice(at, min(near, at + self.draw.choice((1, 1, 1, 2, 5)))))
                at += len(part)
                await trio.sleep(max(0.0, (int(part.time[-1]) - self.true()) / SECOND_US))
                if not self.vendor.is_cut and not self.vendor.is_mute:
                    for _ in range(2 if self.draw.random() < 0.05 else 1):
                        await link_in.send((dict(self.vendor.active), part))

    async def greet(self, feed):
        """Some begin with the last trade that they have, whenever that was, and some with one more."""
        # While the clock is an hour behind, nobody can tell what happened in that hour from what happens now.
        ages_us = STALE_US[:1] if self.has_steps else STALE_US
        for age_us in self.draw.sample(ages_us, min(len(ages_us), self.draw.choice((0, 1, 1, 2)))):
            at = int(np.searchsorted(self.market.tape.time, self.true() - age_us)) - 1
            last = Trades.of([self.true() - age_us], [1.0], [1.0], id=[self.draw.randrange(1 << 40, 1 << 41)])
            await self.raw_in.send(
                Live(
                    (Arrival(feed, self.steady.earliest_us(), trades=last if at < 0 else self.market.tape.pick([at])),)
                )
            )

    async def carry(self, link):
        async with trio.open_nursery() as nursery:
            async for feeds, part in link:
                nursery.start_soon(self.deliver, feeds, part)

    async def deliver(self, feeds, part):
        """After a while of its own: later ones overtake it. A connection that ended meanwhile takes it with it."""
        await trio.sleep(self.draw.uniform(0, DELAY_S))
        arrivals = tuple(
            Arrival(feed, self.steady.earliest_us(), trades=part)
            for id_, feed in feeds.items()
            if id_ in self.vendor.active
        )
        if arrivals and not self.vendor.is_cut:
            await self.raw_in.send(Live(arrivals))

    async def pulse(self):
        while True:
            await trio.sleep(2.0)
            if not self.vendor.is_cut and not self.vendor.is_mute:
                # Nothing older is to come: what the link may still delay is within the lateness.
                await self.say(pulse_us=self.true())

    async def say(self, **word):
        arrivals = tuple(Arrival(feed, self.steady.earliest_us(), **word) for feed in self.vendor.active.values())
        if arrivals:
            await self.raw_in.send(Live(arrivals))

    # --- what goes wrong ---

    async def trouble(self):
        plagues = (self.cut, self.die, self.go_mute, self.refuse, self.lose_store)
        plagues += (self.fill_spool,) * 2 if self.fills_spool else ()
        await trio.sleep(self.draw.uniform(5, 60))
        while trio.current_time() < TROUBLE_S - 100:
            await self.draw.choice(plagues)()
            await trio.sleep(self.draw.uniform(1, 90))

    async def step(self):
        """An hour forward or back, now and then, and right again after a while."""
        await trio.sleep(self.clock_draw.uniform(5, 60))
        while trio.current_time() < TROUBLE_S - 100:
            by_s = self.clock_draw.choice((-HOUR_S, HOUR_S))
            self.clock.step(by_s)
            await trio.sleep(self.clock_draw.uniform(1, 100))
            self.clock.step(-by_s)
            await trio.sleep(self.clock_draw.uniform(1, 60))

    async def cut(self):
        self.vendor.is_cut = True
        await self.say(is_up=False, reason="connection reset")
        await trio.sleep(self.draw.uniform(1, 95))
        self.vendor.is_cut = False
        await self.say(is_up=True)
        for feed in tuple(self.vendor.active.values()):
            await self.greet(feed)

    async def die(self):
        feeds = tuple(self.vendor.active.values())
        self.vendor.die(Unavailable("killed by SIGKILL"))
        for feed in feeds:
            await self.raw_in.send(Live((Arrival(feed, self.steady.earliest_us(), is_up=False, reason="killed"),)))
        await trio.sleep(self.draw.uniform(0.2, 30))
        self.vendor.become("ready")

    async def go_mute(self):
        self.vendor.is_mute = True
        await trio.sleep(self.draw.uniform(5, 95))
        self.vendor.is_mute = False
        # A connection that was mute and talks again has lost what was said meanwhile, and nobody can tell: such a
        # vendor says that it reconnected, or the feed has been made anew in the meantime.
        await self.say(is_up=False, reason="reconnected")
        await self.say(is_up=True)

    async def refuse(self):
        self.vendor.errors = [Upstream("no route")] * self.draw.randint(1, 4)
        for feed in tuple(self.vendor.active.values()):
            self.vendor.fail(feed, Upstream("closed"))
            await self.raw_in.send(Live((Arrival(feed, self.steady.earliest_us(), is_up=False, reason="closed"),)))

    async def lose_store(self):
        self.store.is_away = True
        await trio.sleep(self.draw.uniform(1, 20))
        self.store.is_away = False

    async def fill_spool(self):
        self.store.is_away = self.writer.is_full = True
        await trio.sleep(self.draw.uniform(1, 150))
        self.store.is_away = self.writer.is_full = False

    # --- who looks ---

    async def watch(self):
        while True:
            waiting = self.raw_in.statistics().current_buffer_used
            assert waiting <= IN_FLIGHT
            self.deepest = max(self.deepest, waiting)
            await trio.sleep(0.5)

    async def follow(self, after_s):
        await trio.sleep(after_s)
        seen = Seen(Interval.M1.floor_us(self.true()) + MINUTE_US)
        self.followers.append(seen)
        with self.hub.follow(BARS, TRADES) as follower:
            seen.next_seq = self.hub.newest(BARS) + 1
            while True:
                if self.draw.random() < 0.02:
                    await trio.sleep(self.draw.uniform(0, 5))
                for event in await follower.next():
                    self.look(seen, event)

    def look(self, seen, event):
        rows = event.content
        if not isinstance(rows, BarRows) or rows.status is BarStatus.FORMING:
            return
        if event.seq != seen.next_seq:
            seen.faults.append(f"number {event.seq} instead of {seen.next_seq}")
        seen.next_seq = event.seq + len(rows)
        for at, open_us in enumerate(rows.bars.time.tolist()):
            values = tuple(float(column[at]) for column in rows.bars.columns()[1:6])
            seen.told.append((rows.status, open_us, values))

    # --- the promises ---

    def broken_promises(self):
        """Every promise that was not kept; the last minute is still under way."""
        end_us = Interval.M1.floor_us(self.true() - 20 * SECOND_US)
        truth = {
            int(open_us): tuple(float(column[at]) for column in self.truth.columns()[1:6])
            for at, open_us in enumerate(self.truth.time)
        }
        broken = []
        for n, seen in enumerate(self.followers):
            due = {at: values for at, values in truth.items() if seen.first_us <= at < end_us}
            broken += [f"follower {n}: {fault}" for fault in (*seen.faults, *self._told_wrong(seen, due))]
        broken += self._ledger_wrong({at: values for at, values in truth.items() if at < end_us})
        bound = 40 + 2 * (TROUBLE_S + CALM_S) / 30
        if len(self.vendor.subscribed) > bound:
            broken.append(f"{len(self.vendor.subscribed)} subscriptions: a storm")
        if len(self.vendor.subscribed) > 1 and not self.has_plagues:
            broken.append(f"{len(self.vendor.subscribed)} subscriptions, and nothing was wrong with the feed")
        broken += [f"honest rows were refused: {refused}" for refused in self.refusals.counts]
        return broken

    def _told_wrong(self, seen, due):
        by_minute = {}
        for status, open_us, values in seen.told:
            by_minute.setdefault(open_us, []).append((status, values))
        for open_us, told in sorted(by_minute.items()):
            said = [status for status, _ in told]
            firsts = [status for status in said if status in (BarStatus.CLOSED, BarStatus.MISSING)]
            if len(firsts) > 1:
                yield f"minute {self._name(open_us)} was told {said}"
            if BarStatus.CLOSED in said and BarStatus.BACKFILLED in said:
                yield f"minute {self._name(open_us)} was closed, and backfilled too"
            real = [values for status, values in told if status is not BarStatus.MISSING]
            if real and open_us in due and real[-1] != due[open_us]:
                yield f"minute {self._name(open_us)} is {real[-1]}, not {due[open_us]}"
            if real and real[-1][4] == 0:
                yield f"minute {self._name(open_us)} lies flat"
        told = {at for at, what in by_minute.items() if any(status is not BarStatus.MISSING for status, _ in what)}
        for open_us in sorted(set(due) - told):
            yield f"minute {self._name(open_us)} was never told"

    def _ledger_wrong(self, truth):
        key = next((key for key in self.store.all_series if key[1:] == ("binance", Interval.M1)), None)
        if key is None:
            yield "nothing was stored"
            return
        series = self.store.all_series[key]
        bars, ledger = self.store.bars.get(series.id, Bars.empty()), self.store.ledger.get(series.id, Ranges())
        for at, open_us in enumerate(bars.time.tolist()):
            values = tuple(float(column[at]) for column in bars.columns()[1:6])
            if open_us in truth and values != truth[open_us]:
                yield f"stored minute {self._name(open_us)} is {values}, not {truth[open_us]}"
        claimed = {at for at in truth if Ranges((TimeRange(at, at + MINUTE_US),)) & ledger}
        for open_us in sorted(claimed - set(bars.time.tolist())):
            yield f"the ledger claims minute {self._name(open_us)}, which is not stored"
        for open_us in sorted(at for at in set(truth) - claimed if at >= self.followers[0].first_us):
            yield f"the ledger does not know minute {self._name(open_us)}"

    def _name(self, open_us):
        return (open_us - self.start_us) // MINUTE_US


def simulate(seed, **life):
    """Live one life. Returns: the promises that were broken in it; the same seed always has the same ones."""

    async def main():
        world = World(seed, **life)
        await world.store.upsert_instruments((Instrument(0, "BTC-USDT", AssetClass.CRYPTO),))
        await world.run()
        return world.broken_promises()

    # trio shuffles tasks that are ready at the same moment; here that is the seed's to say.
    trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING = True
    trio._core._run._r.seed(seed)
    random.seed(seed)  # the jitter of the back-off
    try:
        return trio.run(main, clock=MockClock(autojump_threshold=0))
    finally:
        trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING = False
