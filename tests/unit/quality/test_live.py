import logging
import math

import numpy as np
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from timebase.model.bars import Bars, Batch, Flag, Outcome
from timebase.model.feed import Feed, FeedKind
from timebase.model.instrument import AssetClass, Instrument
from timebase.model.interval import Interval
from timebase.model.live import Arrival, Live
from timebase.model.series import Series
from timebase.model.ticks import Quotes, TradeFlag, Trades
from timebase.model.timerange import DAY_US, HOUR_US, MINUTE_US, SECOND_US, TimeRange
from timebase.quality.live import Refusals, validate_live
from timebase.quality.tick_rules import TRADE_RULES, TickContext, is_clean
from timebase.quality.validator import run_validator

NOW = 1_704_067_200_000_000


def feed_of(kind: FeedKind, asset_class: AssetClass = AssetClass.STOCK) -> Feed:
    interval = Interval.M1 if kind is FeedKind.BARS else None
    return Feed(1, kind, Instrument(1, "AAPL", asset_class), "demo", interval)


def judged(arrival: Arrival) -> tuple[Arrival, dict[str, int]]:
    refusals = Refusals()
    (good,) = validate_live(Live((arrival,)), refusals, latest_us=NOW).arrivals
    return good, {rule: count for (_, _, _, rule), count in refusals.counts.items()}


def trades_arrival(trades: Trades, asset_class: AssetClass = AssetClass.STOCK) -> Arrival:
    return Arrival(feed_of(FeedKind.TRADES, asset_class), NOW, trades=trades)


@pytest.mark.parametrize(
    ("rule", "row"),
    [
        ("time_range", (0, 10.0, 1.0, 1, 0)),
        ("time_range", (NOW + 11 * SECOND_US, 10.0, 1.0, 1, 0)),
        ("time_range", (NOW * 1_000, 10.0, 1.0, 1, 0)),  # nanoseconds
        ("time_range", (2**63 - 1, 10.0, 1.0, 1, 0)),
        ("time_range", (-(2**63), 10.0, 1.0, 1, 0)),
        ("flags", (NOW, 10.0, 1.0, 1, 4)),
        ("flags", (NOW, 10.0, 1.0, 0, TradeFlag.CANCEL)),
        ("finite", (NOW, math.nan, 1.0, 1, 0)),
        ("finite", (NOW, math.inf, 1.0, 1, 0)),
        ("finite", (NOW, 1e308, 1.0, 1, 0)),
        ("positive", (NOW, 0.0, 1.0, 1, 0)),
        ("positive", (NOW, -1.0, 1.0, 1, TradeFlag.CORRECTION)),
        ("size", (NOW, 10.0, -1.0, 1, 0)),
        ("size", (NOW, 10.0, math.nan, 1, 0)),
        ("size", (NOW, 10.0, 1e308, 1, 0)),
    ],
)
def test_a_bad_trade_is_refused_by_name_and_the_good_one_beside_it_stays(rule: str, row: tuple[float, ...]) -> None:
    time, price, size, ident, flags = row
    trades = Trades.of([NOW, time], [10.0, price], [1.0, size], id=[7, ident], flags=[0, flags])  # type: ignore[list-item]

    good, refused = judged(trades_arrival(trades))

    assert good.trades is not None
    assert good.trades.id.tolist() == [7]
    assert refused == {rule: 1}


def test_a_local_clock_that_is_behind_the_exchange_refuses_nothing() -> None:
    trades = Trades.of([NOW + 1_270_000], [10.0], [0.0])

    good, refused = judged(trades_arrival(trades))

    assert good.trades is trades
    assert refused == {}


def test_a_tape_of_last_year_is_as_good_as_a_live_one() -> None:
    trades = Trades.of([NOW - 365 * DAY_US], [10.0], [1.0])

    assert judged(trades_arrival(trades))[0].trades is trades


def test_a_cancel_needs_neither_price_nor_size() -> None:
    trades = Trades.of([NOW], [math.nan], [math.nan], id=[7], flags=[TradeFlag.CANCEL])

    good, refused = judged(trades_arrival(trades))

    assert good.trades is not None
    assert len(good.trades) == 1
    assert refused == {}


def test_crude_oil_may_trade_below_zero() -> None:
    trades = Trades.of([NOW], [-37.63], [1.0])

    assert judged(trades_arrival(trades, AssetClass.FUTURE))[1] == {}


@given(
    st.lists(
        st.tuples(
            st.sampled_from([NOW, 0, NOW + DAY_US]),
            st.sampled_from([10.0, 0.0, -1.0, math.nan, math.inf]),
            st.sampled_from([1.0, 0.0, -1.0, math.nan, math.inf]),
            st.sampled_from([0, 0, 1, 2, 4]),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_what_is_called_clean_at_once_breaks_no_rule(rows: list[tuple[int, float, float, int]]) -> None:
    time, price, size, flags = zip(*rows, strict=True)
    trades = Trades.of(time, price, size, flags=flags)
    context = TickContext(AssetClass.STOCK, NOW)

    if is_clean(trades, context):
        assert not any(rule.bad(trades, context).any() for rule in TRADE_RULES)


def test_a_crossed_quote_passes_and_is_counted() -> None:
    quotes = Quotes.of([NOW, NOW], [10.1, 10.0], [1.0, 1.0], [10.0, 10.1], [1.0, 1.0])

    good, counted = judged(Arrival(feed_of(FeedKind.QUOTES), NOW, quotes=quotes))

    assert good.quotes is quotes
    assert counted == {"crossed": 1}


def test_bad_quotes_are_refused_by_name() -> None:
    quotes = Quotes.of(
        [NOW, 0, NOW, NOW, NOW], [10.0, 10.0, math.nan, -1.0, 10.0], [1.0, 1.0, 1.0, 1.0, -1.0], [10.1] * 5, [0.0] * 5
    )

    good, refused = judged(Arrival(feed_of(FeedKind.QUOTES), NOW, quotes=quotes))

    assert good.quotes is not None
    assert len(good.quotes) == 1
    assert refused == {"time_range": 1, "finite": 1, "positive": 1, "size": 1}


def test_a_bar_may_be_told_again_and_again_while_it_forms() -> None:
    flags = [Flag.FORMING, Flag.FORMING, 0]
    bars = Bars.of([NOW - MINUTE_US] * 3, [1.0] * 3, [2.0] * 3, [1.0] * 3, [1.5, 1.6, 1.7], [1.0, 2.0, 3.0], flags)

    good, refused = judged(Arrival(feed_of(FeedKind.BARS), NOW, bars=bars))

    assert good.bars is bars
    assert refused == {}


def test_a_broken_live_bar_is_refused_by_the_rules_of_history() -> None:
    bars = Bars.of([NOW, NOW + 1], [1.0] * 2, [2.0, 0.5], [1.0] * 2, [1.5] * 2, [1.0] * 2)

    good, refused = judged(Arrival(feed_of(FeedKind.BARS), NOW, bars=bars))

    assert good.bars is not None
    assert good.bars.time.tolist() == [NOW]
    assert refused == {"alignment": 1}


def test_columns_of_different_lengths_are_refused_whole() -> None:
    trades = Trades.of([NOW, NOW], [1.0, 1.0], [1.0, 1.0])
    broken = Trades(trades.time, trades.price[:1], trades.size, trades.side, trades.id, trades.flags)

    good, refused = judged(trades_arrival(broken))

    assert good.trades is None
    assert refused == {"columns": 2}


@pytest.mark.parametrize("kind", list(FeedKind))
def test_what_is_plausible_now_passes_though_the_wall_clock_was_put_back_by_an_hour(kind: FeedKind) -> None:
    flat, minute = np.full(1, 10.0), np.array([NOW - NOW % MINUTE_US])
    rows = {
        FeedKind.TRADES: {"trades": Trades.of([NOW], flat, flat)},
        FeedKind.QUOTES: {"quotes": Quotes.of([NOW], flat, flat, flat, flat)},
        FeedKind.BARS: {"bars": Bars.of(minute, flat, flat, flat, flat, flat)},
    }
    arrival = Arrival(feed_of(kind), NOW - HOUR_US, pulse_us=NOW, **rows[kind])  # type: ignore[arg-type]

    good, refused = judged(arrival)

    assert good == arrival
    assert refused == {}


def test_words_about_a_feed_pass() -> None:
    word = Arrival(feed_of(FeedKind.TRADES), NOW, is_up=False, reason="cut")

    assert judged(word)[0] is word


def test_a_pulse_ahead_of_our_clock_is_not_heard() -> None:
    good, refused = judged(Arrival(feed_of(FeedKind.TRADES), NOW, pulse_us=NOW + DAY_US))

    assert good.pulse_us is None
    assert refused == {"pulse": 1}


def test_refusals_are_said_at_the_first_and_then_at_each_digit_more(caplog: pytest.LogCaptureFixture) -> None:
    refusals, bad = Refusals(), trades_arrival(Trades.of([NOW], [0.0], [1.0]))

    with caplog.at_level(logging.WARNING):
        for _ in range(25):
            validate_live(Live((bad,)), refusals, latest_us=NOW)

    assert [record.getMessage().split(": ")[1] for record in caplog.records] == [
        "1 refused by rule positive",
        "10 refused by rule positive",
    ]
    assert refusals.counts["demo", "AAPL", "trades", "positive"] == 25


def test_a_clock_that_may_be_behind_is_said_to_be_once(caplog: pytest.LogCaptureFixture) -> None:
    refusals = Refusals()
    late = trades_arrival(Trades.of([NOW, NOW + HOUR_US], [10.0, 10.0], [1.0, 1.0]))
    pulse = Arrival(feed_of(FeedKind.QUOTES), NOW, pulse_us=NOW + HOUR_US)

    for _ in range(25):
        validate_live(Live((late, pulse)), refusals, latest_us=NOW)

    said = [record.getMessage() for record in caplog.records if "may be behind" in record.getMessage()]
    assert said == [
        "trades:AAPL of demo is 3600 s ahead: this machine's clock may be behind; what is ahead of it is refused until "
        "the clock is put right"
    ]


def test_a_number_that_is_no_time_at_all_says_nothing_about_the_clock(caplog: pytest.LogCaptureFixture) -> None:
    wild = trades_arrival(Trades.of([NOW * 1_000, 0, -(2**63), 2**63 - 1], [10.0] * 4, [1.0] * 4))
    validate_live(Live((wild,)), Refusals(), latest_us=NOW)
    assert "may be behind" not in caplog.text


async def test_live_and_history_leave_in_the_order_they_came(autojump_clock: trio.testing.MockClock) -> None:
    flat = np.full(1, 10.0)
    series, covers = Series(1, 1, "AAPL", "demo", Interval.M1), TimeRange(NOW - MINUTE_US, NOW)
    bars = Bars.of([NOW - MINUTE_US], flat, flat, flat, flat, flat)
    batch = Batch(1, series, covers, Outcome.COMPLETE, "history", NOW, bars)
    live = Live((trades_arrival(Trades.of([NOW, 0], [1.0, 1.0], [1.0, 1.0])),))
    raw_in, raw_out = trio.open_memory_channel[Batch | Live](8)
    good_in, good_out = trio.open_memory_channel[Batch | Live](8)
    refusals = Refusals()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: run_validator(raw_out, good_in, latest_us=lambda: NOW, refusals=refusals))
        for item in (live, batch, live):
            await raw_in.send(item)
        raw_in.close()
    left = [item async for item in good_out]

    assert [type(item) for item in left] == [Live, Batch, Live]
    assert refusals.counts.total() == 2
