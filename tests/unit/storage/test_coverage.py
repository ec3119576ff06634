from collections.abc import Sequence
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from timebase.model.bars import Bars, Batch, Flag, Outcome, Refused
from timebase.model.interval import Interval
from timebase.model.series import Series
from timebase.model.timerange import DAY_US, EPOCH, HOUR_US, MINUTE_US, Ranges, TimeRange, to_us
from timebase.storage.coverage import Claim, Ledger, claims, final_before

NOW_US = to_us(EPOCH + timedelta(days=20_000))
SETTLED = {Outcome.COMPLETE, Outcome.EMPTY, Outcome.REFUSED}

PARTS = st.builds(lambda start, length: TimeRange(start, start + length), st.integers(0, 30), st.integers(1, 10))
CLAIMS = st.lists(
    st.builds(
        lambda outcome, parts: Claim(outcome, Ranges.of(parts), NOW_US), st.sampled_from(Outcome), st.lists(PARTS)
    )
)


def spoken(claims_made: Sequence[Claim]) -> dict[int, Outcome]:
    """The ledger, one instant at a time."""
    known: dict[int, Outcome] = {}
    for claim in claims_made:
        for part in claim.ranges.parts:
            for at in range(part.start_us, part.end_us):
                if claim.outcome in SETTLED or known.get(at) not in SETTLED:
                    known[at] = claim.outcome
    return known


@given(CLAIMS)
def test_an_instant_has_the_newest_word_and_failures_take_nothing_from_what_is_settled(made: list[Claim]) -> None:
    coverage = Ledger().after(made, NOW_US).coverage(NOW_US, 0)
    found = {
        at: outcome
        for outcome in Outcome
        for part in getattr(coverage, outcome.value).parts
        for at in range(part.start_us, part.end_us)
    }
    assert found == spoken(made)


@given(CLAIMS, CLAIMS)
def test_a_ledger_does_not_care_how_its_claims_are_bundled(first: list[Claim], then: list[Claim]) -> None:
    assert Ledger().after(first, NOW_US).after(then, NOW_US) == Ledger().after([*first, *then], NOW_US)


def test_what_was_refused_is_asked_for_again_after_a_day() -> None:
    refused = Claim(Outcome.REFUSED, Ranges.of([TimeRange(0, 10)]), NOW_US)
    ledger = Ledger().after([refused], NOW_US)
    assert ledger.coverage(NOW_US + 22 * HOUR_US, 0).settled
    assert not ledger.coverage(NOW_US + DAY_US, 0).settled
    assert not ledger.after([], NOW_US + DAY_US).marks


def test_a_ledger_forgets_what_came_before() -> None:
    ledger = Ledger().after([Claim(Outcome.COMPLETE, Ranges.of([TimeRange(0, 10)]), NOW_US)], NOW_US)
    assert ledger.since(4, NOW_US).coverage(NOW_US, 0).complete == Ranges.of([TimeRange(4, 10)])
    assert ledger.since(10, NOW_US) == Ledger()


TEN_PAST_THREE = NOW_US + 15 * HOUR_US + 10 * MINUTE_US


@pytest.mark.parametrize(
    ("interval", "after_midnight_us"),
    [
        (Interval.M1, 15 * HOUR_US + 10 * MINUTE_US),
        (Interval.M5, 15 * HOUR_US + 10 * MINUTE_US),
        (Interval.M15, 15 * HOUR_US),
        # 14:30 to 15:00 is over; one that opens at 14:45 is not.
        (Interval.M30, 14 * HOUR_US + 45 * MINUTE_US),
        (Interval.H1, 14 * HOUR_US + 15 * MINUTE_US),
        (Interval.H4, 11 * HOUR_US + 15 * MINUTE_US),
        (Interval.D1, 0),
    ],
)
def test_only_what_is_over_is_final(interval: Interval, after_midnight_us: int) -> None:
    assert final_before(interval, TEN_PAST_THREE) - NOW_US == after_midnight_us


@pytest.mark.parametrize("interval", [i for i in Interval if i.is_intraday])
def test_every_bar_before_the_final_instant_is_over_and_none_after(interval: Interval) -> None:
    for minute in range(0, 600, 7):
        settled = TEN_PAST_THREE + minute * MINUTE_US
        end = final_before(interval, settled)
        assert end % interval.grid_us == 0
        assert interval.end_us(end - interval.grid_us) <= settled < interval.end_us(end)


HOURLY = Series(1, 1, "X", "demo", Interval.H1)
DAILY = Series(1, 1, "X", "demo", Interval.D1)


def flat(times: Sequence[int], flags: Sequence[int] | None = None) -> Bars:
    ones = [1.0] * len(times)
    return Bars.of(times, ones, ones, ones, ones, ones, flags)


def batch(series: Series = DAILY, first: int = -10, last: int = 0, **more: object) -> Batch:
    given_ = {"outcome": Outcome.COMPLETE, "fetched_us": TEN_PAST_THREE, "bars": Bars.empty(), **more}
    covers = TimeRange(NOW_US + first * DAY_US, NOW_US + last * DAY_US)
    return Batch(1, series, covers, reason="history", **given_)  # type: ignore[arg-type]


def days(first: int, last: int) -> Ranges:
    return Ranges.of([TimeRange(NOW_US + first * DAY_US, NOW_US + last * DAY_US)])


def test_a_range_that_reaches_beyond_now_is_noted_as_far_as_it_is_over() -> None:
    (claim,) = claims(batch(last=5))
    assert claim == Claim(Outcome.COMPLETE, days(-10, 0), TEN_PAST_THREE)


def test_nothing_is_noted_of_a_range_that_is_not_over() -> None:
    assert not list(claims(batch(first=0, last=1)))


def test_data_younger_than_the_vendors_delay_is_not_final() -> None:
    (claim,) = claims(batch(settled_us=TEN_PAST_THREE - 2 * DAY_US))
    assert claim.ranges == days(-10, -2)


def test_a_forming_bar_ends_what_is_final() -> None:
    bars = flat([NOW_US - 3 * DAY_US, NOW_US - 2 * DAY_US], [0, Flag.FORMING])
    (claim,) = claims(batch(bars=bars))
    assert claim.ranges == days(-10, -2)


def test_the_periods_of_refused_rows_are_not_complete() -> None:
    refused = Refused("finite", flat([NOW_US - 5 * DAY_US, NOW_US - 4 * DAY_US, NOW_US - 30 * DAY_US]))
    complete, bad = claims(batch(refused=(refused,)))
    assert complete.ranges == days(-10, -5) | days(-3, 0)
    assert bad == Claim(Outcome.REFUSED, days(-5, -3), TEN_PAST_THREE)


def test_a_refused_row_beside_a_good_one_of_the_same_time_harms_nothing() -> None:
    double = flat([NOW_US - 5 * DAY_US])
    (claim,) = claims(batch(bars=double, refused=(Refused("duplicate_time", double),)))
    assert claim.ranges == days(-10, 0)


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.PARTIAL])
def test_a_failure_is_noted_for_the_whole_range(outcome: Outcome) -> None:
    (claim,) = claims(batch(last=5, outcome=outcome))
    assert claim.ranges == days(-10, 5)
