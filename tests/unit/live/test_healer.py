"""Gaps heal: what was missed is fetched as history once its periods are over."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import trio
from unit.live.fakes import BARS, BTC, TRADES, FakeProvider, World, missing, span, streaming

from timebase.errors import AllProvidersFailed, NotSupported, Upstream
from timebase.model.bars import Bars
from timebase.model.demand import Question
from timebase.model.feed import parse_channel
from timebase.model.instrument import AssetClass, Instrument
from timebase.model.interval import Interval
from timebase.model.live import BarStatus, BarUpdate
from timebase.model.timerange import DAY_US, HOUR_US, MINUTE_US, SECOND_US, Ranges

COLLECTED = parse_channel("bars:BTC-USDT:1m@binance")


def unkept(world, first_us, n=1, status=BarStatus.CLOSED, interval=Interval.M1):
    """So many bars that nobody could store."""
    feed, column = world.vendor.feed, np.ones(n)
    bars = Bars.of(first_us + np.arange(n) * interval.us, column, column, column, column, column)
    trades, revision = np.full(n, 3), np.zeros(n, np.int32)
    return BarUpdate(feed, feed.bars[interval], status, bars, trades, column, revision, first_us)


async def test_the_first_period_after_joining_is_fetched_once_it_is_over(autojump_clock):
    world = World()
    async with world.running():
        world.wants.want(BARS)
        await trio.sleep(20)
        joined = world.minute
        world.tick()
        await trio.sleep(30)
        assert world.historian.asked == []
        await trio.sleep(20)
        assert world.historian.ranges() == [span(joined, joined + MINUTE_US)]
        question = world.historian.asked[0][1]
        assert (question.provider, question.interval, question.reason) == ("binance", Interval.M1, "backfill")
        assert world.healer.outcomes == {("binance", "healed"): 1}
        assert world.feeds.facts()[0]["healing"] == []


async def test_every_period_of_the_trades_with_which_a_feed_joins_is_looked_after(autojump_clock):
    world = World()
    async with world.running():
        world.wants.want(BARS)
        await trio.sleep(110)
        joined = world.minute
        world.tick(oldest_us=joined - 50 * SECOND_US)
        await trio.sleep(50)
        healed = Ranges.of(world.historian.ranges())
        assert healed == Ranges((span(joined - MINUTE_US, joined + MINUTE_US),))


async def test_the_time_since_what_a_vendor_begins_with_is_not_made_up_for(autojump_clock):
    world = World()
    async with world.running():
        world.wants.want(BARS)
        await trio.sleep(20)
        joined = world.minute
        old = joined - 3 * DAY_US
        world.tick(event_us=old)
        await trio.sleep(1)
        world.tick(oldest_us=joined - 90 * SECOND_US)
        await trio.sleep(50)
        assert Ranges.of(world.historian.ranges()) == Ranges.of((
            span(old, old + MINUTE_US), span(joined, joined + MINUTE_US),
        ))  # fmt: skip


async def test_what_a_vendor_begins_with_after_a_gap_does_not_end_it(autojump_clock):
    world = World()
    async with world.running():
        world.wants.want(BARS)
        await trio.sleep(1)
        await world.trade_for(130)
        lost = world.minute
        world.say(is_up=False, reason="cut")
        await trio.sleep(240)
        world.say(is_up=True)
        world.tick(event_us=world.clock() - 150 * SECOND_US)
        await trio.sleep(2)
        back = world.minute
        await world.trade_for(70)
        healed = Ranges.of(world.historian.ranges()[1:])
        assert healed == Ranges((span(lost, back + MINUTE_US),))


async def test_who_follows_trades_alone_owes_no_bars(autojump_clock):
    world = World()
    async with world.running():
        world.wants.want(TRADES)
        await trio.sleep(1)
        await world.trade_for(120)
        assert world.historian.asked == []


async def test_a_gap_is_fetched_from_where_the_feed_was_lost_to_where_it_is_back(autojump_clock):
    world = World()
    async with world.running():
        world.wants.want(BARS)
        await trio.sleep(1)
        await world.trade_for(130)
        lost = world.minute
        world.say(is_up=False, reason="cut")
        await trio.sleep(90)
        world.say(is_up=True)
        back = world.minute
        await world.trade_for(70)
        healed = Ranges.of(world.historian.ranges()[1:])  # the first is that of joining
        assert healed == Ranges((span(lost, back + MINUTE_US),))


async def test_what_is_over_already_heals_before_the_period_in_which_it_came_back(autojump_clock):
    world = World()
    async with world.running():
        world.wants.want(BARS)
        await trio.sleep(1)
        await world.trade_for(65)
        lost = world.minute
        world.say(is_up=False, reason="cut")
        await trio.sleep(180)
        world.say(is_up=True)
        back = world.minute
        world.tick()
        await trio.sleep(4)
        assert world.historian.ranges()[-1] == span(lost, back)


async def test_a_feed_that_is_up_and_silent_does_not_keep_the_gap_open(autojump_clock):
    world = World()
    async with world.running():
        world.wants.want(BARS)
        await trio.sleep(1)
        await world.trade_for(65)
        lost = world.minute
        world.say(is_up=False, reason="cut")
        await trio.sleep(120)
        back = world.minute
        world.say(is_up=True)
        await trio.sleep(80)
        assert Ranges.of(world.historian.ranges()[1:]) == Ranges((span(lost, back + MINUTE_US),))


async def test_a_provider_that_takes_over_is_asked_for_what_the_other_one_left_open(autojump_clock):
    first, second = FakeProvider(streaming(priority=90)), FakeProvider(streaming("kraken"))
    world = World(first, second)
    async with world.running():
        world.wants.want(BARS)
        await trio.sleep(1)
        await world.trade_for(65)
        lost = world.minute
        first.error = Upstream("no route")
        first.fail(first.feed, Upstream("closed"))
        await trio.sleep(120)
        back = world.minute
        world.tick(second)
        await trio.sleep(70)
        asked = [question.range for _, question in world.historian.asked if question.provider == "kraken"]
        assert Ranges.of(asked) == Ranges((span(lost, back + MINUTE_US),))


async def test_a_collected_series_is_made_up_for_from_its_last_closed_bar(autojump_clock):
    world = World()
    (btc,) = await world.store.upsert_instruments([BTC])
    series = await world.store.series(btc, "binance", Interval.M1)
    last = world.minute - 600 * MINUTE_US
    world.store.ledger[series.id] = Ranges((span(last - MINUTE_US, last),))
    async with world.running():
        world.wants.collect([COLLECTED])
        await trio.sleep(1)
        world.tick()
        await trio.sleep(70)
        assert Ranges.of(world.historian.ranges()) == Ranges((span(last, world.minute),))


async def test_the_first_period_of_all_is_owed_after_a_restart_though_nothing_of_the_series_was_ever_stored(
    autojump_clock,
):
    world = World()
    (btc,) = await world.store.upsert_instruments([BTC])
    series = await world.store.series(btc, "binance", Interval.M1)
    first = world.minute - 30 * MINUTE_US
    world.store.first_heard[series.id] = first + 40 * SECOND_US
    async with world.running():
        world.wants.collect([COLLECTED])
        await trio.sleep(1)
        world.tick()
        await trio.sleep(70)
        assert Ranges.of(world.historian.ranges()) == Ranges((span(first, world.minute),))


async def test_ready_made_bars_are_owed_since_they_are_collected_when_none_was_ever_closed(autojump_clock):
    world = World()
    (btc,) = await world.store.upsert_instruments([BTC])
    series = await world.store.series(btc, "binance", Interval.M1)
    first = world.minute - 5 * MINUTE_US
    world.store.collected_since[series.id] = first + 40 * SECOND_US
    async with world.running():
        world.wants.collect([COLLECTED])
        await trio.sleep(1)
        world.tick()
        await trio.sleep(70)
        assert Ranges.of(world.historian.ranges()) == Ranges((span(first, world.minute),))


async def test_what_is_stored_before_the_first_settled_range_is_owed_too(autojump_clock):
    world = World()
    (btc,) = await world.store.upsert_instruments([BTC])
    series = await world.store.series(btc, "binance", Interval.M1)
    first = world.minute - 30 * MINUTE_US
    world.store.first_heard[series.id] = first + 40 * SECOND_US
    world.store.ledger[series.id] = Ranges((span(first + MINUTE_US, world.minute),))
    async with world.running():
        world.wants.collect([COLLECTED])
        await trio.sleep(1)
        world.tick()
        await trio.sleep(70)
        assert span(first, first + MINUTE_US) in world.historian.ranges()


async def test_what_was_still_owed_when_the_server_stopped_is_owed_when_it_is_back(autojump_clock):
    world = World()
    (btc,) = await world.store.upsert_instruments([BTC])
    series = await world.store.series(btc, "binance", Interval.M1)
    first, last = world.minute - 600 * MINUTE_US, world.minute - 300 * MINUTE_US
    hole = span(first + 10 * MINUTE_US, first + 12 * MINUTE_US)
    world.store.ledger[series.id] = Ranges((span(first, last),)) - Ranges((hole,))
    async with world.running():
        world.wants.collect([COLLECTED])
        await trio.sleep(1)
        world.tick()
        await trio.sleep(70)
        healed = world.historian.ranges()
        assert Ranges.of(healed) == Ranges.of((hole, span(last, world.minute)))
        assert healed.index(hole) == 1, "the newest comes first"


async def test_a_series_that_was_never_collected_begins_where_it_joins(autojump_clock):
    world = World()
    async with world.running():
        world.wants.collect([COLLECTED])
        await trio.sleep(1)
        joined = world.minute
        world.tick()
        await trio.sleep(70)
        assert world.historian.ranges() == [span(joined, joined + MINUTE_US)]


async def test_a_failure_is_tried_again_with_longer_pauses_and_not_for_ever(autojump_clock):
    world = World(heal_tries=5)
    world.historian.errors = [AllProvidersFailed("BTC-USDT", ()) for _ in range(9)]
    async with world.running():
        world.wants.want(BARS)
        await trio.sleep(1)
        world.tick()
        await trio.sleep(70)
        (fact,) = world.feeds.facts()[0]["healing"]
        assert (fact["interval"], fact["tries"]) == ("1m", 2)
        assert fact["reason"].startswith("all_providers_failed")
        await trio.sleep(600)
        times = [at for at, _ in world.historian.asked]
        assert [round(b - a) for a, b in pairwise(times)] == [5, 10, 20, 40]
        (fact,) = world.feeds.facts()[0]["healing"]
        assert fact["owed"] == []  # given up, and it says why
        assert "no provider could answer" in fact["reason"]
        assert world.healer.outcomes == {("binance", "given_up"): 1}


async def test_a_provider_that_answers_nobody_is_not_asked_for_every_hole_at_once(autojump_clock):
    world = World()
    (btc,) = await world.store.upsert_instruments([BTC])
    series = await world.store.series(btc, "binance", Interval.M1)
    first = world.minute - 600 * MINUTE_US
    known = [span(at, at + MINUTE_US) for at in range(first, world.minute, 2 * MINUTE_US)]  # every other minute
    world.store.ledger[series.id] = Ranges.of(known)
    world.historian.errors = [AllProvidersFailed("BTC-USDT", ()) for _ in range(6)]
    async with world.running():
        world.wants.collect([COLLECTED])
        await trio.sleep(1)
        world.tick()
        await trio.sleep(350)
        times = [at for at, _ in world.historian.asked]
        assert [round(b - a) for a, b in pairwise(times[:7])] == [5, 10, 20, 40, 80, 160]
        assert world.feeds.facts()[0]["healing"] == []
        assert world.healer.outcomes["binance", "given_up"] == 0
        assert world.healer.outcomes["binance", "healed"] > 299


async def test_what_cannot_be_is_not_tried_again(autojump_clock):
    world = World()
    world.historian.errors = [NotSupported("has no historical_data")]
    async with world.running():
        world.wants.want(BARS)
        await trio.sleep(1)
        world.tick()
        await trio.sleep(600)
        assert len(world.historian.asked) == 1
        assert "has no historical_data" in world.feeds.facts()[0]["healing"][0]["reason"]


async def test_a_tape_is_asked_for_what_it_has_played(autojump_clock):
    world = World()
    async with world.running():
        world.wants.want(BARS)
        await trio.sleep(1)
        joined = world.minute - DAY_US
        world.tick(event_us=joined + MINUTE_US // 2)
        await trio.sleep(20)
        assert world.historian.asked == []
        world.say(pulse_us=joined + MINUTE_US)
        await trio.sleep(2)
        assert world.historian.ranges() == [span(joined, joined + MINUTE_US)]


async def test_what_history_leaves_open_is_still_owed(autojump_clock):
    world = World()
    async with world.running():
        world.wants.want(BARS)
        await trio.sleep(1)
        world.historian.missing = missing(span(world.minute, world.minute + MINUTE_US))
        world.tick()
        await trio.sleep(70)
        assert "the provider broke off" in world.feeds.facts()[0]["healing"][0]["reason"]
        world.historian.missing = ()
        await trio.sleep(30)
        assert world.feeds.facts()[0]["healing"] == []


async def test_a_question_during_which_the_clock_is_put_back_settles_nothing(autojump_clock):
    world = World()
    complete = world.historian.complete

    async def put_back(question, attempts):
        world.historian.complete = complete
        world.clock.step(-HOUR_US / SECOND_US)
        return await complete(question, attempts)

    async with world.running():
        world.wants.want(BARS)
        await trio.sleep(1)
        await world.trade_for(130)
        world.say(is_up=False, reason="cut")
        await trio.sleep(60)
        back = world.minute
        world.say(is_up=True)
        await trio.sleep(20)
        world.clock.step(-HOUR_US / SECOND_US)
        await trio.sleep(120)
        world.historian.complete = put_back
        world.clock.step(HOUR_US / SECOND_US)
        await trio.sleep(20)
        assert world.historian.ranges()[-1] == span(back, back + MINUTE_US)
        world.clock.step(HOUR_US / SECOND_US)
        await trio.sleep(20)
        assert back in world.store.bars[world.vendor.feed.bars[Interval.M1].id].time


async def test_a_vendor_whose_history_is_behind_is_asked_once_more(autojump_clock):
    world = World()
    world.historian.behind_s = 10
    async with world.running():
        world.wants.want(BARS)
        await trio.sleep(1)
        joined = world.minute
        world.tick()
        await trio.sleep(120)
        series = world.vendor.feed.bars[Interval.M1]
        assert list(world.store.bars[series.id].time) == [joined]
        assert [question.refresh for _, question in world.historian.asked][-1]


async def test_a_vendor_whose_history_is_behind_by_most_of_a_minute_is_asked_until_it_has_caught_up(autojump_clock):
    world = World()
    world.historian.behind_s = 55
    async with world.running():
        world.wants.want(BARS)
        await trio.sleep(1)
        joined = world.minute
        world.pulse()  # no trade says that there must be a bar
        await trio.sleep(150)
        series = world.vendor.feed.bars[Interval.M1]
        assert list(world.store.bars[series.id].time) == [joined]


async def test_a_history_without_a_bar_of_a_period_without_trades_is_believed_when_it_is_long_over(autojump_clock):
    world = World()
    world.historian.behind_s = 10**6
    async with world.running():
        world.wants.want(BARS)
        await trio.sleep(1)
        over_at = (world.minute + MINUTE_US - world.true()) / SECOND_US
        world.pulse()
        await trio.sleep(over_at + 58)
        assert world.feeds.facts()[0]["healing"][0]["owed"]
        await trio.sleep(60)
        assert world.feeds.facts()[0]["healing"] == []
        assert world.healer.outcomes == {("binance", "healed"): 1}


async def test_what_cannot_be_had_does_not_hold_up_what_is_owed_later(autojump_clock):
    world = World()
    async with world.running():
        world.wants.want(BARS)
        await trio.sleep(1)
        old = world.minute - 3 * DAY_US
        world.historian.missing = missing(span(old, old + MINUTE_US))
        world.tick(event_us=old)
        await trio.sleep(200)
        assert len(world.historian.asked) == 5, "the pause is longer than a minute by now"
        await world.trade_for(65)
        lost = world.minute
        world.say(is_up=False, reason="cut")
        await trio.sleep(20)
        world.say(is_up=True)
        await world.trade_for(65)
        assert span(lost, lost + MINUTE_US) in world.historian.ranges()
        (fact,) = world.feeds.facts()[0]["healing"]
        assert fact["owed"] == [[old // 1000, (old + MINUTE_US) // 1000]]


async def test_a_history_without_a_bar_of_a_period_with_trades_is_not_believed(autojump_clock):
    world = World(heal_tries=5)
    world.historian.behind_s = 10**6
    async with world.running():
        world.wants.want(BARS)
        await trio.sleep(1)
        world.tick()
        await trio.sleep(300)
        assert world.healer.outcomes == {("binance", "given_up"): 1}


async def test_a_database_that_is_away_costs_no_try(autojump_clock):
    world = World(heal_tries=2)
    async with world.running():
        world.wants.want(BARS)
        await trio.sleep(1)
        world.tick()
        world.store.is_away = True
        await trio.sleep(300)
        world.store.is_away = False
        await trio.sleep(10)
        assert world.healer.outcomes == {("binance", "healed"): 1}


async def test_gaps_of_one_series_are_healed_together_and_one_after_the_other(autojump_clock):
    world = World()
    async with world.running():
        world.wants.want(BARS)
        await trio.sleep(1)
        await world.trade_for(65)
        first = world.minute
        for _ in range(10):
            world.say(is_up=False, reason="flutter")
            await trio.sleep(1)
            world.say(is_up=True)
            world.tick()
            await trio.sleep(1)
        await world.trade_for(65)
        assert world.historian.ranges()[1:] == [span(first, first + MINUTE_US)]


async def test_a_day_heals_as_the_date_it_is_where_it_is_traded_and_when_it_is_over_there(autojump_clock):
    world = World()
    await world.store.upsert_instruments([Instrument(0, "AAPL", AssetClass.STOCK, timezone="America/New_York")])
    evening_us = world.clock() // DAY_US * DAY_US + DAY_US + 2 * HOUR_US  # 21 or 22 o'clock of the day before
    await trio.sleep((evening_us - world.clock()) / SECOND_US)
    async with world.running():
        world.wants.want(parse_channel("bars:AAPL:1d"))
        await trio.sleep(1)
        world.tick()
        await trio.sleep(2 * HOUR_US / SECOND_US - 10)
        assert world.historian.asked == []
        await trio.sleep(HOUR_US / SECOND_US + 30)
        today = evening_us // DAY_US * DAY_US
        assert world.historian.ranges() == [span(today - DAY_US, today)]


async def test_who_follows_sees_what_somebody_elses_question_has_fetched_before(autojump_clock):
    world = World()
    async with world.running():
        world.wants.want(BARS)
        await trio.sleep(1)
        await world.trade_for(130)
        lost = world.minute
        world.say(is_up=False, reason="cut")
        await trio.sleep(90)
        world.hub.made_up.clear()
        gap = span(lost, world.minute)
        await world.historian.complete(Question("BTC-USDT", Interval.M1, gap, provider="binance"), [])
        world.say(is_up=True)
        await world.trade_for(5)
        assert world.hub.made_up == [("binance", time) for time in range(lost, world.minute, MINUTE_US)]


async def healthy(world):
    """Followed, joined, and nothing owed; returns the minute that runs."""
    world.wants.want(BARS)
    await trio.sleep(1)
    await world.trade_for(80)
    world.historian.asked.clear()
    return world.minute


async def test_what_could_be_stored_nowhere_is_fetched_once_the_database_is_back(autojump_clock):
    world = World()
    async with world.running():
        minute = await healthy(world)
        world.store.is_away = True
        await world.trade_for(180)
        world.feeds.unkept(unkept(world, minute, 3))
        await world.trade_for(60)
        assert world.feeds.facts()[0]["healing"][0]["owed"] == [[minute // 1000, (minute + 3 * MINUTE_US) // 1000]]
        world.store.is_away = False
        await world.trade_for(10)
        assert Ranges.of(world.historian.ranges()) == Ranges((span(minute, minute + 3 * MINUTE_US),))
        assert not any(question.refresh for _, question in world.historian.asked)
        assert world.feeds.facts()[0]["healing"] == []


async def test_a_revision_that_could_be_stored_nowhere_is_asked_for_although_the_ledger_knows_its_period(
    autojump_clock,
):
    world = World()
    async with world.running():
        minute = await healthy(world)
        series, bars = world.vendor.feed.bars[Interval.M1], unkept(world, minute).bars
        world.store.put(series.id, bars, span(minute, minute + MINUTE_US))
        await world.trade_for(70)
        world.feeds.unkept(unkept(world, minute, status=BarStatus.REVISED))
        await world.trade_for(10)
        assert [(q.range, q.refresh) for _, q in world.historian.asked][-1] == (span(minute, minute + MINUTE_US), True)
        assert world.feeds.facts()[0]["healing"] == []


async def test_bars_of_an_interval_that_nobody_wants_are_left_to_who_asks_for_them(autojump_clock):
    world = World()
    async with world.running():
        minute = await healthy(world)
        world.feeds.unkept(unkept(world, Interval.M5.floor_us(minute), interval=Interval.M5))
        await world.trade_for(400)
        assert world.historian.asked == []


async def test_what_was_made_of_a_connection_that_is_over_is_owed_too(autojump_clock):
    world = World()
    async with world.running():
        minute = await healthy(world)
        lost = unkept(world, minute)
        world.vendor.fail(world.vendor.feed, Upstream("cut"))
        await trio.sleep(70)
        world.feeds.unkept(replace(lost, feed=replace(lost.feed, id=99)))
        await trio.sleep(10)
        assert span(minute, minute + MINUTE_US) in world.historian.ranges()
