"""What people write for an instant -> µs since the epoch, UTC. Pure: the caller says what time it is."""

import calendar
import re
from datetime import UTC, datetime, timedelta

from timebase.model.instrument import AssetClass
from timebase.model.interval import Interval
from timebase.model.timerange import DAY_US, MINUTE_US, SECOND_US, to_datetime, to_us

EARLIEST_US = to_us(datetime(1900, 1, 1, tzinfo=UTC))
LATEST_US = to_us(datetime(2200, 1, 1, tzinfo=UTC))
FORMS = "2020-01-31, 2020-01-31T14:30:00Z, epoch seconds or milliseconds, now, -30d (s m h d w mo y before now)"

# What parse_time reads looks like this (and is then read): the description of the API promises no more.
PATTERN = (
    r"now|-[0-9]{1,9}(s|min|m|h|d|w|wk|mo|y)|-?[0-9]{1,18}(\.[0-9]{1,9})?|[0-9]{4}-(0[1-9]|1[0-2])"
    r"|([0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])|[0-9]{8})([T ][0-9:.]{2,15}(Z|[ +-][0-9:]{2,5})?)?"
)
_FORM = re.compile(PATTERN)
_RELATIVE = re.compile(r"-([0-9]+)([a-z]+)")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_LOST_PLUS = re.compile(r"(?<=\d) (?=\d\d:?\d\d$)")  # `+02:00` in a URL that nobody escaped arrives as ` 02:00`
_UNITS_US = {
    "s": SECOND_US, "min": MINUTE_US, "m": MINUTE_US, "h": 60 * MINUTE_US, "d": DAY_US, "w": 7 * DAY_US,
    "wk": 7 * DAY_US,
}  # fmt: skip
_MILLISECONDS_FROM = 1e11  # as seconds that is the year 5138, as milliseconds March 1973


def parse_time(text: str, now_us: int) -> int:
    """Raises: ValueError that says what is wrong with it. A time without a zone is UTC."""
    at_us = _read(text, now_us) if _FORM.fullmatch(text) else None
    if at_us is None:
        raise ValueError(f"{text!r} is not a time; write {FORMS}")
    if not EARLIEST_US <= at_us <= LATEST_US:
        raise ValueError(f"{text!r} is not between 1900 and 2200")
    return at_us


def _read(text: str, now_us: int) -> int | None:
    if text == "now":
        return now_us
    if found := _RELATIVE.fullmatch(text):
        return _before(now_us, int(found[1]), found[2])
    if _NUMBER.fullmatch(text) and len(text) not in {4, 8}:  # 2020 is a year and 20200131 a day
        number = float(text)
        return int(number * (1_000 if abs(number) >= _MILLISECONDS_FROM else SECOND_US))
    return _iso(text)


def _iso(text: str) -> int | None:
    if re.fullmatch(r"\d{4}(-\d\d)?", text):
        text = f"{text}-01-01" if len(text) == 4 else f"{text}-01"
    try:
        at = datetime.fromisoformat(_LOST_PLUS.sub("+", text) if "T" in text else text)
        return to_us(at if at.tzinfo else at.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        return None


def _before(now_us: int, count: int, unit: str) -> int:
    """`count` units before now; months and years by the calendar (a 31st becomes the month's last day)."""
    if unit in _UNITS_US:
        return now_us - count * _UNITS_US[unit]
    now = to_datetime(now_us)
    months = now.year * 12 + now.month - 1 - count * (12 if unit == "y" else 1)
    year, month = divmod(months, 12)
    if year < 1:
        return EARLIEST_US - 1
    last = calendar.monthrange(year, month + 1)[1]
    return to_us(now.replace(year=year, month=month + 1, day=min(now.day, last)))


def snap(at_us: int, interval: Interval) -> int:
    """The first instant from `at_us` on at which a bar may open.

    As either end of a half-open range it stands for the same bars, and the same question asked a moment later (`-30d`)
    stays the same question.
    """
    if interval.is_intraday:
        return -(-at_us // interval.grid_us) * interval.grid_us
    opens_us = interval.floor_us(at_us)
    return at_us if opens_us == at_us else interval.end_us(opens_us)


_USUAL = {
    Interval.M1: timedelta(days=5), Interval.M5: timedelta(days=10), Interval.M15: timedelta(days=30),
    Interval.M30: timedelta(days=60), Interval.H1: timedelta(days=90), Interval.H4: timedelta(days=180),
    Interval.D1: timedelta(days=365), Interval.W1: timedelta(days=5 * 365), Interval.MO1: timedelta(days=10 * 365),
}  # fmt: skip


def usual_us(interval: Interval) -> int:
    """How far back a question without `start` reaches."""
    return _USUAL[interval] // timedelta(microseconds=1)


def enough_us(interval: Interval, bars: int, asset_class: AssetClass) -> int:
    """How far back so many bars surely reach: an exchange opens for six hours on some 248 days of a year."""
    if asset_class is AssetClass.CRYPTO or interval in {Interval.W1, Interval.MO1}:
        return (bars + 1) * max(interval.us, 31 * DAY_US if interval is Interval.MO1 else 0)
    sessions = bars + 1 if interval is Interval.D1 else bars * interval.us // (6 * 60 * MINUTE_US) + 1
    return sessions * 365 * DAY_US // 248 + 10 * DAY_US


def iso(at_us: int) -> str:
    """As replies show an instant to people: 2020-01-31T14:30:00Z."""
    return to_datetime(at_us).isoformat().replace("+00:00", "Z")


def iso_or_none(at_us: int | None) -> str | None:
    return None if at_us is None else iso(at_us)
