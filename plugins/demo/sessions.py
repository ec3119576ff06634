"""When the demo's markets are open: trading dates, opening instants and minutes of each session.

Dates are days since 1970-01-01; instants are whole minutes since the epoch, UTC. Pure Python, no clock: the calendar of
a year is made when it is first asked for.

Source: NYSE rules and special closings since 2000, https://www.nyse.com/markets/hours-calendars
"""

from collections.abc import Callable, Iterator
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

NEW_YORK = ZoneInfo("America/New_York")
EPOCH = date(1970, 1, 1)
DAY_MINUTES = 1440
FULL_MINUTES = 390  # 09:30 to 16:00
HALF_MINUTES = 210  # 09:30 to 13:00
FIRST_YEAR = 2000

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


class Session(NamedTuple):
    """Shape: `minutes` bars of one minute from `open_minute` on; `day` is the trading date, which can differ from the
    UTC date of the opening.
    """

    day: int
    open_minute: int
    minutes: int


def sessions(of_year: Callable[[int], tuple[Session, ...]], first: int, last: int) -> Iterator[Session]:
    """The sessions with trading dates in [first, last], in order, none before 2000."""
    for year in range(max(_date(first).year, FIRST_YEAR), _date(last).year + 1):
        yield from (session for session in of_year(year) if first <= session.day <= last)


@lru_cache(maxsize=64)
def new_york_stocks(year: int) -> tuple[Session, ...]:
    """Monday to Friday 09:30 to 16:00 New York, without holidays; half days end at 13:00."""
    closed = nyse_holidays(year)
    halves = nyse_half_days(year)
    return tuple(
        Session(_day(at), _minute(at, time(9, 30)), HALF_MINUTES if at in halves else FULL_MINUTES)
        for at in _dates(year)
        if at.weekday() < SATURDAY and at not in closed
    )


@lru_cache(maxsize=64)
def round_the_clock(year: int) -> tuple[Session, ...]:
    """Every UTC day."""
    return tuple(Session(_day(at), _day(at) * DAY_MINUTES, DAY_MINUTES) for at in _dates(year))


@lru_cache(maxsize=64)
def foreign_exchange(year: int) -> tuple[Session, ...]:
    """Monday to Friday; each trading date opens at 17:00 New York of the day before and lasts 24 hours, for clocks
    change on Sunday mornings only, when nobody trades.
    """
    return tuple(
        Session(_day(at), _minute(at - timedelta(days=1), time(17)), DAY_MINUTES)
        for at in _dates(year)
        if at.weekday() < SATURDAY
    )


def nyse_holidays(year: int) -> frozenset[date]:
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
    if year >= 2022:
        rules.add(_nearest_weekday(date(year, 6, 19)))
    return frozenset(rules | {at for at in SPECIAL_CLOSINGS if at.year == year})


def nyse_half_days(year: int) -> frozenset[date]:
    halves = {_nth(4, THURSDAY, year, 11) + timedelta(days=1), _eve_of_independence(year)}
    eve = date(year, 12, 24)
    if eve.weekday() < FRIDAY:
        halves.add(eve)
    halves.update(at for at in SPECIAL_HALF_DAYS if at.year == year)
    return frozenset(halves - nyse_holidays(year))


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


def _dates(year: int) -> Iterator[date]:
    first = date(year, 1, 1)
    return (first + timedelta(days=n) for n in range((date(year + 1, 1, 1) - first).days))


def _day(at: date) -> int:
    return (at - EPOCH).days


def _date(day: int) -> date:
    return EPOCH + timedelta(days=day)


def _minute(at: date, clock: time) -> int:
    """The minute since the epoch at which New York's clocks show that time."""
    return int(datetime.combine(at, clock, NEW_YORK).timestamp()) // 60
