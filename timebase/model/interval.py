"""The bar intervals, their names and their grid."""

from datetime import timedelta
from enum import StrEnum

from timebase.model.timerange import DAY_US, MINUTE_US, to_datetime, to_us

MONDAY_US = 4 * DAY_US  # 1970-01-05 was the first Monday of the epoch


class Interval(StrEnum):
    """The length of a bar. The value is the canonical name; `parse_interval` knows the aliases.

    Grid: a bar's time is its opening instant. Up to 15m that is a multiple of the interval; 30m, 1h and 4h may start at
    any quarter of an hour, because sessions do (New York's hours open at :30, India's at :15). 1d, 1wk and 1mo are
    stamped 00:00 UTC of the trading date, the Monday and the first of the month.
    """

    M1 = "1m"
    M5 = "5m"
    M15 = "15m"
    M30 = "30m"
    H1 = "1h"
    H4 = "4h"
    D1 = "1d"
    W1 = "1wk"
    MO1 = "1mo"

    @property
    def us(self) -> int:
        """Nominal length in µs; a month counts 30 days."""
        return _LENGTH_US[self]

    @property
    def grid_us(self) -> int:
        """What the opening instants of intraday bars are multiples of."""
        return min(self.us, 15 * MINUTE_US)

    @property
    def is_intraday(self) -> bool:
        return self.us < DAY_US

    def floor_us(self, at_us: int) -> int:
        """The opening instant of the period that holds `at_us` (intraday: on the multiples of the interval)."""
        if self is Interval.MO1:
            return to_us(to_datetime(at_us).replace(day=1, hour=0, minute=0, second=0, microsecond=0))
        if self is Interval.W1:
            return (at_us - MONDAY_US) // self.us * self.us + MONDAY_US
        return at_us // self.us * self.us

    def end_us(self, open_us: int) -> int:
        """The instant at which a bar that opens at `open_us` is over (exclusive)."""
        if self is not Interval.MO1:
            return open_us + self.us
        in_next_month = to_datetime(open_us).replace(day=28) + timedelta(days=4)
        return to_us(in_next_month.replace(day=1))


_LENGTH_US = {
    Interval.M1: MINUTE_US,
    Interval.M5: 5 * MINUTE_US,
    Interval.M15: 15 * MINUTE_US,
    Interval.M30: 30 * MINUTE_US,
    Interval.H1: 60 * MINUTE_US,
    Interval.H4: 240 * MINUTE_US,
    Interval.D1: DAY_US,
    Interval.W1: 7 * DAY_US,
    Interval.MO1: 30 * DAY_US,
}

# Case matters only where it must: 1M is a month, 1m a minute.
_ALIASES = {
    "1min": Interval.M1, "5min": Interval.M5, "15min": Interval.M15, "30min": Interval.M30,
    "60m": Interval.H1, "60min": Interval.H1, "1hour": Interval.H1, "240m": Interval.H4, "4hour": Interval.H4,
    "d": Interval.D1, "day": Interval.D1, "1day": Interval.D1, "24h": Interval.D1, "daily": Interval.D1,
    "w": Interval.W1, "1w": Interval.W1, "7d": Interval.W1, "week": Interval.W1, "1week": Interval.W1,
    "weekly": Interval.W1, "mo": Interval.MO1, "month": Interval.MO1, "1month": Interval.MO1, "monthly": Interval.MO1,
}  # fmt: skip


def parse_interval(text: str) -> Interval | None:
    """The interval that `text` names, or None."""
    if text in {"1M", "M"}:
        return Interval.MO1
    name = text.strip().lower()
    return _ALIASES.get(name) or next((i for i in Interval if i.value == name), None)
