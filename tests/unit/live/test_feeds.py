"""Wanted channels and feeds agree: planned, made, judged, made anew."""

from datetime import datetime
from itertools import pairwise

import pytest
import trio
from unit.live.fakes import BARS, TRADES, FakeProvider, World, streaming

from timebase.errors import AuthFailed, RateLimited, SymbolNotFound, Unavailable, Upstream
from timebase.live.feeds import Feeds, run_feeds
from timebase.model.feed import FeedKind, parse_channel
from timebase.model.instrument import AssetClass, Instrument
from timebase.model.interval import Interval
from timebase.model.timerange import MINUTE_US, SECOND_US, to_us
from timebase.streaming.hub import Hub

FIVE = parse_channel("bars:BTC-USDT:5m")
SESSION_US = 390 * MINUTE_US  # New York's


def two(**second):
    return FakeProvider(streaming("binance", priority=90)), FakeProvider(streaming("kraken", **second))


async def test_trades_and_all_bars_of_a_symbol_are_one_subscription(autojump_clock):
    world = World()
    async with world.running():
        for channel in (BARS, TRADES, FIVE, BARS):
            world.wants.want(channel)
        await trio.sleep(1)
        assert len(world.vendor.subscribed) == 1
        feed = world.vendor.feed
        assert feed.kind is FeedKind.TRADES
        assert set(feed.bars) == set(Interval)
        assert feed.ticks.kind == "trades"
        assert world.hub.bound == dict.fromkeys((BARS, TRADES, FIVE), "binance")


async def test_a_provider_of_ready_made_bars_has_a_feed_for_each_interval(autojump_clock):
    world = World(FakeProvider(streaming(streams=(FeedKind.BARS,))))
    async with world.running():
        world.wants.want(BARS)
        world.wants.want(FIVE)
        await trio.sleep(1)
        feeds = {feed.interval: feed for feed in world.vendor.active.values()}
        assert set(feeds) == {Interval.M1, Interval.M5}
        assert set(feeds[Interval.M5].bars) == {Interval.M5}
        assert feeds[Interval.M5].ticks is None


async def test_the_last_one_leaving_ends_it_after_a_while(autojump_clock):
    world = World(linger_s=30)
    async with world.running():
        world.wants.want(BARS)
        await trio.sleep(1)
        world.wants.unwant(BARS)
        await trio.sleep(29)
        assert world.vendor.active
        await trio.sleep(2)
        assert not world.vendor.active
        assert world.feeds.facts() == []
        assert world.hub.bound == {}


async def test_every_subscription_is_taken_back_at_the_end(autojump_clock):
    world = World()
    async with world.running():
        world.wants.want(BARS)
        await trio.sleep(1)
    assert not world.vendor.active
    assert world.roster.on_feed_end == []


async def test_what_nobody_streams_is_refused_with_the_reason_until_somebody_does(autojump_clock):
    vendor = FakeProvider(streaming(), state="disabled", reason="switched off by the operator")
    world = World(vendor)
    async with world.running():
        world.wants.want(BARS)
        await trio.sleep(1)
        assert world.hub.refused == [
            ("bars:BTC-USDT:1m", "no_provider",
             "bars:BTC-USDT:1m: no provider streams it (binance: disabled: switched off by the operator)"),
        ]  # fmt: skip
        (fact,) = world.feeds.facts()
        assert (fact["state"], fact["provider"], fact["followers"]) == ("down", None, 1)
        vendor.become("ready")
        await trio.sleep(1)
        assert vendor.active
        assert world.state() == "connecting"


async def test_the_first_follower_of_what_is_only_collected_hears_at_once_that_nobody_streams_it(autojump_clock):
    world = World(FakeProvider(streaming(), state="disabled", reason="switched off by the operator"))
    hub = Hub(world.clock)
    feeds = Feeds(
        wants=world.wants, router=world.router, roster=world.roster, store=world.store, hub=hub, healer=world.healer
    )
    hub.attach(world.wants, feeds)
    async with trio.open_nursery() as nursery:
        await nursery.start(run_feeds, feeds)
        world.wants.collect([BARS])
        await trio.sleep(1)
        for _ in range(2):
            with hub.follow(BARS) as follower, trio.fail_after(1):
                (event,) = await follower.next()
            assert event.content.code == "no_provider"
        nursery.cancel_scope.cancel()


async def test_a_feed_that_nobody_wants_any_more_is_forgotten(autojump_clock):
    world = World(linger_s=30)
    async with world.running():
        world.wants.want(BARS)
        await trio.sleep(1)
        feed = world.vendor.feed
        world.wants.unwant(BARS)
        await trio.sleep(29)
        assert world.hub.forgotten == []
        await trio.sleep(2)
        assert world.hub.forgotten == [feed.id]


async def test_while_the_database_is_away_it_is_tried_again(autojump_clock):
    world = World()
    world.store.is_away = True
    async with world.running():
        world.wants.want(BARS)
        await trio.sleep(30)
        assert not world.vendor.subscribed
        assert "store_unavailable" in world.feeds.facts()[0]["reason"]
        world.store.is_away = False
        await trio.sleep(60)
        assert world.vendor.active


# --- falling and coming back ---


async def test_a_feed_that_falls_is_made_anew_and_its_followers_are_told(autojump_clock):
    world = World()
    async with world.running():
        world.wants.want(BARS)
        await trio.sleep(1)
        first = world.vendor.feed
        await world.trade_for(5)
        world.vendor.fail(first, Upstream("the socket closed"))
        await trio.sleep(1)
        assert world.vendor.feed.id != first.id  # what is late of the first connection is not taken for news
        await world.trade_for(5)
        assert world.hub.seen() == ["connecting", "live", "down", "connecting", "live"]
        assert ("down", "binance", "upstream: the socket closed") in world.hub.states


async def test_the_pauses_grow_and_have_an_end(autojump_clock):
    world = World(FakeProvider(streaming(), error=Upstream("no route")))
    async with world.running():
        world.wants.want(BARS)
        await trio.sleep(600)
        times = [at for at, _ in world.vendor.subscribed]
        pauses = [b - a for a, b in pairwise(times)]
        wanted = [min(60, 0.25 * 2**n) for n in range(len(pauses))]
        assert pauses == [pytest.approx(pause_s, rel=0.21) for pause_s in wanted]
        assert world.feeds.facts()[0]["attempts"] == len(times)
        assert world.feeds.failed() == {"binance": len(times)}


async def test_a_storm_of_reconnections_is_impossible(autojump_clock):
    """Feeds that live for a moment, a provider that dies each time, clients that come and go."""
    world = World(FakeProvider(streaming()), FakeProvider(streaming("kraken")), linger_s=0)

    async def trouble(vendor, every_s):
        while True:
            await trio.sleep(every_s)
            vendor.die()
            vendor.become("ready")

    async def restless():
        while True:
            world.wants.want(BARS)
            await trio.sleep(0.3)
            world.wants.unwant(BARS)
            await trio.sleep(0.2)

    async with world.running() as nursery:
        nursery.start_soon(trouble, world.providers[0], 0.1)
        nursery.start_soon(trouble, world.providers[1], 0.13)
        nursery.start_soon(restless)
        world.wants.want(TRADES)
        await trio.sleep(300)
    attempts = sum(len(vendor.subscribed) for vendor in world.providers)
    # Pauses grow to a minute, and a process that is new ends one of them twice a minute at most.
    assert attempts < 2 * (300 / 48 + 300 / 30) + 40


async def test_an_hour_of_calm_forgives(autojump_clock):
    world = World(FakeProvider(streaming(), errors=[Upstream("no route")] * 6))
    async with world.running():
        world.wants.want(BARS)
        await trio.sleep(30)
        await world.trade_for(120)
        world.vendor.fail(world.vendor.feed, Upstream("closed"))
        await trio.sleep(0.4)
        assert world.vendor.active
        assert world.feeds.facts()[0]["attempts"] == 1


async def test_a_vendors_word_on_when_to_come_again_is_kept(autojump_clock):
    world = World(FakeProvider(streaming(), errors=[RateLimited(retry_after_s=200.0)]))
    async with world.running():
        world.wants.want(BARS)
        await trio.sleep(199)
        assert len(world.vendor.subscribed) == 1
        await trio.sleep(2)
        assert world.vendor.active


async def test_a_provider_that_comes_back_is_not_left_waiting(autojump_clock):
    world = World()
    async with world.running():
        world.wants.want(BARS)
        await trio.sleep(1)
        world.vendor.die()
        await trio.sleep(300)
        assert not world.vendor.active
        world.vendor.become("ready")
        await trio.sleep(1)
        assert world.vendor.active


# --- another provider ---


@pytest.mark.parametrize("error", [SymbolNotFound("unknown"), AuthFailed("bad key")])
async def test_what_one_cannot_supply_the_next_one_does_at_once(autojump_clock, error):
    first, second = two()
    first.error = error
    world = World(first, second)
    async with world.running():
        world.wants.want(BARS)
        await trio.sleep(1)
        assert second.active
        assert world.hub.bound == {BARS: "kraken"}
        await trio.sleep(500)
        assert len(first.subscribed) == 1


async def test_a_provider_gets_a_second_chance_before_the_next_one_has_its_turn(autojump_clock):
    first, second = two()
    first.errors = [Upstream("closed")]
    world = World(first, second)
    async with world.running():
        world.wants.want(BARS)
        await trio.sleep(5)
        assert first.active
        assert not second.subscribed
        first.error = Upstream("closed")
        first.fail(first.feed, Upstream("closed"))
        await trio.sleep(5)
        assert second.active
        assert not first.active


async def test_it_stays_with_the_other_one_until_that_falls(autojump_clock):
    first, second = two()
    first.errors = [Upstream("closed")] * 2
    world = World(first, second)
    async with world.running():
        world.wants.want(BARS)
        await trio.sleep(5)
        for _ in range(300):
            world.tick(second)
            await trio.sleep(2)
        assert second.active
        assert not first.active
        second.error = Upstream("closed")
        second.fail(second.feed, Upstream("closed"))
        await trio.sleep(5)
        assert first.active


async def test_a_pinned_channel_waits_for_its_own(autojump_clock):
    first, second = two()
    first.error = Upstream("closed")
    world = World(first, second)
    async with world.running():
        world.wants.want(parse_channel("bars:BTC-USDT:1m@binance"))
        await trio.sleep(60)
        assert not second.subscribed
        assert world.hub.bound == {}  # bound is what is not pinned
        first.error = None
        await trio.sleep(80)  # the longest pause, and its jitter
        assert first.active


async def test_what_was_hopeless_is_tried_with_the_next_process(autojump_clock):
    vendor = FakeProvider(streaming(), error=SymbolNotFound("unknown"))
    world = World(vendor)
    async with world.running():
        world.wants.want(BARS)
        await trio.sleep(100)
        assert len(vendor.subscribed) == 1
        vendor.error = None
        vendor.become("starting")
        vendor.become("ready")
        await trio.sleep(1)
        assert vendor.active


async def test_a_process_that_falls_is_told_once_with_the_reason_of_its_fall(autojump_clock):
    world = World()
    async with world.running():
        world.wants.want(BARS)
        await trio.sleep(1)
        world.tick()
        world.vendor.die()
        await trio.sleep(5)
        world.vendor.become("starting")
        await trio.sleep(5)
        world.vendor.become("ready")
        await trio.sleep(1)
        assert world.hub.seen() == ["connecting", "live", "down", "connecting"]
        assert [reason for state, _, reason in world.hub.states if state == "down"] == [
            "unavailable: killed by SIGKILL"
        ]


# --- states ---


async def test_a_quiet_market_and_a_cut_feed_are_told_apart(autojump_clock):
    world = World()
    async with world.running() as nursery:
        world.wants.want(BARS)
        await trio.sleep(1)
        await world.trade_for(60, 0.5, pulses=True)
        world.say(is_up=False, reason="connection reset")
        await trio.sleep(90)
        assert world.state() == "down"
        world.say(is_up=True)
        await world.trade_for(5, 0.5, pulses=True)
        assert world.state() == "live"

        async def pulses():
            while True:
                world.pulse()
                await trio.sleep(5)

        nursery.start_soon(pulses)
        await trio.sleep(90)
        assert world.state() == "quiet"
        await world.trade_for(5, 0.5)
        assert world.hub.seen() == ["connecting", "live", "down", "live", "quiet", "live"]
    assert len(world.vendor.subscribed) == 1


async def test_a_connected_but_mute_feed_is_made_anew(autojump_clock):
    world = World()
    async with world.running():
        world.wants.want(BARS)
        await trio.sleep(1)
        await world.trade_for(60, 0.5)
        await trio.sleep(10)
        assert len(world.vendor.subscribed) == 1
        await trio.sleep(2)
        assert len(world.vendor.subscribed) == 2
        await world.trade_for(5)
        assert world.hub.seen() == ["connecting", "live", "mute", "connecting", "live"]
        assert len(world.vendor.active) == 1


async def test_a_provider_that_stays_mute_is_started_anew_but_not_over_and_over(autojump_clock):
    world = World()
    async with world.running():
        world.wants.want(BARS)
        await trio.sleep(1)
        await world.trade_for(60, 0.5)
        await trio.sleep(3_600)
        assert 1 <= len(world.vendor.restarts) <= 4
        pauses = [b - a for a, b in pairwise(world.vendor.restarts)]
        assert all(pause_s >= 900 for pause_s in pauses)
        assert len(world.vendor.subscribed) < 30


async def test_a_provider_is_not_started_anew_while_others_hear_from_it(autojump_clock):
    world = World()
    async with world.running():
        world.wants.want(BARS)
        world.wants.want(parse_channel("trades:ETH-USDT"))
        await trio.sleep(1)
        await world.trade_for(30)
        for _ in range(1_800):
            for feed in world.vendor.active.values():
                if feed.instrument.symbol == "ETH-USDT":
                    world.feeds.note(feed, world.clock(), world.clock(), 1, oldest_us=world.clock())
            await trio.sleep(1)
        assert world.vendor.restarts == []
        assert len(world.vendor.subscribed) > 3


async def test_a_connection_that_stays_down_is_made_anew(autojump_clock):
    world = World(down_s=120)
    async with world.running():
        world.wants.want(BARS)
        await trio.sleep(1)
        await world.trade_for(5)
        world.say(is_up=False, reason="connection reset")
        await trio.sleep(119)
        assert len(world.vendor.subscribed) == 1
        await trio.sleep(5)
        assert len(world.vendor.subscribed) == 2


async def test_silence_is_not_the_vendors_while_the_road_is_jammed(autojump_clock):
    world = World()
    async with world.running():
        world.wants.want(BARS)
        await trio.sleep(1)
        await world.trade_for(60, 0.5)
        world.jammed = True
        await trio.sleep(300)
        world.jammed = False
        await trio.sleep(5)
        await world.trade_for(30)
        assert world.hub.seen() == ["connecting", "live"]


async def test_out_of_session_nobody_expects_a_word(autojump_clock):
    listed = Instrument(0, "AAPL", AssetClass.STOCK, timezone="America/New_York")
    world = World(FakeProvider(streaming(symbols=(listed,))))
    async with world.running():
        world.wants.want(parse_channel("trades:AAPL"))
        await trio.sleep(300)  # the fakes' clock begins at midnight UTC
        assert world.state() == "closed"
        assert len(world.vendor.subscribed) == 1


@pytest.mark.parametrize(
    ("friday", "monday"),
    [("2024-03-08T14:30Z", "2024-03-11T13:30Z"), ("2024-11-01T13:30Z", "2024-11-04T14:30Z")],
)
async def test_when_new_yorks_clocks_change_its_feeds_are_closed_until_the_new_hour_and_coins_never_are(
    autojump_clock, friday, monday
):
    listed = Instrument(0, "AAPL", AssetClass.STOCK, timezone="America/New_York")
    world = World(FakeProvider(streaming(symbols=(listed, Instrument(0, "BTC-USDT", AssetClass.CRYPTO)))), look_s=30)
    opens_us, opens_again_us = (to_us(datetime.fromisoformat(text)) for text in (friday, monday))
    world.clock.step((opens_us - world.clock()) / SECOND_US)
    last_us = opens_again_us + 3_600 * SECOND_US
    hours = []  # (state, when it began) of the stock, each in turn
    async with world.running():
        for symbol in ("AAPL", "BTC-USDT"):
            world.wants.want(parse_channel(f"trades:{symbol}"))
        await trio.sleep(1)
        while world.clock() < last_us:
            _trade(world, opens_us, opens_again_us)
            await trio.sleep(45)
            states = {fact["symbol"]: fact["state"] for fact in world.feeds.facts()}
            assert states["BTC-USDT"] == "live"
            if not hours or hours[-1][0] != states["AAPL"]:
                hours.append((states["AAPL"], world.clock()))
    assert [state for state, _ in hours] == ["live", "closed", "live"]
    (_, closed_us), (_, open_us) = hours[1:]
    assert 0 <= closed_us - (opens_us + SESSION_US) < 5 * MINUTE_US
    assert 0 <= open_us - opens_again_us < MINUTE_US
    assert len(world.vendor.subscribed) == 2, "nothing was made anew"


def _trade(world, *openings_us):
    """Coins always, stocks in their sessions; no vendor's pulse says that the connection is alive."""
    now_us = world.clock()
    for feed in world.vendor.active.values():
        if feed.instrument.symbol != "AAPL" or any(at <= now_us < at + SESSION_US for at in openings_us):
            world.feeds.note(feed, now_us, now_us, 1, oldest_us=now_us)


async def test_a_tape_has_a_clock_of_its_own(autojump_clock):
    """A Friday afternoon of years ago, played fast: open while it plays, however late it is here."""
    listed = Instrument(0, "AAPL", AssetClass.STOCK, timezone="America/New_York")
    world = World(FakeProvider(streaming(symbols=(listed,))))
    async with world.running():
        world.wants.want(parse_channel("trades:AAPL"))
        await trio.sleep(1)
        for minute in range(30):
            world.tick(event_us=1_513_956_600_000_000 + minute * 60_000_000)  # 2017-12-22 15:30 UTC
            await trio.sleep(1)
        await trio.sleep(120)
        assert "mute" in world.hub.seen()
        assert "closed" not in world.hub.seen()


async def test_what_is_late_on_the_road_says_nothing_about_the_new_connection(autojump_clock):
    world = World()
    async with world.running():
        world.wants.want(BARS)
        await trio.sleep(1)
        await world.trade_for(5)
        feed = world.vendor.feed
        world.vendor.fail(feed, Unavailable("killed"))
        await trio.sleep(1)
        world.feeds.note(feed, world.clock(), world.clock(), 1, oldest_us=world.clock())
        assert world.state() == "connecting"
