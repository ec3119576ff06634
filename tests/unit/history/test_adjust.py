from datetime import UTC, datetime

import pytest

from timebase.history.adjust import adjust, applicable, begins_us, factor
from timebase.model.bars import Bars
from timebase.model.instrument import CorporateAction
from timebase.model.interval import Interval
from timebase.model.timerange import DAY_US, HOUR_US, to_us

SPLIT = CorporateAction(ex_date_us=3 * DAY_US, kind="split", value=4.0)
DIVIDEND = CorporateAction(ex_date_us=2 * DAY_US, kind="dividend", value=1.0, currency="USD")


def daily(*closes: float) -> Bars:
    times = [day * DAY_US for day in range(len(closes))]
    return Bars.of(times, closes, closes, closes, closes, [100.0] * len(closes))


def test_a_split_divides_earlier_prices_and_multiplies_their_volume() -> None:
    after = adjust(daily(400, 404, 408, 103), [factor(SPLIT, None)])
    assert after.close.tolist() == [100, 101, 102, 103]
    assert after.volume.tolist() == [400, 400, 400, 100]


def test_a_split_applies_inside_the_day_too() -> None:
    times = [3 * DAY_US - HOUR_US, 3 * DAY_US, 3 * DAY_US + HOUR_US]
    bars = Bars.of(times, *([[400.0, 100.0, 100.0]] * 4), [1.0, 4.0, 4.0])
    assert adjust(bars, [factor(SPLIT, None)]).open.tolist() == [100, 100, 100]


@pytest.mark.parametrize(
    ("timezone", "first_session", "interval", "is_of_the_ex_date"),
    [
        ("Australia/Sydney", datetime(2024, 1, 9, 23, tzinfo=UTC), Interval.M1, True),  # 10:00 of the 10th there
        ("Australia/Sydney", datetime(2024, 1, 9, 5, tzinfo=UTC), Interval.M1, False),  # 16:00 of the 9th
        ("Pacific/Auckland", datetime(2024, 1, 9, 21, tzinfo=UTC), Interval.M1, True),
        ("Asia/Tokyo", datetime(2024, 1, 10, 0, tzinfo=UTC), Interval.M1, True),
        ("America/New_York", datetime(2024, 1, 10, 0, 30, tzinfo=UTC), Interval.M1, False),  # 19:30 of the 9th
        ("America/New_York", datetime(2024, 1, 10, 9, tzinfo=UTC), Interval.M1, True),
        ("", datetime(2024, 1, 9, 23, tzinfo=UTC), Interval.M1, False),
        ("Nowhere/At all", datetime(2024, 1, 9, 23, tzinfo=UTC), Interval.M1, False),
        ("../../etc/passwd", datetime(2024, 1, 10, tzinfo=UTC), Interval.M1, True),
        ("America/New_York", datetime(2024, 1, 10, tzinfo=UTC), Interval.D1, True),  # stamped with its date
        ("Australia/Sydney", datetime(2024, 1, 9, tzinfo=UTC), Interval.D1, False),
    ],
)
def test_an_ex_date_begins_by_the_clock_of_the_exchange(
    timezone: str, first_session: datetime, interval: Interval, is_of_the_ex_date: bool
) -> None:
    split = CorporateAction(to_us(datetime(2024, 1, 10, tzinfo=UTC)), "split", 4.0)
    bars = Bars.of([to_us(first_session)], *[[400.0]] * 4, [1.0])
    after = adjust(bars, [factor(split, None, begins_us(split, interval, timezone))])
    assert after.open.tolist() == [400.0 if is_of_the_ex_date else 100.0]


def test_a_dividend_scales_by_its_share_of_the_close_before() -> None:
    after = adjust(daily(50, 50, 49), [factor(DIVIDEND, 50.0)])
    assert after.close.tolist() == pytest.approx([49, 49, 49])
    assert after.volume.tolist() == [100, 100, 100]


def test_a_dividend_without_a_close_before_cannot_be_applied() -> None:
    assert factor(DIVIDEND, None) is None


def test_raw_bars_stay_as_they_were() -> None:
    before = daily(400, 404, 408, 103)
    adjust(before, [factor(SPLIT, None)])
    assert before.close.tolist() == [400, 404, 408, 103]


@pytest.mark.parametrize(
    ("which", "kinds"),
    [("raw", []), ("splits", ["split"]), ("dividends", ["dividend"]), ("all", ["dividend", "split"])],
)
def test_the_question_says_which_actions_apply(which: str, kinds: list[str]) -> None:
    assert [action.kind for action in applicable([SPLIT, DIVIDEND], which)] == kinds
