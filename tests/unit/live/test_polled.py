"""A collected series with followers while its feed does not work: bars come as history, and each is told."""

from contextlib import asynccontextmanager

import trio
from unit.live.fakes import BARS, FakeProvider, World, streaming

from timebase.errors import Upstream
from timebase.live.collector import Collector, run_collector
from timebase.live.feeds import Feeds, run_feeds
from timebase.live.healer import Healer, run_healer
from timebase.model.bars import Batch, Durable, Outcome
from timebase.model.collected import Collected
from timebase.model.interval import Interval
from timebase.model.timerange import MINUTE_US
from timebase.streaming.event import BarRows
from timebase.streaming.hub import Hub


class Polled(World):
    """With a real hub and collector; what history fetches goes by the hub, as on the road."""

    def __init__(self, *providers, **settings):
        super().__init__(*providers, **settings)
        self.hub = Hub(self.clock)
        shared = {"store": self.store, "settings": self.settings, "clock": self.clock}
        self.healer = Healer(historian=self, hub=self.hub, delay_s=lambda _: 0.0, **shared)
        self.feeds = Feeds(
            wants=self.wants, router=self.router, roster=self.roster, hub=self.hub, healer=self.healer, **shared
        )
        self.collector = Collector(
            wants=self.wants, feeds=self.feeds, historian=self, roster=self.roster, delay_s=lambda _: 0.0, **shared
        )
        self.hub.attach(self.wants, self.feeds)
        self.store.list = [Collected("BTC-USDT", Interval.M1)]

    async def complete(self, question, attempts):
        before = {at for series in self.store.bars.values() for at in series.time.tolist()}
        done = await self.historian.complete(question, attempts)
        bars = await self.store.read(done.series, question.range)
        fresh = bars.pick([at not in before for at in bars.time.tolist()])
        batch = Batch(1, done.series, question.range, Outcome.COMPLETE, question.reason, self.clock(), fresh)
        show = self.hub.publish_healed if question.reason == "backfill" else self.hub.publish_polled
        show(Durable(batch))
        return done

    @asynccontextmanager
    async def running(self):
        async with trio.open_nursery() as nursery:
            await nursery.start(run_healer, self.healer)
            await nursery.start(run_feeds, self.feeds)
            await nursery.start(run_collector, self.collector)
            yield
            nursery.cancel_scope.cancel()


async def told_bars(follower, begun):
    """(minute, status) of each, of all that waits."""
    told = []
    with trio.move_on_after(1):
        while True:
            rows = [event.content for event in await follower.next() if isinstance(event.content, BarRows)]
            told += [((at - begun) // MINUTE_US, each.status.value) for each in rows for at in each.bars.time.tolist()]
    return told


async def test_bars_that_are_polled_until_the_first_feed_works_are_told(autojump_clock):
    world = Polled(FakeProvider(streaming(), error=Upstream("the stream is broken, history is not")))
    async with world.running():
        with world.hub.follow(BARS) as follower:
            begun = world.minute
            await trio.sleep(5 * 60)
            world.vendor.error = None
            await trio.sleep(120)
            await world.trade_for(90)
            told = await told_bars(follower, begun)
    assert [minute for minute, _ in told] == list(range(-1, len(told) - 1)), told
    assert len(told) >= 7
    assert told[:5] == [(minute, "closed") for minute in range(-1, 4)]


async def test_bars_that_are_polled_while_the_feed_is_down_are_told_at_once_and_not_again(autojump_clock):
    world = Polled()
    async with world.running():
        with world.hub.follow(BARS) as follower:
            begun = world.minute
            await trio.sleep(1)
            await world.trade_for(125)
            world.vendor.error = Upstream("the stream is broken, history is not")
            world.vendor.die()
            world.vendor.become("ready")
            await trio.sleep(200)
            while_down = await told_bars(follower, begun)
            world.vendor.error = None
            await trio.sleep(120)
            await world.trade_for(90)
            told = while_down + await told_bars(follower, begun)
    assert (4, "closed") in while_down
    assert len({minute for minute, _ in told}) == len(told), told
