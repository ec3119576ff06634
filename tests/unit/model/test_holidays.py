"""New York's holidays and half days, against the exchange's own lists."""

from datetime import date

import pytest

from timebase.model.holidays import new_york_half_days, new_york_holidays


def days(year, *month_days):
    return {date(year, month, day) for month, day in month_days}


@pytest.mark.parametrize(
    ("year", "closed", "halves"),
    [
        (2012, ((1, 2), (1, 16), (2, 20), (4, 6), (5, 28), (7, 4), (9, 3), (10, 29), (10, 30), (11, 22), (12, 25)),
         ((7, 3), (11, 23), (12, 24))),
        (2024, ((1, 1), (1, 15), (2, 19), (3, 29), (5, 27), (6, 19), (7, 4), (9, 2), (11, 28), (12, 25)),
         ((7, 3), (11, 29), (12, 24))),
        (2026, ((1, 1), (1, 19), (2, 16), (4, 3), (5, 25), (6, 19), (7, 3), (9, 7), (11, 26), (12, 25)),
         ((11, 27), (12, 24))),
    ],
)  # fmt: skip
def test_the_exchanges_list_is_met(year, closed, halves):
    assert {at for at in new_york_holidays(year) if at.weekday() < 5} == days(year, *closed)
    assert {at for at in new_york_half_days(year) if at.weekday() < 5} == days(year, *halves)
