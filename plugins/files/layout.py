"""Options -> Layout: how one set of files is named and what stands in them. Pure; nothing is read here."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, timedelta, timezone
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from naming import Template

from timebase.model.interval import parse_interval
from timebase.sdk import AssetClass, Interval, Unsupported

PRICES = ("open", "high", "low", "close")
COLUMNS = ("time", *PRICES, "volume", "symbol")
USUAL_NAMES: Mapping[str, tuple[str, ...]] = {
    "time": ("time", "timestamp", "datetime", "date", "day", "open_time", "open time"),
    "open": ("open",),
    "high": ("high",),
    "low": ("low",),
    "close": ("close", "last"),
    "volume": ("volume",),
}
# µs in one of them; the file's numbers count from 1970-01-01 UTC, or from midnight.
SINCE_EPOCH = {"s": 1_000_000.0, "ms": 1_000.0, "us": 1.0, "ns": 0.001}
OF_DAY = {"s_of_day": 1_000_000.0, "ms_of_day": 1_000.0}
ISO = "iso"

T = TypeVar("T")
Column = str | int
"""A column of the file: by its name in the header, or by its position, counted from 0."""

_OFFSET = re.compile(r"(?:UTC|GMT)?([+-])(\d{1,2})(?::?(\d{2}))?")


@dataclass(frozen=True, slots=True)
class Layout:
    """One set of files.

    Shape: `columns` gives the columns of the file for each of ours: prices are the mean of several, volumes their sum,
        times their texts joined by a blank; one that is not named is looked for by its usual names.
    """

    folder: Path
    path: Template
    member: Template
    intervals: Mapping[Interval, str]
    symbols: Mapping[str, str]
    asset_class: AssetClass | None
    columns: Mapping[str, tuple[Column, ...]]
    header: bool
    skip_rows: int
    delimiter: str
    time_format: str
    zone: ZoneInfo | timezone
    stamps_closing: bool
    price_scale: float


def parse_layout(options: Mapping[str, object]) -> Layout:
    """What the operator wrote, checked; what is not set has the defaults of the bundled manifest.

    Raises: Unsupported with all faults.
    """
    read = _Reader(options)
    layout = Layout(
        folder=read("folder", _folder, "."),
        path=read("path", Template, "{interval}/{symbol}.csv"),
        member=read("member", Template, "*"),
        intervals=read("intervals", _intervals, {}),
        symbols=read("symbols", _symbols, {}),
        asset_class=read("asset_class", _asset_class, ""),
        columns=read("columns", _columns, {}),
        header=bool(options.get("header", True)),
        skip_rows=read("skip_rows", int, 0),
        delimiter=read("delimiter", _delimiter, ","),
        time_format=read("time_format", str, ISO),
        zone=read("timezone", parse_zone, "UTC"),
        stamps_closing=read("stamp", _stamp, "open"),
        price_scale=read("price_scale", _scale, 1.0),
    )
    read.faults += _contradictions(layout)
    if not options.get("folder"):
        read.faults.append("option `folder` is not set: name the folder that holds the files")
    if read.faults:
        raise Unsupported("; ".join(read.faults))
    return layout


class _Reader:
    """Reads one option after the other and gathers what is wrong with them."""

    def __init__(self, options: Mapping[str, object]) -> None:
        self._options = options
        self.faults: list[str] = []

    def __call__(self, name: str, parse: Callable[[Any], T], default: object) -> T:
        value = self._options.get(name)
        if value is not None:
            try:
                return parse(value)
            except (ValueError, TypeError) as exc:
                self.faults.append(f"option `{name}` is {value!r}: {exc}")
        return parse(default)


def _contradictions(layout: Layout) -> list[str]:
    faults = []
    if not layout.path.has("interval") and len(layout.intervals) != 1:
        faults.append(
            "option `path` does not say {interval}, so `intervals` must name the one that these files hold, as in "
            "`intervals: {1d: daily}`"
        )
    if not layout.path.has("symbol") and "symbol" not in layout.columns and len(layout.symbols) != 1:
        faults.append(
            "option `path` does not say {symbol}, so `columns` must name the column that does, as in "
            "`columns: {symbol: Ticker}`, or `symbols` the one symbol"
        )
    if layout.time_format in OF_DAY and not layout.path.has("date"):
        faults.append(f"option `time_format` is {layout.time_format}, so `path` must say {{date}}")
    if not layout.header:
        named = [column for columns in layout.columns.values() for column in columns if isinstance(column, str)]
        if named:
            faults.append(f"option `columns` names {named[0]!r}, but without a header there are only positions")
    return faults


def parse_zone(text: str) -> ZoneInfo | timezone:
    """`America/New_York`, `UTC`, or an offset that never changes: `UTC-05:00`."""
    if found := _OFFSET.fullmatch(text):
        sign = -1 if found[1] == "-" else 1
        return timezone(sign * timedelta(hours=int(found[2]), minutes=int(found[3] or 0)))
    try:
        return UTC if text.upper() == "UTC" else ZoneInfo(text)
    except (ZoneInfoNotFoundError, OSError) as exc:
        raise ValueError("write a name like America/New_York, or an offset like UTC-05:00") from exc


def _folder(text: object) -> Path:
    return Path(str(text)).expanduser()


def _intervals(names: Mapping[str, object]) -> dict[Interval, str]:
    found = {}
    for name, native in names.items():
        interval = parse_interval(str(name))
        if interval is None:
            raise ValueError(f"{name!r} is no interval; there are: {', '.join(Interval)}")
        found[interval] = str(native)
    return found


def _symbols(names: Mapping[str, object]) -> dict[str, str]:
    return {str(symbol): str(native) for symbol, native in names.items()}


def _asset_class(name: str) -> AssetClass | None:
    return AssetClass(name) if name else None


def _columns(given: Mapping[str, object]) -> dict[str, tuple[Column, ...]]:
    found: dict[str, tuple[Column, ...]] = {}
    for name, where in given.items():
        if name not in COLUMNS:
            raise ValueError(f"{name!r} is none of ours; there are: {', '.join(COLUMNS)}")
        columns = where if isinstance(where, list | tuple) else () if where is None else (where,)
        for column in columns:
            if (
                isinstance(column, bool)
                or not isinstance(column, str | int)
                or (isinstance(column, int) and column < 0)
            ):
                raise ValueError(f"{name}: write a column's name, or its position from 0, not {column!r}")
        if not columns and name != "volume":
            raise ValueError(f"{name}: name a column")
        found[name] = tuple(columns)
    return found


def _delimiter(text: str) -> str:
    text = {"\\t": "\t", "tab": "\t"}.get(text, text)
    if len(text.encode()) != 1:
        raise ValueError("write one character, or tab")
    return text


def _stamp(text: str) -> bool:
    if text not in {"open", "close"}:
        raise ValueError("write open or close")
    return text == "close"


def _scale(number: float) -> float:
    if not number > 0:
        raise ValueError("write a number above 0")
    return float(number)
