"""The machine's wall clock steps while feeds are live: nothing is made anew for it, nothing believed too early."""

import pytest
import trio
from unit.live.fakes import BARS, FakeProvider, World, streaming

from timebase.clock import SteadyClock
from timebase.live.collector import Collector, run_collector
from timebase.manifest.manifest import HISTORICAL_DATA
from timebase.model.collected import Collected
from timebase.model.interval import Interval
from timebase.model.timerange import MINUTE_US, SECOND_US

HOUR_S = 3600.0

either_way = pytest.mark.parametrize("step_s", [HOUR_S, -HOUR_S], ids=["forward", "back"])


@either_way
async def test_no_feed_is_made_anew_and_none_changes_its_state(autojump_clock, step_s):
    world = World()
    async with world.running():
        world.wants.want(BARS)
        await trio.sleep(1)
        await world.trade_for(120, every_s=2, pulses=True)
        world.clock.step(step_s)
        await trio.sleep(1.5)  # everything is judged between two trades
        await world.trade_for(120, every_s=2, pulses=True)
        assert len(world.vendor.subscribed) == 1
        assert world.vendor.restarts == []
        assert world.hub.seen() == ["connecting", "live"]
        assert world.feeds.facts()[0]["usual_pause_s"] == pytest.approx(2, rel=0.5)


@either_way
async def test_a_quiet_market_stays_quiet(autojump_clock, step_s):
    world = World()
    async with world.running():
        world.wants.want(BARS)
        await trio.sleep(1)
        await world.trade_for(120, every_s=2, pulses=True)
        world.clock.step(step_s)
        for _ in range(30):
            world.pulse()
            await trio.sleep(2)
        assert len(world.vendor.subscribed) == 1
        assert world.hub.seen() == ["connecting", "live", "quiet"]


@either_way
async def test_a_mute_feed_is_found_as_soon_as_ever(autojump_clock, step_s):
    world = World()
    async with world.running():
        world.wants.want(BARS)
        await trio.sleep(1)
        await world.trade_for(120, every_s=2)
        world.clock.step(step_s)
        fell_at = trio.current_time()
        await trio.sleep(30)
        assert [at - fell_at for at, _ in world.vendor.subscribed[1:]] == [pytest.approx(10, abs=3)]


@either_way
async def test_a_connection_that_is_down_is_left_to_the_plugin_as_long_as_ever(autojump_clock, step_s):
    world = World(down_s=120)
    async with world.running():
        world.wants.want(BARS)
        await trio.sleep(1)
        await world.trade_for(20, every_s=2, pulses=True)
        world.say(is_up=False, reason="reset")
        world.clock.step(step_s)
        await trio.sleep(110)
        assert len(world.vendor.subscribed) == 1
        await trio.sleep(15)
        assert len(world.vendor.subscribed) == 2


@either_way
async def test_the_clock_of_the_data_goes_on_evenly(autojump_clock, step_s):
    world = World()
    async with world.running():
        world.wants.want(BARS)
        await trio.sleep(1)
        await world.trade_for(20, every_s=2, pulses=True)
        world.clock.step(step_s)
        await trio.sleep(5)
        assert world.feeds.event_now_us("BTC-USDT", "binance") == pytest.approx(world.true(), abs=SECOND_US)


# --- healing ---


def stored(world):
    """The minutes that the store has, and what the ledger claims."""
    series = world.vendor.feed.bars[Interval.M1]
    return world.store.bars[series.id].time.tolist(), world.store.ledger[series.id]


@either_way
async def test_a_gap_is_healed_whole_and_the_future_is_not_believed_to_be_empty(autojump_clock, step_s):
    """The vendor's history is behind by a little; the clock is wrong for ten minutes, in which the feed is cut."""
    world = World()
    world.historian.behind_s = 20
    async with world.running():
        world.wants.want(BARS)
        await trio.sleep(1)
        await world.trade_for(130)
        lost = world.minute
        world.clock.step(step_s)
        world.say(is_up=False, reason="cut")
        await trio.sleep(120)
        world.say(is_up=True)
        back = world.minute
        await world.trade_for(480)
        world.clock.step(-step_s)
        await world.trade_for(120)
        minutes, ledger = stored(world)
        assert set(range(lost, back + MINUTE_US, MINUTE_US)) <= set(minutes)
        assert max(part.end_us for part in ledger.parts) <= world.minute
        assert world.healer.outcomes.keys() == {("binance", "healed")}


async def test_nothing_is_asked_for_sooner_than_it_can_be_had_because_the_clock_is_ahead(autojump_clock):
    world = World(settle_s=30)
    async with world.running():
        world.wants.want(BARS)
        await trio.sleep(1)
        world.clock.step(HOUR_S)
        joined = trio.current_time()
        world.tick()
        over_s = 60 - (world.true() - world.minute) / SECOND_US
        await trio.sleep(200)
        assert [at - joined for at, _ in world.historian.asked] == [pytest.approx(over_s + 30, abs=1)]


async def test_a_clock_that_was_behind_and_is_put_right_wakes_who_waits_for_it(autojump_clock):
    world = World()
    async with world.running():
        world.wants.want(BARS)
        await trio.sleep(1)
        world.clock.step(-HOUR_S)
        await world.trade_for(300)
        assert world.historian.asked == []  # history asks nobody for what is later than its clock
        world.clock.step(HOUR_S)
        await trio.sleep(12)
        assert world.healer.outcomes == {("binance", "healed"): 1}


async def test_a_clock_that_was_behind_at_the_start_and_is_put_right_holds_nothing_up(autojump_clock):
    world = World()
    world.clock.step(-HOUR_S)
    world.steady = SteadyClock(world.clock, world.true)
    world.clock.step(HOUR_S)
    async with world.running():
        world.wants.want(BARS)
        await trio.sleep(1)
        await world.trade_for(70)
        assert world.healer.outcomes == {("binance", "healed"): 1}


# --- what is polled ---


@either_way
async def test_every_bar_that_is_polled_is_there_in_the_end_and_none_of_the_future_is_believed_missing(
    autojump_clock, step_s
):
    vendor = FakeProvider(streaming(capabilities=frozenset({HISTORICAL_DATA}), streams=()))
    world = World(vendor)
    world.store.list = [Collected("BTC-USDT", Interval.M1)]
    collector = Collector(
        wants=world.wants, feeds=world.feeds, historian=world.historian, store=world.store, roster=world.roster,
        delay_s=lambda _: 0.0, settings=world.settings, clock=world.clock, earliest_us=world.steady.earliest_us,
    )  # fmt: skip
    async with world.running() as nursery:
        await nursery.start(run_collector, collector)
        await trio.sleep(310)
        first = world.minute
        world.clock.step(step_s)
        await trio.sleep(600)
        world.clock.step(-step_s)
        await trio.sleep(HOUR_S + 600)
        (series,) = world.store.all_series.values()
        told = world.store.bars[series.id].time.tolist()
        assert set(range(first - 5 * MINUTE_US, world.minute - MINUTE_US, MINUTE_US)) <= set(told)
