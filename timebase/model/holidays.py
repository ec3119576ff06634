"""The days on which New York's exchanges are closed, and those on which they close at 13:00. Pure, by rule.

Source: NYSE rules and special closings since 2000, https://www.nyse.com/markets/hours-calendars
"""

from datetime import date, timedelta
from functools import lru_cache

MONDAY, THURSDAY, FRIDAY, SATURDAY, SUNDAY = 0, 3, 4, 5, 6

# Days of mourning, storms and attacks: no rule foretells them.
SPECIAL_CLOSINGS = frozenset({
    date(2001, 9, 11), date(2001, 9, 12), date(2001, 9, 13), date(2001, 9, 14),  # the attacks
    date(2004, 6, 11),  # Ronald Reagan
    date(2007, 1, 2),  # Gerald Ford
    date(2012, 10, 29), date(2012, 10, 30),  # hurricane Sandy
    date(2018, 12, 5),  # George H. W. Bush
    date(2025, 1, 9),  # Jimmy Carter
})  # fmt: skip
SPECIAL_HALF_DAYS = frozenset({date(2003, 12, 26)})
JUNETEENTH_SINCE = 2022


@lru_cache(maxsize=64)
def new_york_holidays(year: int) -> frozenset[date]:
    rules = {
        _sunday_to_monday(date(year, 1, 1)),  # on a Saturday nothing closes: Friday ends the year's books
        _nth(3, MONDAY, year, 1),
        _nth(3, MONDAY, year, 2),
        _easter(year) - timedelta(days=2),
        _last_monday_of_may(year),
        _nearest_weekday(date(year, 7, 4)),
        _nth(1, MONDAY, year, 9),
        _nth(4, THURSDAY, year, 11),
        _nearest_weekday(date(year, 12, 25)),
    }
    if year >= JUNETEENTH_SINCE:
        rules.add(_nearest_weekday(date(year, 6, 19)))
    return frozenset(rules | {at for at in SPECIAL_CLOSINGS if at.year == year})


@lru_cache(maxsize=64)
def new_york_half_days(year: int) -> frozenset[date]:
    halves = {
        _nth(4, THURSDAY, year, 11) + timedelta(days=1),
        _eve_of_independence(year),
        *(at for at in (date(year, 12, 24),) if at.weekday() < FRIDAY),
        *(at for at in SPECIAL_HALF_DAYS if at.year == year),
    }
    return frozenset(halves - new_york_holidays(year))


def _eve_of_independence(year: int) -> date:
    """3 July; where the fourth was a Thursday, it was the Friday after until 2012."""
    fourth = date(year, 7, 4)
    if fourth.weekday() == THURSDAY and year < 2013:
        return fourth + timedelta(days=1)
    if fourth.weekday() == MONDAY:  # the third is a Sunday
        return fourth
    return fourth - timedelta(days=1)


def _easter(year: int) -> date:
    """Source: the anonymous Gregorian computus (Meeus, Astronomical Algorithms, chapter 8)."""
    a, (b, c) = year % 19, divmod(year, 100)
    h = (19 * a + b - b // 4 - (b - (b + 8) // 25 + 1) // 3 + 15) % 30
    weekday = (32 + 2 * (b % 4) + 2 * (c // 4) - h - c % 4) % 7
    m = (a + 11 * h + 22 * weekday) // 451
    month, day = divmod(h + weekday - 7 * m + 114, 31)
    return date(year, month, day + 1)


def _nth(n: int, weekday: int, year: int, month: int) -> date:
    first = date(year, month, 1)
    return first + timedelta(days=(weekday - first.weekday()) % 7 + 7 * (n - 1))


def _last_monday_of_may(year: int) -> date:
    last = date(year, 5, 31)
    return last - timedelta(days=last.weekday())


def _sunday_to_monday(at: date) -> date:
    return at + timedelta(days=1) if at.weekday() == SUNDAY else at


def _nearest_weekday(at: date) -> date:
    return at - timedelta(days=1) if at.weekday() == SATURDAY else _sunday_to_monday(at)
