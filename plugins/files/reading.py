"""Files -> bars: unpack, find the columns, understand the times, and stitch what several files hold.

A file is read quickly first, as a clean one allows; where that fails it is read again with care, every cell as text, so
that blanks are forgiven and a cell that is none of what it should be can be named with its line.
"""

import csv
import io
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from gzip import BadGzipFile
from gzip import open as open_gzip
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import polars as pl
from layout import PRICES, USUAL_NAMES, Column, Layout
from naming import Found
from times import NotATime, clock_of, opening_us, wanted_form

from timebase.model.timerange import DAY_US
from timebase.sdk import Bars, Interval, Malformed

PAGE_ROWS = 65_536
SPARE_US = 3 * DAY_US  # between a file's clock and the opening in UTC lie less than so much and an interval
NUMBERS = (*PRICES, "volume")
OURS = ("time", *NUMBERS)
MISSING = ["", "null", "NULL", "Null", "None", "NA", "N/A", "n/a", "-", "."]  # written where there is no value


@dataclass(frozen=True, slots=True)
class Source:
    """One table: a file, or what an archive holds. `name` is what people look for when it is at fault."""

    name: str
    data: Path | bytes
    is_parquet: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """Units: half-open, µs UTC, by opening instants."""

    symbol: str  # as the files call it
    interval: Interval
    start_us: int
    end_us: int


def pages(layout: Layout, groups: Iterable[Sequence[Found]], wanted: Wanted) -> Iterator[Bars]:
    """The bars of each group of files, sorted; small groups share a page.

    Raises: Malformed, also when a group begins before the one before it ended.
    """
    waiting: list[pl.DataFrame] = []
    last_us: int | None = None
    for group in groups:
        frame = _read_group(layout, group, wanted)
        if frame.is_empty():
            continue
        first_us = frame["time"][0]
        if last_us is not None and first_us < last_us:
            raise Malformed(f"{group[0].path}: it begins before the file of the date before it ended")
        last_us = frame["time"][-1]
        waiting.append(frame)
        if sum(map(len, waiting)) >= PAGE_ROWS:
            yield _bars(waiting)
            waiting = []
    if waiting:
        yield _bars(waiting)


def symbols_in(layout: Layout, found: Found) -> set[str]:
    """What stands in the symbol column of a file."""
    names: set[str] = set()
    for source in _sources(layout, found):
        lazy, schema = _scan(layout, source, is_careful=True)
        if schema:
            (column,) = _columns_of(layout, source, "symbol", list(schema))
            names.update(_symbol(column, schema).unique().pipe(lazy.select).collect().to_series().drop_nulls())
    return names


def _bars(frames: Sequence[pl.DataFrame]) -> Bars:
    whole = pl.concat(frames)
    return Bars(*(whole[name].to_numpy() for name in OURS))


def _read_group(layout: Layout, group: Sequence[Found], wanted: Wanted) -> pl.DataFrame:
    frames = [_read(layout, source, found, wanted) for found in group for source in _sources(layout, found)]
    whole = pl.concat(frames)
    return whole if whole["time"].is_sorted() else whole.sort("time", maintain_order=True)


def _read(layout: Layout, source: Source, found: Found, wanted: Wanted) -> pl.DataFrame:
    """Raises: Malformed."""
    rows, is_utc = _quick(layout, source, found, wanted) or _careful(layout, source, found, wanted)
    if len(rows) and rows["clock"][0] > rows["clock"][-1]:
        rows = rows.reverse()
    try:
        times = opening_us(layout, rows["clock"], wanted.interval, is_utc=is_utc)
    except NotATime as exc:
        raise Malformed(f"{_line(layout, source, rows['row'][exc.at])}: {exc}") from exc
    is_wanted = times.is_between(wanted.start_us, wanted.end_us, "left")
    bars = rows.select(times.alias("time"), *NUMBERS)
    return bars if is_wanted.all() else bars.filter(is_wanted)


def _quick(layout: Layout, source: Source, found: Found, wanted: Wanted) -> tuple[pl.DataFrame, bool] | None:
    """Nothing when the file is not as clean as that."""
    try:
        rows, is_utc = _rows(layout, source, found, wanted, is_careful=False)
        frame = rows.collect(engine="streaming")
    except pl.exceptions.PolarsError:
        return None
    return None if frame["is_bad"].any() else (frame, is_utc)


def _careful(layout: Layout, source: Source, found: Found, wanted: Wanted) -> tuple[pl.DataFrame, bool]:
    try:
        rows, is_utc = _rows(layout, source, found, wanted, is_careful=True)
        frame = rows.collect(engine="streaming")
    except pl.exceptions.PolarsError as exc:
        raise Malformed(_told(layout, source, exc)) from exc
    if frame["is_bad"].any():
        raise Malformed(_bad_cell(layout, source, frame.filter("is_bad")["row"][0]))
    return frame, is_utc


# The table


def _rows(
    layout: Layout, source: Source, found: Found, wanted: Wanted, *, is_careful: bool
) -> tuple[pl.LazyFrame, bool]:
    """Columns `row`, `clock`, our numbers and `is_bad`, and whether that clock is UTC.

    Rows: those of the symbol that may be wanted, and the bad ones; blank lines left out.
    Raises: Malformed when the columns are not there.
    """
    lazy, schema = _scan(layout, source, is_careful=is_careful)
    if not schema:
        return _NOTHING, True
    picked = {name: _columns_of(layout, source, name, list(schema)) for name in (*OURS, "symbol")}
    when, dtype = _when(picked["time"], schema, is_careful=is_careful)
    clock = clock_of(layout, when, dtype, _sample(lazy, when), found)
    numbers = {name: _number(layout, name, picked[name], schema) for name in NUMBERS}
    bad = [pl.col("clock").is_null(), *(is_bad for _, each in numbers.values() for is_bad in each)]
    raw = [pl.col(name) for name in dict.fromkeys(name for names in picked.values() for name in names)]
    rows = lazy.with_row_index("row").filter(pl.any_horizontal(each.is_not_null() for each in raw))
    if picked["symbol"]:
        rows = rows.filter(_symbol(picked["symbol"][0], schema) == wanted.symbol)
    rows = rows.with_columns(clock.us.alias("clock")).select(
        "row",
        "clock",
        pl.any_horizontal(bad).fill_null(value=False).alias("is_bad"),
        *(number.alias(name) for name, (number, _) in numbers.items()),
    )
    spare_us = SPARE_US + wanted.interval.us
    is_near = pl.col("clock").is_between(wanted.start_us - spare_us, wanted.end_us + spare_us)
    return rows.filter(pl.col("is_bad") | is_near), clock.is_utc


_NOTHING = pl.LazyFrame(
    schema={"row": pl.UInt32, "clock": pl.Int64, "is_bad": pl.Boolean, **dict.fromkeys(NUMBERS, pl.Float64)}
)


def _scan(layout: Layout, source: Source, *, is_careful: bool) -> tuple[pl.LazyFrame, pl.Schema]:
    data = io.BytesIO(source.data) if isinstance(source.data, bytes) else source.data
    try:
        if source.is_parquet:
            lazy = pl.scan_parquet(data, glob=False)
            return lazy, lazy.collect_schema()
        lazy = _scan_csv(layout, data, {})
        schema = lazy.collect_schema()
        if is_careful or not schema:
            return lazy, schema
        columns = [_columns_of(layout, source, name, list(schema)) for name in NUMBERS]
        lazy = _scan_csv(layout, data, {name: pl.Float64 for names in columns for name in names})
        return lazy, lazy.collect_schema()
    except pl.exceptions.PolarsError as exc:
        raise Malformed(_told(layout, source, exc)) from exc


def _scan_csv(layout: Layout, data: io.BytesIO | Path, types: dict[str, type[pl.DataType]]) -> pl.LazyFrame:
    """Columns are text where `types` does not say otherwise."""
    if isinstance(data, io.BytesIO):
        data.seek(0)
    return pl.scan_csv(
        data, has_header=layout.header, separator=layout.delimiter, skip_lines=layout.skip_rows, infer_schema=False,
        schema_overrides=types, null_values=MISSING, raise_if_empty=False, glob=False,
    )  # fmt: skip


def _columns_of(layout: Layout, source: Source, ours: str, names: Sequence[str]) -> list[str]:
    """The names of the file's columns that make one of ours."""
    given = layout.columns.get(ours)
    if given is not None:
        return [_named(source, ours, column, names) for column in given]
    if ours == "symbol":
        return []
    if not layout.header and not source.is_parquet:
        at = OURS.index(ours)
        if at < len(names) or ours == "volume":
            return list(names[at : at + 1])
    by_name = _by_name(names)
    found = next((by_name[name] for name in USUAL_NAMES.get(ours, ()) if name in by_name), None)
    if found is None and ours != "volume":
        raise Malformed(f"{source.name}: no column looks like {ours}; name it in option `columns`; {_listed(names)}")
    return [] if found is None else [found]


def _named(source: Source, ours: str, column: Column, names: Sequence[str]) -> str:
    if isinstance(column, int):
        if column < len(names):
            return names[column]
        raise Malformed(f"{source.name}: option `columns` has {ours} at position {column}; {_listed(names)}")
    if (found := _by_name(names).get(column.strip().casefold())) is None:
        raise Malformed(f"{source.name}: option `columns` has {ours} in {column!r}; {_listed(names)}")
    return found


def _by_name(names: Sequence[str]) -> dict[str, str]:
    return {name.strip().strip("\ufeff").casefold(): name for name in reversed(names)}


def _listed(names: Sequence[str]) -> str:
    return f"the file has {len(names)}: {', '.join(name.strip() for name in names[:20])}"


def _symbol(name: str, schema: pl.Schema) -> pl.Expr:
    symbol = pl.col(name).cast(pl.String)
    return symbol.str.strip_chars() if schema[name] == pl.String else symbol


def _when(names: Sequence[str], schema: pl.Schema, *, is_careful: bool) -> tuple[pl.Expr, pl.DataType]:
    if len(names) > 1:
        texts = [pl.col(name).cast(pl.String).str.strip_chars() for name in names]
        return pl.concat_str(texts, separator=" "), pl.String()
    when, dtype = pl.col(names[0]), schema[names[0]]
    return (when.str.strip_chars() if is_careful and dtype == pl.String else when), dtype


def _sample(lazy: pl.LazyFrame, when: pl.Expr) -> str:
    """One of the first times, as text."""
    head = lazy.head(100).select(when.cast(pl.String)).collect().to_series().drop_nulls()
    return str(head[0]) if len(head) else ""


def _number(layout: Layout, ours: str, names: Sequence[str], schema: pl.Schema) -> tuple[pl.Expr, list[pl.Expr]]:
    """One of our columns, and for each of the file's that make it whether a cell is no number."""
    if not names:
        return pl.lit(0.0), []
    numbers, bad = [], []
    for name in names:
        if schema[name] != pl.String:
            numbers.append(pl.col(name).cast(pl.Float64))
            continue
        text = pl.col(name).str.strip_chars()
        numbers.append(text.cast(pl.Float64, strict=False))
        bad.append(numbers[-1].is_null() & (text.str.len_bytes() > 0))
    total = numbers[0]
    for number in numbers[1:]:
        total = total + number
    if ours in PRICES:
        # The mean of 1.33581 and 1.33579 is 1.3358, not 1.3357999999999999.
        mean = total if len(numbers) == 1 else (total / len(numbers)).round_sig_figs(15)
        total = _scaled(mean, layout.price_scale)
    return total.fill_null(float("nan")), bad


def _scaled(price: pl.Expr, scale: float) -> pl.Expr:
    """Divided where the scale is one in so many: 12345 / 10000 is 1.2345, but 12345 * 0.0001 is not."""
    if scale == 1.0:
        return price
    parts = round(1.0 / scale)
    return price / parts if parts > 1 and abs(parts * scale - 1.0) < 1e-9 else price * scale


# Archives


def _sources(layout: Layout, found: Found) -> Iterator[Source]:
    """Raises: Malformed when an archive cannot be unpacked."""
    with found.path.open("rb") as file:
        head = file.read(4)
    name = str(found.path.relative_to(layout.folder))
    try:
        if head[:2] == b"\x1f\x8b":
            with open_gzip(found.path) as packed:
                yield _source(name, packed.read())
        elif head == b"PK\x03\x04":
            yield from _members(layout, found, name)
        else:
            yield Source(name, found.path, head == b"PAR1")
    except (BadGzipFile, BadZipFile, EOFError, zlib.error, NotImplementedError, RuntimeError) as exc:
        raise Malformed(f"{name}: it cannot be unpacked: {exc}") from exc


def _members(layout: Layout, found: Found, name: str) -> Iterator[Source]:
    with ZipFile(found.path) as archive:
        members = [member for member in archive.namelist() if not member.endswith("/")]
        wanted = sorted(member for member in members if layout.member.matches(member, found))
        if members and not wanted:
            raise Malformed(f"{name}: no member is {layout.member.text}; there are: {', '.join(members[:10])}")
        for member in wanted:
            yield _source(f"{name}!{member}", archive.read(member))


def _source(name: str, data: bytes) -> Source:
    return Source(name, data, data[:4] == b"PAR1")


# Faults


def _told(layout: Layout, source: Source, exc: Exception) -> str:
    """polars' own words, with the line where we can find it."""
    if not source.is_parquet:
        for line, cells, width in _records(layout, source):
            if cells and len(cells) != width:
                return f"{source.name} line {line}: {len(cells)} cells, where the first line has {width}"
    return f"{source.name}: {str(exc).splitlines()[0]}"


def _bad_cell(layout: Layout, source: Source, row: int) -> str:
    lazy, schema = _scan(layout, source, is_careful=True)
    where = _line(layout, source, row)
    cells = lazy.with_row_index("row").filter(pl.col("row") == row).collect().row(0, named=True)
    for ours in NUMBERS:
        for name in _columns_of(layout, source, ours, list(schema)):
            if not _is_number(cells[name]):
                return f"{where}: {ours} {cells[name]!r} is not a number"
    said = [str(cells[name] or "").strip() for name in _columns_of(layout, source, "time", list(schema))]
    return f"{where}: time {' '.join(said)!r} is not {wanted_form(layout)}" if any(said) else f"{where}: it has no time"


def _is_number(cell: object) -> bool:
    try:
        float(str(cell).strip() or "nan") if cell is not None else 0.0
    except ValueError:
        return False
    return "_" not in str(cell)


def _line(layout: Layout, source: Source, row: int) -> str:
    """Where the row stands, for someone with an editor."""
    if source.is_parquet:
        return f"{source.name} row {row + 1}"
    for at, (line, _, _) in enumerate(_records(layout, source)):
        if at == row + layout.header:
            return f"{source.name} line {line}"
    return f"{source.name} row {row + 1}"


def _records(layout: Layout, source: Source) -> Iterator[tuple[int, list[str], int]]:
    """(line, cells, cells of the first record) of each record after the lines to skip."""
    raw = io.BytesIO(source.data) if isinstance(source.data, bytes) else source.data.open("rb")
    with io.TextIOWrapper(raw, encoding="utf-8-sig", errors="replace", newline="") as text:
        for _ in range(layout.skip_rows):
            text.readline()
        reader = csv.reader(text, delimiter=layout.delimiter)
        width = 0
        for cells in reader:
            width = width or len(cells)
            yield reader.line_num + layout.skip_rows, cells, width
