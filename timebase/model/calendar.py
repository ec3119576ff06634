"""When periods begin and end: multiples from midnight UTC within the day; from the day on, dates of the instrument."""

from datetime import datetime, time, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from numpy.typing import NDArray

from timebase.model.instrument import AssetClass, Instrument
from timebase.model.interval import MONDAY_US, Interval
from timebase.model.timerange import DAY_US, to_datetime, to_us

Stamps = NDArray[np.int64]

# What each interval is made of; None: of seconds. A day of quarter-hours, because the offsets of all time zones in use
# are multiples of 15 minutes.
MADE_OF: dict[Interval, Interval | None] = {
    Interval.M1: None,
    Interval.M5: Interval.M1,
    Interval.M15: Interval.M5,
    Interval.M30: Interval.M15,
    Interval.H1: Interval.M30,
    Interval.H4: Interval.H1,
    Interval.D1: Interval.M15,
    Interval.W1: Interval.D1,
    Interval.MO1: Interval.D1,
}


def zone_of(instrument: Instrument) -> str:
    """The time zone whose dates are the instrument's trading dates; "" is UTC."""
    return "" if instrument.asset_class is AssetClass.CRYPTO else instrument.timezone


class Calendar:
    """Periods of every interval in one time zone, UTC when `zone` is "" or unknown.

    A *stamp* is what `Bars.time` says of a period: within the day its opening instant, from the day on 00:00 UTC of the
    trading date, the Monday or the first. Units: µs UTC.
    """

    def __init__(self, zone: str = "") -> None:
        self._zone = _zone(zone)
        self._today = (0, 0, 0)  # begins, ends, stamp of the date that was asked for last

    def stamp_at(self, interval: Interval, at_us: int) -> int:
        """The stamp of the period that holds an instant."""
        return interval.floor_us(at_us if interval.is_intraday else self._date_at(at_us))

    def begins_us(self, interval: Interval, stamp: int) -> int:
        """The instant at which the period of that stamp begins."""
        return stamp if interval.is_intraday or self._zone is None else self._midnight_us(stamp)

    def ends_us(self, interval: Interval, stamp: int) -> int:
        return self.begins_us(interval, interval.end_us(stamp))

    def first_part(self, interval: Interval, stamp: int) -> int:
        """The stamp of the first of the shorter periods that a period is made of."""
        return self.begins_us(interval, stamp) if interval is Interval.D1 else stamp

    def of_parts(self, interval: Interval, parts: Stamps) -> Stamps:
        """The stamp of the period that each of the shorter ones belongs to; ascending."""
        if interval is Interval.MO1:
            return parts.astype("M8[us]").astype("M8[M]").astype("M8[us]").astype(np.int64)
        if interval is Interval.W1:
            return (parts - MONDAY_US) // interval.us * interval.us + MONDAY_US
        if interval is Interval.D1 and self._zone is not None:
            return self._dates_of(parts)
        return parts // interval.us * interval.us

    def of_part(self, interval: Interval, part: int) -> int:
        return interval.floor_us(self._date_at(part) if interval is Interval.D1 else part)

    def between(self, interval: Interval, start: int, end: int, *, at_most: int) -> Stamps:
        """The newest stamps in [start, end)."""
        if interval is Interval.MO1:
            months = np.array([start, end], "M8[us]").astype("M8[M]")
            return np.arange(months[0], months[1]).astype("M8[us]").astype(np.int64)[-at_most:]
        return np.arange(max(start, end - at_most * interval.us), end, interval.us, dtype=np.int64)

    def _date_at(self, at_us: int) -> int:
        if self._zone is None:
            return at_us // DAY_US * DAY_US
        begins, ends, stamp = self._today
        if not begins <= at_us < ends:
            date = to_datetime(at_us).astimezone(self._zone).date()
            stamp = to_us(datetime.combine(date, time(), to_datetime(0).tzinfo))
            self._today = (self._midnight_us(stamp), self._midnight_us(stamp + DAY_US), stamp)
        return stamp

    def _dates_of(self, times: Stamps) -> Stamps:
        first, last = self._date_at(int(times[0])), self._date_at(int(times[-1]))
        if first == last:
            return np.full(len(times), first, np.int64)
        dates = np.arange(first, last + DAY_US, DAY_US)
        midnights = np.array([self._midnight_us(int(date)) for date in dates], np.int64)
        return np.asarray(dates[np.searchsorted(midnights, times, side="right") - 1])

    def _midnight_us(self, stamp: int) -> int:
        """The instant at which a date begins; where clocks skip midnight, the instant at which they do."""
        return to_us(datetime.combine(to_datetime(stamp).date(), time(), self._zone)) if self._zone else stamp


def _zone(name: str) -> tzinfo | None:
    if name in {"", "UTC", "Etc/UTC"}:
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None
