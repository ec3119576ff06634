"""What a file's clock says -> the opening instant, µs UTC.

Local times are taken in file order: where clocks are set back, the hour that comes twice is daylight time first and
standard time from the row on at which the clock steps back.
"""

import re
from datetime import UTC, datetime, timezone

import polars as pl
from layout import ISO, OF_DAY, SINCE_EPOCH, Layout
from naming import Found

from timebase.model.interval import MONDAY_US
from timebase.sdk import Interval

DAY_US = 86_400_000_000
WEEK_US = 7 * DAY_US

_DATE_CODES = re.compile(r"%[YyCmbBhdejDFscxGgUWuwV]")
_ISO_TEXT = re.compile(r"(\d{4}-\d\d-\d\d|\d{8})(?:([T ])\d\d:\d\d(:\d\d)?([.,]\d+)?\s?(Z|[+-]\d\d:?\d\d)?)?")


class NotATime(Exception):
    """`row` counts from 0, in the order of the file."""

    def __init__(self, row: int, problem: str) -> None:
        self.row = row
        super().__init__(problem)


def opening_us(layout: Layout, frame: pl.DataFrame, found: Found, interval: Interval) -> tuple[pl.DataFrame, pl.Series]:
    """The frame, oldest row first, and the opening instant of each row.

    Shape: `frame` has the columns `row` and `when`.
    Raises: NotATime.
    """
    if frame.is_empty():
        return frame, pl.Series(dtype=pl.Int64)
    clock, is_instant = _clock_us(layout, frame, found)
    if clock.null_count():
        at = int(clock.is_null().arg_max() or 0)
        told = frame["when"][at]
        raise NotATime(
            frame["row"][at], "it has no time" if told is None else f"time {told!r} is not {_wanted(layout)}"
        )
    if clock[0] > clock[-1]:
        frame, clock = frame.reverse(), clock.reverse()
    if not interval.is_intraday:
        days = _local(clock, layout) if is_instant else clock
        return frame, _period(days - 1 if layout.stamps_closing else days, interval)
    instant = clock if is_instant else _instant(clock, layout, frame)
    return frame, _opening(instant, interval) if layout.stamps_closing else instant


def _clock_us(layout: Layout, frame: pl.DataFrame, found: Found) -> tuple[pl.Series, bool]:
    """µs since 1970 on the clock of the file, null where a text is no time; and whether that clock is UTC already."""
    when = frame["when"]
    if isinstance(when.dtype, pl.Datetime):
        return when.dt.epoch("us"), when.dtype.time_zone is not None
    if when.dtype == pl.Date:
        return when.cast(pl.Datetime("us")).dt.epoch("us"), False
    if layout.time_format in SINCE_EPOCH:
        return _scaled(when, SINCE_EPOCH[layout.time_format]), True
    if layout.time_format in OF_DAY:
        return _scaled(when, OF_DAY[layout.time_format]) + _midnight_us(found), False
    return _parsed(layout, when.cast(pl.String), found)


def _scaled(numbers: pl.Series, us: float) -> pl.Series:
    """Whole numbers exactly; others to the µs."""
    whole = numbers.cast(pl.Int64, strict=False)
    if whole.null_count() == numbers.null_count():
        return whole // 1000 if us < 1 else whole * int(us)
    return (numbers.cast(pl.Float64, strict=False) * us).round().cast(pl.Int64)


def _parsed(layout: Layout, texts: pl.Series, found: Found) -> tuple[pl.Series, bool]:
    form = layout.time_format
    if form == ISO:
        form = _iso_form(next(iter(texts.drop_nulls()), ""))
    elif found.period is not None and not _DATE_CODES.search(form):
        day = found.period.first.isoformat()
        form, texts = f"%Y-%m-%d {form}", (day + " " + texts.to_frame("t")["t"]).alias("when")
    if not form:
        return pl.repeat(None, len(texts), dtype=pl.Int64, eager=True), False
    try:
        parsed = texts.str.strptime(pl.Datetime("us"), form, strict=False)
    except pl.exceptions.PolarsError as exc:
        raise NotATime(0, f"option `time_format` {layout.time_format!r} cannot be used: {exc}") from exc
    return parsed.dt.epoch("us"), isinstance(parsed.dtype, pl.Datetime) and parsed.dtype.time_zone is not None


def _iso_form(text: str) -> str:
    """The form of an ISO 8601 time; nothing when it is none."""
    if (found := _ISO_TEXT.fullmatch(text)) is None:
        return ""
    day, mark, seconds, _, zone = found.groups()
    form = "%Y-%m-%d" if "-" in day else "%Y%m%d"
    if mark:
        form += f"{mark}%H:%M{':%S%.f' if seconds else ''}{'%#z' if zone else ''}"
    return form


def _wanted(layout: Layout) -> str:
    return "ISO 8601; set `time_format`" if layout.time_format == ISO else f"of the form {layout.time_format}"


def _midnight_us(found: Found) -> int:
    assert found.period is not None, "the layout was checked"
    first = found.period.first
    return int(datetime(first.year, first.month, first.day, tzinfo=UTC).timestamp()) * 1_000_000


# Between the clock of the files and UTC


def _local(instant: pl.Series, layout: Layout) -> pl.Series:
    if isinstance(layout.zone, timezone):
        return instant + _offset_us(layout.zone)
    zoned = instant.cast(pl.Datetime("us", "UTC")).dt.convert_time_zone(layout.zone.key)
    return zoned.dt.replace_time_zone(None).dt.epoch("us")


def _instant(clock: pl.Series, layout: Layout, frame: pl.DataFrame) -> pl.Series:
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
        raise NotATime(frame["row"][at], f"time {frame['when'][at]!r} never was in {zone}: clocks are set forward")
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
