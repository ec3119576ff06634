"""How far Yahoo reaches and how much it gives at once, and the requests that a question therefore needs. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from timebase.model.timerange import DAY_US, to_datetime
from timebase.sdk import HistoryRequest, Interval, Unsupported


@dataclass(frozen=True, slots=True)
class Reach:
    """Units: days. `back` before now is the oldest bar, `at_once` the longest range of one request."""

    back: int
    at_once: int


# Yahoo's own words: "Only 8 days worth of 1m granularity data are allowed to be fetched per request", "The requested
# range must be within the last 30 / 60 / 730 days".
REACH = {
    Interval.M1: Reach(30, 7),
    Interval.M5: Reach(60, 60),
    Interval.M15: Reach(60, 60),
    Interval.H1: Reach(730, 730),
}

Window = tuple[datetime, datetime]


def windows(request: HistoryRequest, now_us: int) -> Iterator[Window]:
    """The ranges to ask Yahoo for, ascending; rows outside the question are to be dropped.

    Days and longer: one request, from the first period's opening date to the last one's end, and a day more on both
    sides, because Yahoo counts from the session's opening, which may lie on the UTC day before or after the date. Weeks
    and months: another period at the end, because yfinance may take the last row for a live one and merge it with the
    one before; in the past that must not be a row that was asked for.

    Raises: Unsupported when the question goes back further than Yahoo does.
    """
    interval = request.interval
    if interval.is_intraday:
        yield from _pieces(request, now_us)
        return
    start_us = interval.floor_us(request.start_us) - DAY_US
    end_us = interval.end_us(interval.floor_us(request.end_us - 1))
    if interval is not Interval.D1:
        end_us = interval.end_us(end_us)
    yield _window(start_us, end_us + DAY_US)


def _pieces(request: HistoryRequest, now_us: int) -> Iterator[Window]:
    reach = REACH.get(request.interval)
    if reach is None:
        raise Unsupported(f"Yahoo has no {request.interval} bars")
    oldest_us = now_us - reach.back * DAY_US
    if request.start_us < oldest_us:
        oldest = to_datetime(oldest_us).isoformat(timespec="seconds")
        raise Unsupported(f"Yahoo keeps {request.interval} bars for {reach.back} days: ask from {oldest} on")
    grid_us = request.interval.grid_us
    start_us, last_us = request.start_us, -(-request.end_us // grid_us) * grid_us
    while start_us < last_us:
        end_us = min(start_us + reach.at_once * DAY_US, last_us)
        yield _window(start_us, end_us)
        start_us = end_us


def _window(start_us: int, end_us: int) -> Window:
    """yfinance takes a start of exactly 1970-01-01T00:00:00Z for none at all, so that one is a second earlier."""
    start_s = start_us // 1_000_000 or -1
    return datetime.fromtimestamp(start_s, UTC), datetime.fromtimestamp(-(-end_us // 1_000_000), UTC)
