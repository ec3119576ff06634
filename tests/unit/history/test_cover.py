from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from timebase.history.answer import Freshness
from timebase.history.cover import MAX_GAPS, Head, find_gaps
from timebase.model.interval import Interval
from timebase.model.timerange import MINUTE_US, Ranges, TimeRange, to_us

NOW = to_us(datetime(2024, 6, 3, 12, 0, 30, tzinfo=UTC))
MINUTE = Interval.M1


def minutes(*pairs: tuple[int, int]) -> Ranges:
    """Ranges in minutes before the last full minute."""
    return Ranges.of(
        TimeRange(NOW // MINUTE_US * MINUTE_US - a * MINUTE_US, NOW // MINUTE_US * MINUTE_US - b * MINUTE_US)
        for a, b in pairs
    )


def gaps(asked: TimeRange, settled: Ranges, head: Head | None = None, refresh_us: int = 0) -> Ranges:
    return find_gaps(asked, settled, MINUTE, now_us=NOW, head=head, refresh_us=refresh_us)


def test_exactly_the_missing_ranges_are_gaps() -> None:
    (asked,) = minutes((100, 10)).parts
    assert gaps(asked, minutes((90, 60), (50, 40))) == minutes((100, 90), (60, 50), (40, 10))


def test_a_covered_question_has_no_gaps() -> None:
    (asked,) = minutes((90, 60)).parts
    assert not gaps(asked, minutes((100, 10)))


def test_a_question_is_widened_to_whole_periods() -> None:
    (whole,) = minutes((20, 10)).parts
    asked = TimeRange(whole.start_us + 1, whole.end_us - 1)
    assert gaps(asked, Ranges()) == Ranges((whole,))


def test_the_future_is_not_asked_for() -> None:
    assert gaps(TimeRange(NOW - MINUTE_US, NOW + 10**12), Ranges()).parts[-1].end_us == NOW
    assert not gaps(TimeRange(NOW + 1, NOW + 10**9), Ranges())


def test_a_clock_that_was_put_back_does_not_prolong_the_rest() -> None:
    head = Head(asked_us=NOW + 3_600_000_000, from_us=NOW - 60_000_000)
    asked = TimeRange(NOW - 60_000_000, NOW)
    assert gaps(asked, Ranges(), head, refresh_us=60_000_000)
    freshness = Freshness(checked_us=NOW + 3_600_000_000, fresh_until_us=NOW + 3_660_000_000)
    assert not freshness.is_fresh(NOW)
    assert freshness.is_fresh(NOW + 3_600_000_000)


def test_the_newest_part_rests_until_it_is_to_be_refreshed() -> None:
    (covered,) = minutes((100, 0)).parts
    asked = TimeRange(covered.start_us, NOW)
    head = Head(asked_us=NOW - 30_000_000, from_us=covered.end_us)
    assert not gaps(asked, Ranges((covered,)), head, refresh_us=60_000_000)
    assert gaps(asked, Ranges((covered,)), head, refresh_us=20_000_000) == Ranges((TimeRange(covered.end_us, NOW),))


def test_only_what_was_asked_for_rests() -> None:
    """A delayed vendor was asked about a past that is not final yet; what lies behind it was never asked for."""
    (young,) = minutes((60, 30)).parts
    head = Head(asked_us=NOW - 30_000_000, from_us=young.start_us, until_us=young.end_us)
    (asked,) = minutes((90, 10)).parts
    assert gaps(asked, Ranges(), head, refresh_us=60_000_000) == minutes((90, 60), (30, 10))


def test_many_small_holes_are_asked_for_as_one_range() -> None:
    (asked,) = minutes((1000, 10)).parts
    many = minutes(*((at, at - 1) for at in range(999, 20, -40)))
    assert len((Ranges((asked,)) - many).parts) > MAX_GAPS
    assert gaps(asked, many) == Ranges((asked,))


@given(st.lists(st.tuples(st.integers(2, 60), st.integers(1, 30)), max_size=6), st.integers(31, 90))
def test_gaps_and_what_is_settled_make_the_question_whole(pairs: list[tuple[int, int]], start: int) -> None:
    settled = minutes(*((a + b, a) for a, b in pairs))
    (asked,) = minutes((start, 1)).parts
    found = gaps(asked, settled)
    assert not Ranges((asked,)) - (found | settled)
    assert not found & settled or len(found.parts) == 1
