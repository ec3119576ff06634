from datetime import UTC, datetime

import numpy as np
import pytest
from unit.aggregation.tapes import bars_of, builder_of, feed_of, standing, told, trades_at

from timebase.aggregation.bar_builder import BarBuilder
from timebase.aggregation.rebuild import rebuild
from timebase.model.bars import Flag
from timebase.model.interval import Interval
from timebase.model.live import BarStatus, BarUpdate
from timebase.model.ticks import TradeFlag, Trades
from timebase.model.timerange import DAY_US, HOUR_US, MINUTE_US, SECOND_US, to_us

M1, M5, D1 = Interval.M1, Interval.M5, Interval.D1
NOON = to_us(datetime(2024, 3, 8, 12, tzinfo=UTC))  # a Friday


def minutes(*updates: BarUpdate) -> list[tuple[int, str, int]]:
    """(minute after noon, status, revision)"""
    return [((stamp - NOON) // MINUTE_US, status, revision) for stamp, status, revision in told(updates, M1)]


def joined(**building: object) -> BarBuilder:
    """A builder that has seen the minute before noon begin, so that the one at noon is whole."""
    builder = builder_of(**building)  # type: ignore[arg-type]
    builder.take(trades_at(-30, since=NOON))
    return builder


def test_a_bar_closes_once_when_the_watermark_passes_its_end() -> None:
    builder = joined(lateness_us=2 * SECOND_US)
    builder.take(trades_at(1, 59, 60, 61.9, since=NOON))
    assert (0, "closed", 0) not in minutes(*builder.closed())

    builder.take(trades_at(62, since=NOON))
    builder.take(trades_at(63, 64, since=NOON))

    assert minutes(*builder.closed()) == [(0, "closed", 0)]


def test_a_closed_bar_says_prices_volume_count_and_vwap() -> None:
    builder = joined()
    builder.take(Trades.of([NOON, NOON + 1, NOON + 2, NOON + MINUTE_US], [10.0, 12.0, 9.0, 7.0], [1.0, 2.0, 1.0, 9.0]))

    closed = [
        update for update in builder.closed() if update.status is BarStatus.CLOSED and update.series.interval is M1
    ]

    assert [bars_of(update) for update in closed] == [{NOON: (10.0, 12.0, 9.0, 9.0, 4.0, 3, 10.75)}]
    assert closed[0].event_us == NOON + MINUTE_US
    assert closed[0].bars.flags.tolist() == [0]


def test_the_period_in_which_a_feed_joined_is_missing_at_every_interval() -> None:
    builder = builder_of()
    builder.take(trades_at(30, since=NOON))
    builder.pulse(NOON + 40 * DAY_US)
    updates = builder.closed()

    assert {update.status for update in updates} == {BarStatus.MISSING}
    assert [update.series.interval for update in updates] == list(Interval)
    assert all(np.isnan(update.bars.open).all() and update.trades.tolist() == [0] for update in updates)


def test_a_bar_whose_first_trade_might_not_be_its_first_is_not_whole() -> None:
    builder = builder_of()
    builder.take(trades_at(0, 60, 120, since=NOON))

    assert minutes(*builder.closed()) == [(0, "missing", 0), (1, "closed", 0)]


def test_a_minute_without_trades_is_nothing_at_all() -> None:
    builder = joined()
    builder.take(trades_at(1, 181, since=NOON))

    assert minutes(*builder.closed()) == [(-1, "missing", 0), (0, "closed", 0)]


def test_a_minute_without_trades_is_flat_if_the_operator_wants_it() -> None:
    builder = joined(fills_quiet=True)
    builder.take(trades_at(1, 181, since=NOON))

    updates = builder.closed()

    assert minutes(*updates) == [(-1, "missing", 0), (0, "closed", 0), (1, "closed", 0), (2, "closed", 0)]
    assert standing(updates, M1)[NOON + MINUTE_US][:6] == (10.0, 10.0, 10.0, 10.0, 0.0, 0)


def test_minutes_in_which_the_feed_was_down_are_missing_and_never_flat() -> None:
    builder = joined(fills_quiet=True)
    builder.take(trades_at(1, 61, 90, since=NOON))
    builder.closed()
    builder.leave()
    builder.leave()
    builder.take(trades_at(250, since=NOON))
    builder.take(trades_at(301, 361, since=NOON))

    updates = builder.closed()

    assert minutes(*updates) == [
        (1, "missing", 0),
        (2, "missing", 0),
        (3, "missing", 0),
        (4, "missing", 0),
        (5, "closed", 0),
    ]
    assert told(updates, M5)[-1] == (NOON, "missing", 0)


def test_each_bar_before_between_and_after_two_outages_is_told_in_order() -> None:
    builder = joined(lateness_us=30 * SECOND_US)
    for outage in (65, 185):
        builder.take(trades_at(outage - 60, outage, since=NOON))
        builder.leave()
    builder.take(trades_at(245, 301, 366, since=NOON))
    builder.pulse(NOON + 1000 * SECOND_US)

    assert minutes(*builder.closed()) == [
        (-1, "missing", 0), (0, "closed", 0), (1, "missing", 0), (2, "missing", 0), (3, "missing", 0),
        (4, "missing", 0), (5, "closed", 0), (6, "closed", 0),
    ]  # fmt: skip


def test_what_is_replayed_after_an_outage_does_not_say_that_nothing_was_missed() -> None:
    builder = joined()
    builder.take(trades_at(1, 61, since=NOON, ids=[1, 2]))
    builder.closed()
    builder.leave()

    fresh = builder.take(trades_at(1, 61, since=NOON, ids=[1, 2]))
    builder.take(trades_at(130, 181, since=NOON, ids=[9, 10]))

    assert len(fresh) == 0
    assert minutes(*builder.closed()) == [(1, "missing", 0), (2, "missing", 0)]


def test_a_late_trade_revises_its_bar_and_each_longer_one_that_was_closed() -> None:
    builder = joined()
    builder.take(trades_at(1, 61, 301, since=NOON))
    builder.closed()
    builder.take(trades_at(2, since=NOON, price=11.0))
    builder.take(trades_at(3, since=NOON, price=12.0))

    updates = builder.closed()

    assert minutes(*updates) == [(0, "revised", 1), (0, "revised", 2)]
    assert told(updates, M5) == [(NOON, "revised", 1), (NOON, "revised", 2)]
    assert standing(updates, M1)[NOON][:6] == (10.0, 12.0, 10.0, 12.0, 3.0, 3)
    assert all(update.bars.flags.tolist() == [Flag.REVISED] for update in updates)


def test_a_late_trade_that_is_a_copy_revises_nothing() -> None:
    builder = joined()
    builder.take(trades_at(1, 61, ids=[1, 2], since=NOON))
    builder.closed()

    assert len(builder.take(trades_at(1, ids=[1], since=NOON))) == 0
    assert builder.closed() == ()


def test_identical_trades_without_an_id_are_no_copies() -> None:
    builder = joined()
    builder.take(trades_at(1, 1, since=NOON))
    builder.take(trades_at(1, 61, since=NOON))

    assert standing(builder.closed(), M1)[NOON][4:6] == (3.0, 3)


def test_the_same_id_at_another_time_is_another_trade() -> None:
    builder = joined()
    builder.take(trades_at(1, 2, 61, ids=[5, 5, 6], since=NOON))

    assert standing(builder.closed(), M1)[NOON][5] == 2


def test_a_trade_too_late_to_be_placed_is_counted_and_changes_no_bar() -> None:
    builder = joined(keep_us=MINUTE_US)
    for second in range(1, 600, 20):
        builder.take(trades_at(second, since=NOON))
    builder.closed()

    late = builder.take(trades_at(3, since=NOON))

    assert len(late) == 1  # it is stored all the same
    assert builder.too_late == 1
    assert builder.closed() == ()


@pytest.mark.parametrize("is_closed", [False, True])
def test_a_cancel_takes_its_trade_back(is_closed: bool) -> None:
    builder = joined()
    builder.take(trades_at(1, ids=[1], since=NOON))
    builder.take(trades_at(2, price=99.0, ids=[2], since=NOON))
    if is_closed:
        builder.take(trades_at(61, ids=[3], since=NOON))
    builder.take(Trades.of([NOON + 62 * SECOND_US], [0.0], [0.0], id=[2], flags=[TradeFlag.CANCEL]))

    updates = builder.closed()

    assert minutes(*updates)[1:] == ([(0, "closed", 0), (0, "revised", 1)] if is_closed else [(0, "closed", 0)])
    assert standing(updates, M1)[NOON][:6] == (10.0, 10.0, 10.0, 10.0, 1.0, 1)


def test_a_cancel_that_comes_before_its_trade_takes_it_back_too() -> None:
    builder = joined(lateness_us=SECOND_US)
    builder.take(Trades.of([NOON + 3 * SECOND_US], [0.0], [0.0], id=[2], flags=[TradeFlag.CANCEL]))
    builder.take(trades_at(2.5, 4, 70, ids=[2, 3, 4], since=NOON))

    assert standing(builder.closed(), M1)[NOON][5] == 1


def test_of_several_corrections_the_newest_holds_whichever_comes_first() -> None:
    builder = joined()
    builder.take(trades_at(1, 61, ids=[1, 2], since=NOON))
    for second, price in ((70, 20.0), (69, 30.0)):
        flags = [TradeFlag.CORRECTION]
        builder.take(Trades.of([NOON + second * SECOND_US], [price], [2.0], id=[1], flags=flags))

    updates = builder.closed()

    assert minutes(*updates)[1:] == [(0, "closed", 0), (0, "revised", 1)]
    assert standing(updates, M1)[NOON] == (20.0, 20.0, 20.0, 20.0, 2.0, 1, 20.0)


def test_a_bar_that_loses_its_only_trade_lies_flat_at_the_close_before_it_without_volume() -> None:
    builder = joined()
    builder.take(trades_at(1, ids=[1], since=NOON))
    builder.take(trades_at(61, 121, price=50.0, ids=[2, 3], since=NOON))
    builder.closed()
    builder.take(Trades.of([NOON + 130 * SECOND_US], [0.0], [0.0], id=[2], flags=[TradeFlag.CANCEL]))

    updates = builder.closed()

    assert minutes(*updates) == [(1, "revised", 1)]
    assert standing(updates, M1)[NOON + MINUTE_US][:6] == (10.0, 10.0, 10.0, 10.0, 0.0, 0)


def test_a_cancel_of_a_trade_that_never_came_is_counted_in_the_end() -> None:
    builder = joined(keep_us=MINUTE_US)
    builder.take(Trades.of([NOON], [0.0], [0.0], id=[77], flags=[TradeFlag.CANCEL]))
    for second in range(1, 600, 20):
        builder.take(trades_at(second, since=NOON))

    assert builder.too_late == 1


def test_only_new_trades_and_new_words_are_handed_on() -> None:
    builder = joined()
    tape = Trades.of([NOON + 1, NOON + 2, NOON + 3], [1.0] * 3, [1.0] * 3, id=[1, 2, 1], flags=[0, 0, TradeFlag.CANCEL])

    assert builder.take(tape).id.tolist() == [1, 2, 1]
    assert builder.take(tape).id.tolist() == []


def test_forming_bars_are_told_for_the_intervals_asked_for_and_only_after_a_trade() -> None:
    builder = joined()
    builder.take(trades_at(1, 2, since=NOON))

    updates = builder.forming([M1, D1])

    assert [(update.series.interval, update.status) for update in updates] == [
        (M1, BarStatus.FORMING),
        (D1, BarStatus.FORMING),
    ]
    assert [int(update.trades[0]) for update in updates] == [2, 3]
    assert updates[0].bars.flags.tolist() == [Flag.FORMING]
    assert builder.forming([M1, D1]) == ()


def test_a_tape_of_1990_is_built_like_todays() -> None:
    long_ago = to_us(datetime(1990, 6, 1, tzinfo=UTC))
    builder = builder_of([M1])
    builder.take(trades_at(1, 61, 121, since=long_ago))

    assert told(builder.closed(), M1)[-1] == (long_ago + MINUTE_US, "closed", 0)


@pytest.mark.parametrize(
    ("zone", "first", "second"),
    [
        ("America/New_York", "2024-03-09T04:59:59", "2024-03-09T05:00:00"),  # winter
        ("America/New_York", "2024-03-12T03:59:59", "2024-03-12T04:00:00"),  # summer: the clocks changed on the 10th
        ("Asia/Kolkata", "2024-03-08T18:29:59", "2024-03-08T18:30:00"),
        ("", "2024-03-08T23:59:59", "2024-03-09T00:00:00"),
    ],
)
def test_a_day_ends_at_midnight_of_the_instrument(zone: str, first: str, second: str) -> None:
    times = [to_us(datetime.fromisoformat(at).replace(tzinfo=UTC)) for at in (first, second)]
    builder = builder_of([D1], timezone=zone)
    builder.take(trades_at(0, since=times[0] - 2 * DAY_US))
    builder.take(Trades.of(times, [1.0, 2.0], [1.0, 1.0]))

    closed = told(builder.closed(), D1, BarStatus.CLOSED)

    local_date = datetime.fromisoformat(second).replace(hour=0, minute=0, second=0, tzinfo=UTC)
    assert [stamp for stamp, _, _ in closed] == [to_us(local_date) - (DAY_US if zone != "Asia/Kolkata" else 0)]


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "America/Sao_Paulo"])
def test_days_of_every_zone_are_built_as_they_are_rebuilt_across_a_change_of_clocks(zone: str) -> None:
    start = to_us(datetime(2018, 10, 1, tzinfo=UTC))
    tape = Trades.of(start + np.arange(24 * 70) * HOUR_US, np.arange(24.0 * 70) + 1, np.ones(24 * 70))
    builder = builder_of([D1, Interval.W1, Interval.MO1], timezone=zone)
    updates: list[BarUpdate] = []
    for at in range(0, len(tape), 50):
        builder.take(tape.pick(slice(at, at + 50)))
        updates += builder.closed()

    rebuilt = rebuild(tape, zone=zone)

    # West of Greenwich the tape begins on the last of September, so that October is whole.
    seen_whole = {D1: 69, Interval.W1: 9, Interval.MO1: 2 if zone.startswith("America") else 1}
    for interval in (D1, Interval.W1, Interval.MO1):
        held, theirs = standing(updates, interval), bars_of(rebuilt[interval])
        assert held == {stamp: theirs[stamp] for stamp in held}
        assert len(held) == seen_whole[interval]
    assert {bar[5] for bar in standing(updates, D1).values()} <= {23, 24, 25}


def test_a_builder_makes_only_the_bars_that_have_a_series() -> None:
    builder = builder_of([Interval.H1])
    builder.take(trades_at(0, 3600, 7200, since=NOON))

    assert {update.series.interval for update in builder.closed()} == {Interval.H1}


def test_a_busy_tape_is_forgotten_but_for_what_revisions_need() -> None:
    builder = joined(keep_trades=100)
    step_us = 10_000
    for start in range(0, 30_000, 500):
        times = NOON + step_us * np.arange(start, start + 500)
        builder.take(Trades.of(times, np.ones(500), np.ones(500), id=np.arange(start + 1, start + 501)))

    assert len(builder._tape) < 1500
    assert standing(builder.closed(), M1)[NOON + MINUTE_US][5] == 6000


def test_an_unknown_zone_is_utc() -> None:
    feed = feed_of([D1], timezone="Mars/Olympus")
    assert feed.instrument.timezone
    assert bars_of(rebuild(trades_at(0, since=NOON), zone="Mars/Olympus")[D1]).keys() == {NOON - NOON % DAY_US}
