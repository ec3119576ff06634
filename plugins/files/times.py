"""What a file's clock says -> the opening instant, µs UTC.

Local times are taken in file order: where clocks are set back, the hour that comes twice is daylight time first and
standard time from the row on at which the clock steps back.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timezone

import polars as pl
from layout import ISO, OF_DAY, SINCE_EPOCH, Layout
from naming import Found

from timebase.model.interval import MONDAY_US
from timebase.model.timerange import DAY_US
from timebase.sdk import Interval

WEEK_US = 7 * DAY_US

_DATE_CODES = re.compile(r"%[YyCmbBhdejDFscxGgUWuwV]")
_ISO_TEXT = re.compile(r"(\d{4}-\d\d-\d\d|\d{8})(?:([T ])\d\d:\d\d(:\d\d)?([.,]\d+)?\s?(Z|[+-]\d\d:?\d\d)?)?")


class NotATime(Exception):
    """`at` is the position in the column."""

    def __init__(self, at: int, problem: str) -> None:
        self.at = at
        super().__init__(problem)


@dataclass(frozen=True, slots=True)
class Clock:
    """Shape: `us` makes µs since 1970 on the clock of the file, null where a cell is no time."""

    us: pl.Expr
    is_utc: bool


def clock_of(layout: Layout, cell: pl.Expr, dtype: pl.DataType, sample: str, found: Found) -> Clock:
    """How to read the times of a file; `sample` is one of its texts."""
    if isinstance(dtype, pl.Datetime):
        return Clock(cell.dt.epoch("us"), dtype.time_zone is not None)
    if dtype == pl.Date:
        return Clock(cell.cast(pl.Datetime("us")).dt.epoch("us"), is_utc=False)
    if layout.time_format in SINCE_EPOCH:
        return Clock(_scaled(cell, SINCE_EPOCH[layout.time_format], sample), is_utc=True)
    if layout.time_format in OF_DAY:
        return Clock(_scaled(cell, OF_DAY[layout.time_format], sample) + _midnight_us(found), is_utc=False)
    return _parsed(layout, cell.cast(pl.String), sample, found)


def _scaled(cell: pl.Expr, us: float, sample: str) -> pl.Expr:
    """Whole numbers exactly, others to the µs."""
    if not sample.isdigit():
        return (cell.cast(pl.Float64, strict=False) * us).round().cast(pl.Int64, strict=False)
    whole = cell.cast(pl.Int64, strict=False)
    return whole // 1000 if us < 1 else whole * int(us)


def _parsed(layout: Layout, text: pl.Expr, sample: str, found: Found) -> Clock:
    form = layout.time_format
    if form == ISO:
        form = _iso_form(sample)
    elif found.period is not None and not _DATE_CODES.search(form):
        text = pl.concat_str(pl.lit(f"{found.period.first} "), text)
        form = f"%Y-%m-%d {form}"
    if not form:
        return Clock(pl.lit(None, pl.Int64), is_utc=False)  # nothing in this column is a time
    is_utc = any(code in form for code in ("%z", "%#z", "%:z", "%+"))
    return Clock(text.str.strptime(pl.Datetime("us"), form, strict=False).dt.epoch("us"), is_utc)


def _iso_form(text: str) -> str:
    """The form of an ISO 8601 time; nothing when it is none. `%.f` is slow, so only where there are fractions."""
    if (found := _ISO_TEXT.fullmatch(text)) is None:
        return ""
    day, mark, seconds, fraction, zone = found.groups()
    form = "%Y-%m-%d" if "-" in day else "%Y%m%d"
    if mark:
        form += f"{mark}%H:%M{':%S' if seconds else ''}{'%.f' if fraction else ''}{'%#z' if zone else ''}"
    return form


def wanted_form(layout: Layout) -> str:
    return "ISO 8601; set `time_format`" if layout.time_format == ISO else f"of the form {layout.time_format}"


def _midnight_us(found: Found) -> int:
    assert found.period is not None, "the layout was checked"
    first = found.period.first
    return int(datetime(first.year, first.month, first.day, tzinfo=UTC).timestamp()) * 1_000_000


def opening_us(layout: Layout, clock: pl.Series, interval: Interval, *, is_utc: bool) -> pl.Series:
    """The opening instant of each row, the oldest row first.

    Raises: NotATime.
    """
    if not interval.is_intraday:
        days = _local(clock, layout) if is_utc else clock
        return _period(days - 1 if layout.stamps_closing else days, interval)
    instant = clock if is_utc else _instant(clock, layout)
    return _opening(instant, interval) if layout.stamps_closing else instant


# Between the clock of the files and UTC


def _local(instant: pl.Series, layout: Layout) -> pl.Series:
    if isinstance(layout.zone, timezone):
        return instant + _offset_us(layout.zone)
    zoned = instant.cast(pl.Datetime("us", "UTC")).dt.convert_time_zone(layout.zone.key)
    return zoned.dt.replace_time_zone(None).dt.epoch("us")


def _instant(clock: pl.Series, layout: Layout) -> pl.Series:
    if isinstance(layout.zone, timezone):
        return clock - _offset_us(layout.zone)
    local = clock.cast(pl.Datetime("us"))
    zone = layout.zone.key
    once = local.dt.replace_time_zone(zone, ambiguous="null", non_existent="null").dt.epoch("us")
    if not once.null_count():
        return once
    first = local.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null").dt.epoch("us")
    if first.null_count():
        at = int(first.is_null().arg_max() or 0)
        raise NotATime(at, f"time {local[at]:%Y-%m-%d %H:%M:%S} never was in {zone}: clocks were set forward then")
    second = local.dt.replace_time_zone(zone, ambiguous="latest", non_existent="null").dt.epoch("us")
    has_stepped_back = clock <= clock.cum_max().shift(1, fill_value=clock[0] - 1)
    return second.zip_with(has_stepped_back, first)


def _offset_us(zone: timezone) -> int:
    return int(zone.utcoffset(None).total_seconds()) * 1_000_000


# Between the stamp and the opening


def _period(days: pl.Series, interval: Interval) -> pl.Series:
    """00:00 UTC of the trading date, of its Monday or of the first of its month."""
    match interval:
        case Interval.MO1:
            return days.cast(pl.Datetime("us")).dt.truncate("1mo").dt.epoch("us")
        case Interval.W1:
            return (days - MONDAY_US) // WEEK_US * WEEK_US + MONDAY_US
        case _:
            return days // DAY_US * DAY_US


def _opening(closing: pl.Series, interval: Interval) -> pl.Series:
    """The opening of a bar that closes at, or just before, a mark of the grid: 10:30, or 10:29:59.999."""
    grid = interval.grid_us
    return -(-closing // grid) * grid - interval.us
