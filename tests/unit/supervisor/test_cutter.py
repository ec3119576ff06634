"""A plugin's answer as batches: what each settles."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from timebase.errors import Malformed, Upstream
from timebase.model.bars import Bars, Batch, Flag, Outcome
from timebase.model.demand import Demand
from timebase.model.instrument import AssetClass, CorporateAction, Instrument
from timebase.model.interval import Interval
from timebase.model.series import Series
from timebase.model.timerange import HOUR_US, MINUTE_US, TimeRange
from timebase.supervisor.cutter import BatchCutter

ASKED = TimeRange(100 * MINUTE_US, 200 * MINUTE_US)


def cutter(interval: Interval = Interval.M1, asked: TimeRange = ASKED, delay_s: float = 0.0) -> BatchCutter:
    series = Series(1, 1, "A", "acme", interval)
    return BatchCutter(Demand(3, series, Instrument(1, "A", AssetClass.STOCK), asked), 999 * MINUTE_US, delay_s)


def bars(*minutes: int) -> Bars:
    ones = [1.0] * len(minutes)
    return Bars.of([minute * MINUTE_US for minute in minutes], ones, ones, ones, ones, ones)


def minutes(batch: Batch) -> list[int]:
    return [int(us) // MINUTE_US for us in batch.bars.time]


def covers(batch: Batch) -> tuple[int, int]:
    return batch.covers.start_us // MINUTE_US, batch.covers.end_us // MINUTE_US


def test_each_message_settles_up_to_the_end_of_its_last_bar_and_the_last_settles_the_rest() -> None:
    cut = cutter(delay_s=60)
    assert cut.add(bars(100, 101)) is None
    first = cut.add(bars(150))
    last = cut.finish(("slow day",))
    assert first is not None
    assert [covers(first), covers(last)] == [(100, 102), (102, 200)]
    assert (first.is_last, last.is_last, last.warnings) == (False, True, ("slow day",))
    assert (last.fetched_us, last.settled_us) == (999 * MINUTE_US, 998 * MINUTE_US)


def test_nothing_is_final_that_may_be_still_to_come_because_our_clock_is_ahead() -> None:
    cut = cutter(delay_s=60)
    cut.over_us = 150 * MINUTE_US
    batch = cut.finish()
    assert (batch.fetched_us, batch.settled_us) == (999 * MINUTE_US, 149 * MINUTE_US)


def test_no_bar_at_all_is_confirmed_empty() -> None:
    batch = cutter().finish()
    assert (batch.outcome, batch.is_last, covers(batch), len(batch.bars)) == (Outcome.EMPTY, True, (100, 200), 0)


def test_a_failure_before_any_bar_is_failed_for_the_whole_range() -> None:
    (batch,) = cutter().fail(Upstream("503"))
    assert (batch.outcome, batch.is_last, covers(batch), batch.why) == (
        Outcome.FAILED,
        True,
        (100, 200),
        "upstream: 503",
    )


def test_a_failure_after_bars_leaves_what_came_complete() -> None:
    cut = cutter()
    cut.add(bars(100))
    good, rest = cut.fail(Upstream("503"))
    assert [(b.outcome, covers(b), b.is_last) for b in (good, rest)] == [
        (Outcome.COMPLETE, (100, 101), False),
        (Outcome.PARTIAL, (101, 200), True),
    ]


def test_a_failure_after_the_very_last_bar_is_not_complete_either() -> None:
    cut = cutter()
    cut.add(bars(199))
    (batch,) = cut.fail(Upstream("503"))
    assert (batch.outcome, covers(batch), minutes(batch), batch.is_last) == (Outcome.PARTIAL, (100, 200), [199], True)


def test_rows_outside_the_range_settle_nothing_and_are_told() -> None:
    cut = cutter()
    assert cut.add(bars(50, 100)) is None
    assert cut.add(bars(250)) is None
    batch = cut.finish()
    assert (minutes(batch), batch.warnings) == ([100], ("2 rows outside the asked range were dropped",))
    only_strays = cutter()
    only_strays.add(bars(1, 2))
    assert only_strays.finish().outcome is Outcome.EMPTY


def test_pages_that_overlap_by_a_row_are_no_fault() -> None:
    cut = cutter()
    cut.add(bars(100, 101))
    first = cut.add(bars(101, 102))
    assert cut.add(bars(102)) is None
    last = cut.finish()
    assert first is not None
    assert (minutes(first), minutes(last), last.warnings) == ([100, 101], [102], ())


def test_time_that_goes_back_between_messages_is_malformed() -> None:
    cut = cutter()
    cut.add(bars(110, 111))
    with pytest.raises(Malformed):
        cut.add(bars(109))


def test_a_message_out_of_order_in_itself_counts_by_its_latest_row() -> None:
    cut = cutter()
    cut.add(bars(103, 101, 102))
    first = cut.add(bars(104))
    assert first is not None
    assert covers(first) == (100, 104)


def test_an_hour_that_starts_in_the_last_one_is_not_settled_by_it() -> None:
    """Sessions shift the grid: an hour from 09:30 is followed by one from 10:00."""
    cut = cutter(Interval.H1, TimeRange(0, 24 * HOUR_US))
    cut.add(bars(9 * 60 + 30))
    first = cut.add(bars(10 * 60))
    assert first is not None
    assert covers(first) == (0, 10 * 60)


def test_actions_travel_with_the_next_batch() -> None:
    split = CorporateAction(0, "split", 4.0)
    cut = cutter()
    cut.add_actions((split,))
    cut.add(bars(100))
    cut.add_actions((split, split))
    batch = cut.finish()
    assert batch.actions == (split, split, split)
    only = cutter()
    only.add_actions((split,))
    assert (only.finish().actions, only.finish().actions) == ((split,), ())


PAGES = st.lists(st.lists(st.integers(90, 210), min_size=1, max_size=5), max_size=8)


@given(PAGES, st.booleans(), st.sampled_from([Interval.M1, Interval.M15, Interval.H1, Interval.MO1]))
def test_the_batches_of_any_answer_fill_the_range_in_order(
    pages: list[list[int]], is_failing: bool, interval: Interval
) -> None:
    cut = cutter(interval)
    batches: list[Batch] = []
    try:
        for page in pages:
            batch = cut.add(bars(*page))
            batches += [batch] if batch else []
        batches += cut.fail(Upstream("x")) if is_failing else (cut.finish(),)
    except Malformed as error:
        batches += cut.fail(error)

    assert batches[0].covers.start_us == ASKED.start_us
    assert batches[-1].covers.end_us == ASKED.end_us
    assert all(a.covers.end_us == b.covers.start_us for a, b in pairwise(batches))
    assert [batch.is_last for batch in batches] == [False] * (len(batches) - 1) + [True]
    for batch in batches:
        assert all(batch.covers.start_us <= us < batch.covers.end_us for us in batch.bars.time)


def test_what_heals_a_gap_says_so_in_every_bar() -> None:
    series = Series(1, 1, "A", "acme", Interval.M1)
    demand = Demand(3, series, Instrument(1, "A", AssetClass.STOCK), ASKED, "backfill")
    cut = BatchCutter(demand, 999 * MINUTE_US)
    cut.add(bars(100, 101))
    last = cut.finish()
    assert last.reason == "backfill"
    assert set(last.bars.flags) == {Flag.BACKFILLED}
    assert set(cutter().finish().bars.flags) == set()
