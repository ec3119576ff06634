"""From where to where a channel was without its feed."""

from dataclasses import dataclass, field, replace

import pytest

from timebase.live.gaps import Gaps
from timebase.live.line import Line
from timebase.live.settings import LiveSettings
from timebase.live.supply import Supply, built_from
from timebase.live.wants import Wants
from timebase.model.feed import Feed, FeedKind, parse_channel
from timebase.model.instrument import AssetClass, Instrument
from timebase.model.interval import Interval
from timebase.model.series import Series
from timebase.model.timerange import DAY_US, SECOND_US

BTC = Instrument(1, "BTC-USDT", AssetClass.CRYPTO)
BARS, TRADES = parse_channel("bars:BTC-USDT:1m"), parse_channel("trades:BTC-USDT")
SUPPLY = Supply(FeedKind.TRADES, "BTC-USDT", "binance")
BARS_BY_US = {each: Series(1, 1, "BTC-USDT", "binance", each) for each in built_from(SUPPLY)}
FEED = Feed(1, FeedKind.TRADES, BTC, "binance", None, None, BARS_BY_US)
NOW_US = 1_000 * DAY_US
MINUTE_US = 60 * SECOND_US


@dataclass
class Owed:
    """A healer that takes notes."""

    calls: list = field(default_factory=list)

    def owe(self, feed, interval, from_us, joined_us, *, traded_us, event_now_us):
        self.calls.append((interval, from_us, joined_us, tuple(sorted(traded_us))))

    def facts(self, feed):
        return ()


@pytest.fixture
def wants():
    return Wants(30)


@pytest.fixture
def healer():
    return Owed()


@pytest.fixture
def gaps(wants, healer):
    return Gaps(wants, healer, LiveSettings(heal_back_days=30))


@pytest.fixture
async def line(autojump_clock):
    made = Line(SUPPLY, BTC, lambda: NOW_US)
    made.open(FEED)
    made.channels |= {BARS, TRADES}
    return made


def heard(line, event_us):
    line.note_data(NOW_US, event_us)


async def test_from_the_last_word_before_it_to_the_first_after_it(gaps, healer, line):
    gaps.joined(line, NOW_US, oldest_us=NOW_US)
    heard(line, NOW_US + MINUTE_US)
    gaps.lost(line)
    healer.calls.clear()
    gaps.joined(line, NOW_US + 9 * MINUTE_US, oldest_us=NOW_US + 8 * MINUTE_US)
    lost, back = NOW_US + MINUTE_US, NOW_US + 9 * MINUTE_US
    assert healer.calls == [(Interval.M1, lost, back, (lost, back))]


async def test_what_is_told_of_a_ready_made_bar_may_be_its_end_and_says_nothing_of_the_period_after_it(gaps, healer):
    supply = Supply(FeedKind.BARS, "BTC-USDT", "binance", Interval.M1)
    line = Line(supply, BTC, lambda: NOW_US)
    line.open(FEED)
    line.channels.add(BARS)
    gaps.joined(line, NOW_US, oldest_us=NOW_US - MINUTE_US)
    heard(line, NOW_US)
    gaps.lost(line)
    gaps.joined(line, NOW_US + 9 * MINUTE_US, oldest_us=NOW_US + 8 * MINUTE_US)
    assert [traded for *_, traded in healer.calls] == [(), ()]


async def test_a_channel_of_trades_owes_no_bars(gaps, healer, line):
    line.channels.discard(BARS)
    gaps.joined(line, NOW_US, oldest_us=NOW_US)
    gaps.lost(line)
    gaps.joined(line, NOW_US + MINUTE_US)
    assert healer.calls == []


async def test_a_channel_that_goes_to_another_line_takes_its_gap_along(gaps, healer, line):
    gaps.joined(line, NOW_US, oldest_us=NOW_US)
    gaps.left(line, BARS)
    other = Line(Supply(FeedKind.TRADES, "BTC-USDT", "kraken"), BTC, lambda: NOW_US)
    other.open(FEED)
    other.join(NOW_US + 5 * MINUTE_US)
    healer.calls.clear()
    gaps.came(other, BARS)
    assert healer.calls == [(Interval.M1, NOW_US, NOW_US + 5 * MINUTE_US, ())]


async def test_the_first_loss_counts_until_it_is_there_again(gaps, healer, line):
    gaps.joined(line, NOW_US, oldest_us=NOW_US)
    gaps.lost(line)
    gaps.meanwhile(line)
    gaps.meanwhile(line)
    gaps.lost(line)
    gaps.joined(line, NOW_US + MINUTE_US)
    assert [start for _, start, _, _ in healer.calls] == [NOW_US, NOW_US, NOW_US]  # joined, meanwhile once, joined anew


async def test_who_comes_late_to_a_feed_owes_nothing_unless_it_is_collected(gaps, healer, wants, line):
    line.join(NOW_US - DAY_US)
    line.note_data(NOW_US, NOW_US)
    gaps.came(line, BARS)
    assert healer.calls == []
    wants.collect([BARS])
    gaps.came(line, BARS)
    assert healer.calls == [
        (Interval.M1, None, NOW_US - DAY_US, ()),
        (Interval.M1, NOW_US - DAY_US, NOW_US - DAY_US, ()),
    ]


async def test_what_was_left_for_too_long_is_not_made_up_for_by_itself(gaps, healer, line):
    gaps.joined(line, NOW_US, oldest_us=NOW_US)
    gaps.lost(line)
    healer.calls.clear()
    gaps.joined(line, NOW_US + 90 * DAY_US)
    assert healer.calls == [(Interval.M1, NOW_US + 60 * DAY_US, NOW_US + 90 * DAY_US, ())]


async def test_old_words_of_connections_that_fell_again_forget_no_gap(gaps, healer, line):
    gaps.joined(line, NOW_US, oldest_us=NOW_US)
    heard(line, NOW_US + MINUTE_US)
    gaps.lost(line)
    for age_us in (DAY_US, 3 * MINUTE_US):
        line.open(replace(FEED, since_us=NOW_US + 9 * MINUTE_US))
        gaps.joined(line, NOW_US + 9 * MINUTE_US - age_us, oldest_us=NOW_US + 9 * MINUTE_US - age_us)
        heard(line, NOW_US + 2 * MINUTE_US)
        gaps.lost(line)
    line.open(replace(FEED, since_us=NOW_US + 9 * MINUTE_US))
    gaps.joined(line, NOW_US + 10 * MINUTE_US)
    lost, heard_last, back = NOW_US + MINUTE_US, NOW_US + 2 * MINUTE_US, NOW_US + 10 * MINUTE_US
    assert healer.calls[-1] == (Interval.M1, lost, back, (lost, heard_last))


async def test_an_old_word_of_a_connection_that_fell_is_not_where_a_gap_begins(gaps, healer, line):
    line.open(replace(FEED, since_us=NOW_US))
    gaps.joined(line, NOW_US - 20 * DAY_US, oldest_us=NOW_US - 20 * DAY_US)
    gaps.lost(line)
    line.open(replace(FEED, since_us=NOW_US))
    gaps.joined(line, NOW_US + 5, oldest_us=NOW_US + 5)
    assert healer.calls[-1] == (Interval.M1, NOW_US + 5, NOW_US + 5, (NOW_US + 5,))


async def test_a_tape_that_was_wound_back_owes_from_where_it_was_lost_then(gaps, healer, line):
    line.open(replace(FEED, since_us=NOW_US))
    for day in (2, 5):
        gaps.joined(line, NOW_US - day * DAY_US, oldest_us=NOW_US - day * DAY_US)
        gaps.joined(line, NOW_US - day * DAY_US + 5)
        gaps.lost(line)
        line.open(replace(FEED, since_us=NOW_US))
    gaps.joined(line, NOW_US - 5 * DAY_US + MINUTE_US)
    assert healer.calls[-1] == (Interval.M1, NOW_US - 5 * DAY_US, NOW_US - 5 * DAY_US + MINUTE_US, ())
