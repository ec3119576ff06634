"""What followers of the hub see."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock
from unit.streaming.happenings import (
    BARS,
    M1,
    NOW_US,
    QUOTES,
    TRADES,
    TRADES_FEED,
    bar,
    bars_of,
    durable,
    quote,
    shown,
    trades,
    update,
)

from timebase.model.bars import Batch, Durable, Outcome
from timebase.model.feed import Channel, Feed, FeedKind, FeedState
from timebase.model.interval import Interval
from timebase.model.live import Arrival, BarStatus, BarUpdate, DurableLive, LiveBatch
from timebase.model.timerange import MINUTE_US, TimeRange
from timebase.streaming.encode import JSON
from timebase.streaming.follower import PATIENCE_S, TOO_SLOW, Follower
from timebase.streaming.hub import LINGER_S, Hub, run_hub
from timebase.streaming.verdicts import REMEMBERED


class Heard:
    """Demands and watch in one, noting what it is told."""

    def __init__(self) -> None:
        self.said: list[tuple[object, ...]] = []
        self.received: list[int] = []

    def want(self, channel: Channel) -> None:
        self.said.append(("want", str(channel)))

    def unwant(self, channel: Channel) -> None:
        self.said.append(("unwant", str(channel)))

    def note(self, feed: Feed, received_us: int, event_us: int, n: int, *, oldest_us: int) -> None:
        self.said.append(("note", feed.id, n))
        self.received.append(received_us)

    def hear(self, word: Arrival) -> None:
        self.said.append(("hear", word.reason))

    def unkept(self, update: BarUpdate) -> None:
        self.said.append(("unkept", update))


def new_hub(**settings: int) -> Hub:
    hub = Hub(lambda: NOW_US, **settings)
    for channel in (BARS, TRADES, QUOTES):
        hub.bind(channel, "binance")
    return hub


async def test_the_first_follower_makes_a_channel_wanted_and_the_last_one_takes_it_back() -> None:
    hub, heard = new_hub(), Heard()
    hub.attach(heard, heard)
    with hub.follow(BARS):
        with hub.follow(BARS):
            pass
        assert heard.said == [("want", "bars:BTC-USDT:1m")]
    assert heard.said[1:] == [("unwant", "bars:BTC-USDT:1m")]


async def test_an_event_goes_to_the_bound_channel_and_to_the_one_that_names_the_provider() -> None:
    hub = new_hub()
    pinned, other = replace(TRADES, provider="binance"), replace(TRADES, provider="kraken")
    with hub.follow(TRADES) as best, hub.follow(pinned) as named, hub.follow(other) as strange:
        hub.publish(trades(1, 2))
        assert [e["channel"] for e in shown(await best.next())] == ["trades:BTC-USDT"] * 2
        assert [e["channel"] for e in shown(await named.next())] == ["trades:BTC-USDT@binance"] * 2
        assert strange.depth == 0


async def test_after_another_binding_the_other_feed_is_shown() -> None:
    hub = new_hub()
    kraken = replace(TRADES_FEED, id=7, provider="kraken")
    with hub.follow(TRADES) as follower:
        hub.publish(trades(1, 1, feed=kraken))
        hub.bind(TRADES, "kraken")
        hub.publish(trades(2, 1))
        hub.publish(trades(3, 1, feed=kraken))
        assert [(e["id"], e["provider"]) for e in shown(await follower.next())] == [(3, "kraken")]


async def test_durable_events_are_numbered_and_forming_ones_carry_the_newest_number() -> None:
    hub = new_hub()
    with hub.follow(BARS) as follower:
        hub.publish(bar(0, 1.0))
        hub.publish(bar(1, 2.0, BarStatus.FORMING))
        events = shown(await follower.next())
    assert [(e["seq"] - NOW_US, e["status"]) for e in events] == [(1, "closed"), (1, "forming")]


async def test_a_trade_looks_as_documented() -> None:
    hub = new_hub()
    with hub.follow(TRADES) as follower:
        hub.publish(trades(5, 1))
        assert shown(await follower.next()) == [
            {
                "type": "trade", "channel": "trades:BTC-USDT", "seq": NOW_US + 1, "time": (NOW_US + 5) / 1000,
                "price": 105.0, "size": 1.0, "side": None, "id": 5, "provider": "binance",
            }
        ]  # fmt: skip


async def test_a_missing_bar_has_no_prices() -> None:
    hub = new_hub()
    with hub.follow(BARS) as follower:
        hub.publish(bar(0, float("nan"), BarStatus.MISSING))
        (event,) = shown(await follower.next())
    assert (event["status"], event["open"], event["close"], event["vwap"]) == ("missing", None, None, None)


async def test_an_event_is_encoded_once_for_all() -> None:
    hub = new_hub()
    with hub.follow(TRADES) as one, hub.follow(TRADES) as other:
        hub.publish(trades(1, 1))
        (a,), (b,) = await one.next(), await other.next()
    assert a is b
    assert a.encoded(JSON) is b.encoded(JSON)


async def test_forming_bars_and_quotes_are_conflated_to_the_newest() -> None:
    hub = new_hub()
    with hub.follow(BARS, QUOTES) as follower:
        for n in range(100):
            hub.publish(bar(0, float(n), BarStatus.FORMING))
            hub.publish(quote(float(n)))
        events = shown(await follower.next())
    assert [e.get("close", e.get("bid")) for e in events] == [99.0, 99.0]


async def test_quotes_that_nobody_reads_take_the_room_of_one() -> None:
    hub = new_hub()
    with hub.follow(QUOTES):
        tracemalloc.start()
        try:
            for n in range(10_000):
                hub.publish(quote(float(n)))
            held_bytes, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert held_bytes < 256 * 1024


async def test_a_forming_bar_is_not_shown_after_its_close() -> None:
    hub = new_hub()
    with hub.follow(BARS) as follower:
        hub.publish(bar(0, 1.0, BarStatus.FORMING))
        hub.publish(bar(0, 2.0))
        assert [e["status"] for e in shown(await follower.next())] == ["closed"]
        with hub.follow(BARS) as late:
            assert late.depth == 0


async def test_who_comes_later_sees_the_forming_bar_and_the_feeds_state() -> None:
    hub = new_hub()
    with hub.follow(BARS):
        hub.tell_state(TRADES_FEED, FeedState.LIVE, NOW_US)
        hub.publish(bar(0, 1.0, BarStatus.FORMING))
        with hub.follow(BARS) as late:
            events = shown(await late.next())
    assert [(e["type"], e.get("state", e.get("status"))) for e in events] == [("feed", "live"), ("bar", "forming")]


FULL = "the database is away, and the spool is full"


async def test_of_what_is_not_durable_after_all_no_value_is_shown_but_of_the_forming_bar() -> None:
    hub = new_hub()
    with hub.follow(BARS, TRADES) as follower:
        hub.publish(replace(trades(1, 1), error=FULL))
        updates = [update(0, 1.0), update(1, 2.0, BarStatus.FORMING)]
        hub.publish(durable(updates=updates, error=FULL))
        told = [(e["channel"], e.get("code", e.get("status")), e.get("close")) for e in shown(await follower.next())]
    assert told == [
        ("trades:BTC-USDT", "not_stored", None),
        ("bars:BTC-USDT:1m", "not_stored", None),
        ("bars:BTC-USDT:1m", "missing", None),
        ("bars:BTC-USDT:1m", "forming", 2.0),
    ]


async def test_followers_are_told_when_nothing_can_be_stored_and_when_it_is_over_and_how_much_it_was() -> None:
    hub = new_hub()
    with hub.follow(TRADES) as follower:
        for first in range(0, 50, 10):
            hub.publish(replace(trades(first, 10), error=FULL))
        (began,) = shown(await follower.next())
        with hub.follow(TRADES) as late:
            assert shown(await late.next()) == [began]
        hub.publish(trades(50, 1))
        ended, trade = shown(await follower.next())
        with hub.follow(TRADES) as later:
            assert later.depth == 0
    hub.publish(replace(trades(60, 10), error=FULL))
    with hub.follow(TRADES) as alone:
        hub.publish(replace(trades(70, 10), error=FULL))
        assert shown(await alone.next()) == [began]
    assert FULL in began["message"]
    assert (ended["code"], ended["message"]) == ("not_stored", "it is stored and shown again; 50 trades were not")
    assert (trade["id"], trade["seq"]) == (50, NOW_US + 1)


async def test_what_is_stored_of_one_channel_ends_the_losses_of_all() -> None:
    hub = new_hub()
    with hub.follow(TRADES) as follower:
        hub.publish(replace(trades(0, 10), error=FULL))
        hub.publish(bar(0, 1.0, BarStatus.FORMING))
        assert len(shown(await follower.next())) == 1
        hub.publish(bar(0, 1.0, BarStatus.CLOSED))
        (ended,) = shown(await follower.next())
        with hub.follow(TRADES) as late:
            assert late.depth == 0
    assert ended["message"] == "it is stored and shown again; 10 trades were not"


async def test_what_cannot_be_stored_is_told_to_who_comes_after_the_feed_came_back() -> None:
    hub = new_hub()
    with hub.follow(TRADES) as follower:
        hub.publish(replace(trades(0, 10), error=FULL))
        hub.tell_state(TRADES_FEED, FeedState.LIVE, NOW_US)
        hub.bind(TRADES, TRADES_FEED.provider)
        await follower.next()
        with hub.follow(TRADES) as late:
            assert "not_stored" in [each.get("code") for each in shown(await late.next())]


async def test_who_watches_the_feed_hears_of_what_could_not_be_kept_and_that_the_feed_lives() -> None:
    hub, heard = new_hub(), Heard()
    hub.attach(heard, heard)
    closed, revised, forming = (
        update(0, 1.0, status) for status in (BarStatus.CLOSED, BarStatus.REVISED, BarStatus.FORMING)
    )
    hub.publish(replace(trades(1, 3), error=FULL))
    hub.publish(durable(updates=[closed, revised, forming], error=FULL))
    assert heard.said == [("note", 1, 3), ("unkept", closed), ("unkept", revised)]
    assert hub.ticks == {}


async def test_a_revision_that_got_lost_is_told_once_it_was_fetched_and_what_has_not_changed_is_not() -> None:
    hub = new_hub()
    fetched = bars_of([0, 1, 2], [1.0, 9.0, 3.0])
    covers = TimeRange(NOW_US, NOW_US + 3 * MINUTE_US)
    with hub.follow(BARS) as follower:
        for minute in range(2):
            hub.publish(bar(minute, 1.0 + minute))
        hub.publish(durable(updates=[update(1, 9.0, BarStatus.REVISED)], error=FULL))
        await follower.next()
        hub.publish_healed(Durable(Batch(1, M1, covers, Outcome.COMPLETE, "backfill", NOW_US, fetched)))
        told = [(e.get("status"), e.get("close"), e.get("revision")) for e in shown(await follower.next())]
    assert told == [(None, None, None), ("backfilled", 3.0, 0), ("revised", 9.0, 1)]


async def test_words_of_a_feed_are_heard_after_its_data() -> None:
    hub, heard = new_hub(), Heard()
    hub.attach(heard, heard)
    batch = replace(trades(1, 3).batch, words=(Arrival(TRADES_FEED, NOW_US, is_up=False, reason="cut"),))
    hub.publish(DurableLive(batch, 1, NOW_US))
    assert heard.said == [("note", 1, 3), ("hear", "cut")]


def test_ready_made_bars_count_from_the_end_of_their_period_and_from_when_they_came() -> None:
    hub, heard = new_hub(), Heard()
    hub.attach(heard, heard)
    feed = Feed(3, FeedKind.BARS, TRADES_FEED.instrument, "binance", Interval.M1, bars=TRADES_FEED.bars)
    for status in (BarStatus.FORMING, BarStatus.CLOSED):
        ready = replace(update(0, 1.0, status), feed=feed, event_us=NOW_US, received_us=NOW_US + 300_000)
        hub.publish(DurableLive(LiveBatch(updates=(ready,)), 1, NOW_US + 310_000))
    assert (hub.lags.received.sum_s, sum(hub.lags.received.counts)) == (0.3, 1)
    assert (hub.lags.durable.sum_s, sum(hub.lags.durable.counts)) == (0.01, 1)
    assert heard.received == [NOW_US + 300_000] * 2


async def test_a_channel_that_nobody_can_supply_says_so_to_all_and_to_who_comes_later() -> None:
    hub = new_hub()
    with hub.follow(BARS) as follower:
        hub.refuse(BARS, "not_supported", "no provider streams it")
        with hub.follow(BARS) as late:
            for each in (follower, late):
                (event,) = shown(await each.next())
                assert (event["type"], event["code"]) == ("error", "not_supported")


async def test_missed_events_are_given_again_by_number() -> None:
    hub = new_hub()
    with hub.follow(TRADES):
        hub.publish(trades(1, 5))
        hub.publish(trades(6, 5))
    with hub.follow() as again:
        joined = hub.join(again, TRADES, resume=NOW_US + 3)
        assert joined.is_resumed
        assert joined.seq == NOW_US + 10
        assert [e["id"] for e in shown(joined.missed)] == [4, 5, 6, 7, 8, 9, 10]


@pytest.mark.parametrize("seq", [0, NOW_US - 1, NOW_US + 11])
async def test_numbers_that_are_not_kept_cannot_be_resumed_from(seq: int) -> None:
    hub = new_hub()
    with hub.follow(TRADES) as follower:
        hub.publish(trades(1, 10))
        assert not hub.join(follower, TRADES, resume=seq).is_resumed


async def test_the_oldest_events_leave_the_ring_first() -> None:
    hub = new_hub(ring_bytes=5_000)
    with hub.follow(TRADES) as follower:
        for n in range(20):
            hub.publish(trades(n, 1))
        assert not hub.join(follower, TRADES, resume=NOW_US + 10).is_resumed
        assert hub.join(follower, TRADES, resume=NOW_US + 17).is_resumed


async def test_a_channel_is_forgotten_after_a_while_without_followers(autojump_clock: MockClock) -> None:
    hub = new_hub()
    with hub.follow(TRADES):
        hub.publish(trades(1, 1))
    await trio.sleep(LINGER_S + 1)
    with hub.follow() as follower:
        assert not hub.join(follower, TRADES, resume=NOW_US + 1).missed


async def test_numbers_ascend_though_the_clock_was_put_back_before_a_channel_is_there_again(
    autojump_clock: MockClock,
) -> None:
    wall = [NOW_US]
    hub = Hub(lambda: wall[0])
    hub.bind(TRADES, "binance")
    with hub.follow(TRADES):
        hub.publish(trades(1, 5))
        newest = hub.newest(TRADES)
    await trio.sleep(LINGER_S + 1)
    wall[0] -= 3_600_000_000
    with hub.follow() as follower:
        joined = hub.join(follower, TRADES, resume=newest)
        assert joined.seq > newest
        assert not joined.is_resumed  # what came meanwhile was not kept


async def test_leaving_a_channel_takes_back_what_waits_of_it() -> None:
    hub = new_hub()
    with hub.follow(TRADES, QUOTES) as follower:
        hub.publish(trades(1, 3))
        hub.publish(quote(1.0))
        hub.leave(follower, TRADES)
        assert [e["type"] for e in shown(await follower.next())] == ["quote"]


async def test_a_slow_reader_loses_the_oldest_trades_and_is_told_how_many() -> None:
    hub = new_hub()
    with hub.follow(TRADES, buffer_events=100) as follower:
        for n in range(30):
            hub.publish(trades(n * 10, 10))
        dropped, *rest = shown(await follower.next())
    assert dropped == {
        "type": "dropped", "channel": "trades:BTC-USDT", "count": 200, "from_seq": NOW_US + 1, "to_seq": NOW_US + 200
    }  # fmt: skip
    assert [e["seq"] - NOW_US for e in rest] == list(range(201, 301))


async def test_who_does_not_read_at_all_is_let_go(autojump_clock: MockClock) -> None:
    hub = new_hub()
    with hub.follow(TRADES, buffer_events=10) as follower:
        for _ in range(int(PATIENCE_S) + 3):
            hub.publish(trades(0, 10))
            await trio.sleep(1)
        events = shown(await follower.next())
    assert (events[-1]["type"], events[-1]["code"]) == ("goodbye", TOO_SLOW)
    assert len(events) == 2  # and what was dropped


async def test_who_reads_now_and_then_stays(autojump_clock: MockClock) -> None:
    hub = new_hub()
    with hub.follow(TRADES, buffer_events=10) as follower:
        for _ in range(10):
            for _ in range(int(PATIENCE_S) - 5):
                hub.publish(trades(0, 10))
                await trio.sleep(1)
            assert shown(await follower.next())[-1]["type"] == "trade"


async def test_closed_bars_are_never_dropped_their_reader_is_let_go_instead() -> None:
    hub = new_hub()
    with hub.follow(BARS, buffer_events=10) as follower:
        for n in range(11):
            hub.publish(bar(n, 1.0))
        assert [e["type"] for e in shown(await follower.next())] == ["goodbye"]


async def test_a_slow_reader_is_not_felt_by_others() -> None:
    hub = new_hub()
    with hub.follow(TRADES, buffer_events=10), hub.follow(TRADES) as quick:
        for n in range(100):
            hub.publish(trades(n + 1, 1))
        assert [e["id"] for e in shown(await quick.next())] == list(range(1, 101))


async def test_a_throttled_channel_shows_the_newest_state_of_each_period(autojump_clock: MockClock) -> None:
    hub, seen = new_hub(), []
    with hub.follow() as follower:
        hub.join(follower, BARS, throttle_s=1.0)

        async def read() -> None:
            while True:
                seen.extend((round(trio.current_time() - began, 3), e["close"]) for e in shown(await follower.next()))

        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            for n in range(25):
                hub.publish(bar(0, float(n), BarStatus.FORMING))
                await trio.sleep(0.1)
            await trio.sleep(2)
            nursery.cancel_scope.cancel()
    assert [at for at, _ in seen] == [0.0, 1.0, 2.0, 3.0]
    assert seen[-1][1] == 24.0


async def test_closed_bars_of_a_throttled_channel_are_all_shown_at_once(autojump_clock: MockClock) -> None:
    hub = new_hub()
    with hub.follow() as follower:
        hub.join(follower, BARS, throttle_s=60.0)
        for n in range(5):
            hub.publish(bar(n, 0.5, BarStatus.FORMING))
            hub.publish(bar(n, 1.0))
        assert [e["status"] for e in shown(await follower.next())] == ["closed"] * 5
        with trio.move_on_after(120) as patience:
            await follower.next()
        assert patience.cancelled_caught  # the forming bars were over before their turn came


async def test_a_frame_holds_no_more_than_its_share() -> None:
    hub, seen, frames = new_hub(), [], 0
    with hub.follow(TRADES) as follower:
        hub.publish(trades(1, 10_000))
        while follower.depth:
            seen += [e["id"] for e in shown(await follower.next())]
            frames += 1
    assert seen == list(range(1, 10_001))
    assert frames == 5


async def test_history_waits_for_room_beside_what_is_live(autojump_clock: MockClock) -> None:
    hub, offered = new_hub(), []
    with hub.follow(TRADES) as follower, hub.follow(TRADES) as source:
        hub.publish(trades(0, 1_000))
        (event,) = await source.next()

        async def offer() -> None:
            for n in range(10):
                await follower.offer(event)
                offered.append(n)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(offer)
            await trio.sleep(1)
            assert 0 < len(offered) < 10
            while len(offered) < 10:
                await follower.next()
                await trio.sleep(1)


async def test_nothing_comes_after_goodbye() -> None:
    hub = new_hub()
    with hub.follow(TRADES) as follower:
        hub.publish(trades(1, 1))
        hub.close(1012, "the server stops")
        hub.publish(trades(2, 1))
        assert [e["type"] for e in shown(await follower.next())] == ["trade", "goodbye"]


async def test_healed_bars_are_shown_and_every_batch_of_history_goes_on() -> None:
    hub = new_hub()
    live_in, live_out = trio.open_memory_channel[Durable | DurableLive](10)
    past_in, past_out = trio.open_memory_channel[Durable](10)
    covers = TimeRange(NOW_US, NOW_US + MINUTE_US)
    batches = [
        Batch(n, M1, covers, Outcome.COMPLETE, reason, NOW_US, bars_of([0], [float(n)]))
        for n, reason in enumerate(["history", "backfill"])
    ]
    with hub.follow(BARS) as follower:
        async with trio.open_nursery() as nursery:
            await nursery.start(run_hub, live_out, past_in, hub)
            async with live_in:
                for batch in batches:
                    await live_in.send(Durable(batch))
                await live_in.send(bar(1, 7.0))
        assert [(e["status"], e["close"]) for e in shown(await follower.next())] == [
            ("backfilled", 1.0), ("closed", 7.0)
        ]  # fmt: skip
    assert [durable.batch.demand_id async for durable in past_out] == [0, 1]


async def test_a_gap_that_is_stored_already_is_made_up_for_once_and_what_was_told_is_not_told_again() -> None:
    hub = new_hub()
    with hub.follow(BARS) as follower:
        hub.publish(bar(0, 1.0))
        hub.publish(bar(1, np.nan, BarStatus.MISSING))
        for _ in range(2):
            hub.make_up(M1, bars_of([0, 1, 2], [1.0, 2.0, 3.0]))
        told = [(e["status"], e["close"]) for e in shown(await follower.next())]
    assert told == [("closed", 1.0), ("missing", None), ("backfilled", 2.0), ("backfilled", 3.0)]


def polled(minutes: list[int], closes: list[float]) -> Durable:
    covers = TimeRange(NOW_US, NOW_US + 10 * MINUTE_US)
    return Durable(Batch(1, M1, covers, Outcome.COMPLETE, "live", NOW_US, bars_of(minutes, closes)))


@pytest.mark.parametrize("channel", [BARS, replace(BARS, provider=M1.provider)])
async def test_bars_that_are_only_polled_are_shown_closed_once_and_in_order(channel: Channel) -> None:
    hub = Hub(lambda: NOW_US)
    with hub.follow(channel) as follower:
        hub.refuse(channel, "no_provider", "no provider streams it")
        await follower.next()
        hub.publish_polled(polled([0], [1.0]))
        hub.publish_polled(polled([0, 1, 2], [1.0, 2.0, 3.0]))
        hub.publish_polled(polled([1, 2], [2.0, 3.0]))
        told = shown(await follower.next())
    assert [(e["status"], e["close"]) for e in told] == [("closed", 1.0), ("closed", 2.0), ("closed", 3.0)]
    assert [e["seq"] - told[0]["seq"] for e in told] == [0, 1, 2]


async def test_where_a_feed_supplies_the_bars_what_was_polled_waits_for_the_healer() -> None:
    hub = new_hub()
    with hub.follow(BARS) as follower:
        hub.publish_polled(polled([0], [1.0]))
        hub.publish(bar(1, 2.0))
        told = shown(await follower.next())
    assert [(e["status"], e["close"]) for e in told] == [("closed", 2.0)]


def missing(*minutes: int, provider: str = "binance") -> DurableLive:
    """Its feed was down in these."""
    nothing = np.full(len(minutes), np.nan)
    gone = replace(update(0, 1.0, BarStatus.MISSING), feed=replace(TRADES_FEED, provider=provider))
    bars = bars_of(minutes, nothing)
    none = np.zeros(len(minutes), np.int64)
    return durable(updates=[replace(gone, bars=bars, trades=none, vwap=nothing, revision=none.astype(np.int32))])


def told_of(events: list[dict[str, object]]) -> list[tuple[int, object]]:
    """Minute and status of each bar."""
    return [((int(str(e["time"])) * 1000 - NOW_US) // MINUTE_US, e["status"]) for e in events if e["type"] == "bar"]


async def test_what_was_closed_by_polling_is_not_missing_when_a_feed_comes_back() -> None:
    hub = Hub(lambda: NOW_US)
    with hub.follow(BARS) as follower:
        hub.publish_polled(polled([0, 1], [1.0, 2.0]))
        hub.bind(BARS, "binance")
        hub.publish(missing(0, 1, 2))
        hub.publish(bar(3, 4.0))
        told = shown(await follower.next())
    assert told_of(told) == [(0, "closed"), (1, "closed"), (2, "missing"), (3, "closed")]
    assert [e["seq"] - told[0]["seq"] for e in told] == [0, 1, 2, 3]


async def test_what_was_missing_is_backfilled_by_who_closes_it_afterwards() -> None:
    hub = new_hub()
    with hub.follow(BARS) as follower:
        hub.publish(missing(0, 1))
        hub.bind(BARS, None)
        hub.publish_polled(polled([0, 1, 2], [1.0, 2.0, 3.0]))
        told = told_of(shown(await follower.next()))
    assert told == [(0, "missing"), (1, "missing"), (2, "closed"), (0, "backfilled"), (1, "backfilled")]


async def test_what_another_provider_closed_meanwhile_is_not_missing_and_closed_once() -> None:
    hub = new_hub()
    other = replace(update(1, 2.0), feed=replace(TRADES_FEED, id=5, provider="kraken"))
    with hub.follow(BARS) as follower:
        hub.publish(bar(0, 1.0))
        hub.bind(BARS, "kraken")
        hub.publish(durable(updates=[other]))
        hub.bind(BARS, "binance")
        hub.publish(missing(1, 2))
        hub.publish(bar(2, 3.0))
        hub.publish(bar(0, 1.5))
        told = shown(await follower.next())
    assert told_of(told) == [(0, "closed"), (1, "closed"), (2, "missing"), (2, "backfilled"), (0, "revised")]
    assert told[-1]["revision"] == 1


async def test_however_long_it_goes_on_a_period_is_closed_or_missing_once() -> None:
    hub = new_hub()
    minutes = 3 * REMEMBERED
    with hub.follow(BARS) as follower:
        for minute in range(minutes):
            hub.publish(bar(minute, 1.0))
        hub.publish(missing(*range(minutes + 1)))
        told = told_of(shown(await follower.next()))
    assert told == [*((minute, "closed") for minute in range(minutes)), (minutes, "missing")]


async def test_a_pinned_channel_is_shown_polled_bars_again_once_its_feed_is_over() -> None:
    hub = Hub(lambda: NOW_US)
    with hub.follow(replace(BARS, provider=M1.provider)) as follower:
        hub.tell_state(TRADES_FEED, FeedState.LIVE, NOW_US)
        hub.publish_polled(polled([0], [1.0]))
        hub.forget(TRADES_FEED)
        hub.publish_polled(polled([0, 1], [1.0, 2.0]))
        told = told_of(shown(await follower.next()))
        with hub.follow(replace(BARS, provider=M1.provider)) as late, trio.move_on_after(0.1) as waited:
            await late.next()
        assert waited.cancelled_caught, "how it was says nothing any more"
    assert told == [(0, "closed"), (1, "closed")]


async def test_what_is_refused_is_told_once_and_to_each_first_follower_until_it_is_supplied() -> None:
    hub = Hub(lambda: NOW_US)
    for _ in range(2):
        with hub.follow(BARS) as follower:
            for _ in range(2):
                hub.refuse(BARS, "no_provider", "no provider streams it")
            (event,) = shown(await follower.next())
            assert event["code"] == "no_provider"
    with hub.follow(BARS):
        hub.refuse(BARS, "no_provider", "no provider streams it")
        hub.bind(BARS, "binance")
        with hub.follow(BARS) as late, trio.move_on_after(0.1) as waited:
            await late.next()
        assert waited.cancelled_caught, "somebody supplies it by now"


async def test_the_hub_lets_its_failure_out() -> None:
    hub = new_hub()
    live_in, live_out = trio.open_memory_channel[Durable | DurableLive](1)
    past_in, past_out = trio.open_memory_channel[Durable](1)
    await past_out.aclose()
    covers = TimeRange(NOW_US, NOW_US + MINUTE_US)
    await live_in.send(Durable(Batch(1, M1, covers, Outcome.EMPTY, "history", NOW_US, bars_of([], []))))
    with pytest.raises(trio.BrokenResourceError):
        await run_hub(live_out, past_in, hub)


async def test_the_followers_of_a_channel_are_counted() -> None:
    hub = new_hub()
    with hub.follow(TRADES), hub.follow(TRADES, BARS):
        assert [hub.followers(channel) for channel in (TRADES, BARS, QUOTES)] == [2, 1, 0]
    assert hub.followers(TRADES) == 0


async def test_a_commit_is_shown_with_the_last_of_the_batches_that_share_it(autojump_clock: MockClock) -> None:
    hub = new_hub()
    hub.publish(replace(trades(1, 3, commit_id=7), is_last=False))
    with trio.move_on_after(1) as waited:
        await hub.shown(7)
    assert waited.cancelled_caught
    hub.publish(trades(4, 2, commit_id=7))
    await hub.shown(7)


async def test_an_empty_batch_shows_nothing() -> None:
    hub = new_hub()
    with hub.follow(TRADES, BARS) as follower:
        hub.publish(DurableLive(LiveBatch(), 1, NOW_US))
        hub.publish(trades(0, 0))
        assert follower.depth == 0


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("trades"), st.integers(1, 30)),
        st.tuples(st.just("closed"), st.just(0)),
        st.tuples(st.just("forming"), st.just(0)),
        st.tuples(st.just("read"), st.just(0)),
    ),
    max_size=60,
)


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_whatever_happens_numbers_ascend_and_what_was_dropped_is_told(steps: list[tuple[str, int]]) -> None:
    trio.run(_follow_steps, steps)


async def _follow_steps(steps: list[tuple[str, int]]) -> None:
    hub, seen, minute = new_hub(), [], 0
    with hub.follow(BARS, TRADES, buffer_events=50) as follower:
        for what, count in [*steps, ("read", 0)]:
            if what == "trades":
                hub.publish(trades(0, count))
            elif what == "read":
                while _waits(follower):
                    seen += shown(await follower.next())
            else:
                hub.publish(bar(minute, 1.0, BarStatus(what)))
                minute += what == "closed"
        assert _numbers(seen, "trades:BTC-USDT") == list(range(NOW_US + 1, hub.newest(TRADES) + 1))
    bars = [e for e in seen if e["type"] == "bar"]
    assert [e["seq"] for e in bars if e["status"] == "closed"] == [NOW_US + 1 + n for n in range(minute)]
    assert [e["time"] for e in bars] == sorted(e["time"] for e in bars)


def _waits(follower: Follower) -> bool:
    return follower.depth > 0


def _numbers(events: list[dict[str, object]], channel: str) -> list[object]:
    """Every number that was given or told to be dropped, in the order in which it was."""
    numbers: list[object] = []
    for event in events:
        if event["channel"] == channel and event["type"] == "dropped":
            numbers += range(event["from_seq"], event["to_seq"] + 1)  # type: ignore[call-overload]
        elif event["channel"] == channel:
            numbers.append(event["seq"])
    return numbers
