"""When the demo's markets are open: trading dates, opening instants and minutes of each session.

Dates are days since 1970-01-01; instants are whole minutes since the epoch, UTC. Pure Python, no clock: the calendar of
a year is made when it is first asked for.
"""

from collections.abc import Callable, Iterator
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from timebase.model.holidays import new_york_half_days, new_york_holidays

NEW_YORK = ZoneInfo("America/New_York")
EPOCH = date(1970, 1, 1)
DAY_MINUTES = 1440
FULL_MINUTES = 390  # 09:30 to 16:00
HALF_MINUTES = 210  # 09:30 to 13:00
FIRST_YEAR = 2000
FRIDAY, SATURDAY = 4, 5  # as date.weekday() has it


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
    closed = new_york_holidays(year)
    halves = new_york_half_days(year)
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
