"""The collector's list: wanted as streams, asked for as history where nobody streams."""

import trio
from unit.live.fakes import BTC, FakeProvider, World, span, streaming

from timebase.errors import AllProvidersFailed
from timebase.live.collector import Collector, channel_of, run_collector
from timebase.manifest.manifest import HISTORICAL_DATA
from timebase.model.collected import Collected
from timebase.model.instrument import AssetClass, Instrument
from timebase.model.interval import Interval
from timebase.model.timerange import MINUTE_US, Ranges

LINE = Collected("BTC-USDT", Interval.M1)
PINNED = Collected("BTC-USDT", Interval.M1, "binance")


def polled(**claims):
    return FakeProvider(streaming(capabilities=frozenset({HISTORICAL_DATA}), streams=(), **claims))


def collector_of(world):
    return Collector(
        wants=world.wants, feeds=world.feeds, historian=world.historian, store=world.store, roster=world.roster,
        delay_s=lambda _: 0.0, settings=world.settings, clock=world.clock,
        earliest_us=world.steady.earliest_us,
    )  # fmt: skip


async def test_the_list_is_kept_and_changed_while_it_runs(autojump_clock):
    world = World()
    collector = collector_of(world)
    world.store.list = [PINNED]
    async with world.running() as nursery:
        await nursery.start(run_collector, collector)
        await trio.sleep(1)
        assert world.vendor.active
        await collector.add(LINE)
        await collector.add(LINE)
        assert collector.all() == (LINE, PINNED)
        await trio.sleep(1)
        assert len(world.vendor.active) == 1  # one feed of trades for both
        await collector.remove(LINE)
        await collector.remove(PINNED)
        await trio.sleep(1)
        assert not world.vendor.active
        assert world.store.list == []


async def test_what_is_streamed_is_not_asked_for(autojump_clock):
    world = World()
    collector = collector_of(world)
    world.store.list = [LINE]
    async with world.running() as nursery:
        await nursery.start(run_collector, collector)
        await trio.sleep(1)
        await world.trade_for(300)
        assert {question.reason for _, question in world.historian.asked} == {"backfill"}  # the first, partial minute
        assert collector.facts()[0]["by"] == "stream"


async def test_what_nobody_streams_is_asked_for_at_the_end_of_each_period(autojump_clock):
    world = World(polled())
    collector = collector_of(world)
    world.store.list = [LINE]
    async with world.running() as nursery:
        await nursery.start(run_collector, collector)
        await trio.sleep(310)
        asked = world.historian.ranges()
        assert [each.length_us for each in asked] == [MINUTE_US] * 6
        assert len(Ranges.of(asked).parts) == 1
        assert {question.reason for _, question in world.historian.asked} == {"live"}
        assert collector.facts()[0]["by"] == "history"


async def test_what_could_not_be_had_comes_with_the_next_period(autojump_clock):
    world = World(polled())
    world.historian.errors = [AllProvidersFailed("BTC-USDT", ())] * 3
    collector = collector_of(world)
    world.store.list = [LINE]
    async with world.running() as nursery:
        await nursery.start(run_collector, collector)
        await trio.sleep(130)
        assert collector.facts()[0]["reason"].startswith("all_providers_failed")
        await trio.sleep(120)
        assert world.historian.ranges()[-2].length_us == 4 * MINUTE_US
        assert collector.facts()[0]["reason"] == ""


async def test_after_a_restart_it_goes_on_where_it_had_stopped(autojump_clock):
    world = World(polled())
    collector = collector_of(world)
    world.store.list = [LINE]
    (btc,) = await world.store.upsert_instruments((BTC,))
    series = await world.store.series(btc, "binance", Interval.M1)
    stopped = world.minute - 50 * MINUTE_US
    world.store.ledger[series.id] = Ranges((span(0, stopped),))
    async with world.running() as nursery:
        await nursery.start(run_collector, collector)
        await trio.sleep(70)
        assert Ranges.of(world.historian.ranges()) == Ranges((span(stopped, world.minute),))
        assert world.historian.ranges()[0].length_us == 50 * MINUTE_US


async def test_while_the_feeds_are_down_history_stands_in(autojump_clock):
    world = World()
    collector = collector_of(world)
    world.store.list = [LINE]
    async with world.running() as nursery:
        await nursery.start(run_collector, collector)
        await trio.sleep(1)
        await world.trade_for(125)
        world.vendor.die()
        await trio.sleep(130)
        assert [question.reason for _, question in world.historian.asked][-2:] == ["live", "live"]
        assert channel_of(LINE) in world.wants.all()


async def test_in_the_night_nobody_is_asked(autojump_clock):
    aapl = Instrument(0, "AAPL", AssetClass.STOCK, timezone="America/New_York")
    world = World(polled(symbols=(aapl,)))
    collector = collector_of(world)
    world.store.list = [Collected("AAPL", Interval.M1)]
    async with world.running() as nursery:
        await nursery.start(run_collector, collector)
        await trio.sleep(600)  # the fakes' clock begins at midnight UTC
        assert world.historian.asked == []
