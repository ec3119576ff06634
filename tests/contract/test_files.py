"""The files provider on small files made here: each option, each fault, and symbols that want to leave the folder."""

import gzip
import io
import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from timebase.errors import ConfigError
from timebase.house import MANIFESTS, PLUGINS
from timebase.manifest.load import load_manifest
from timebase.manifest.options import resolve_options
from timebase.sdk import (
    AssetClass,
    Bars,
    HistoryRequest,
    Interval,
    Malformed,
    SymbolNotFound,
    Unsupported,
    Upstream,
)  # fmt: skip
from timebase.sdk.contract import check
from timebase.sdk.entrypoint import load_provider

ENTRYPOINT = f"{PLUGINS}/files/provider.py:Files"
Files = load_provider(ENTRYPOINT)
EVER = (-(6 * 10**16), 2 * 10**17)  # the years 69 to 8307
HEADER = "time,open,high,low,close,volume\n"
DAYS = HEADER + "2024-01-02,1,2,0.5,1.5,10\n2024-01-03,1.5,2,1,1.75,20\n"

Answer = list[tuple[str, float, float, float, float, float]]


def files(folder: Path, **options: object) -> Any:
    provider = Files(options={"folder": str(folder), **options})
    provider.setup()
    return provider


def ask(
    folder: Path, symbol: str = "X", interval: str = "1d", span: tuple[int, int] = EVER, **options: object
) -> Answer:
    options.setdefault("path", "{symbol}.*")
    options.setdefault("intervals", {interval: ""})
    request = HistoryRequest(symbol, AssetClass.STOCK, Interval(interval), *span)
    return [row for page in files(folder, **options).history(request) for row in rows(page)]


def rows(page: Bars) -> Answer:
    columns = [np.asarray(getattr(page, name)).tolist() for name in ("open", "high", "low", "close", "volume")]
    return list(zip(map(iso, np.asarray(page.time).tolist()), *columns, strict=True))


def iso(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%S").removesuffix("T00:00:00")


def us(*clock: int) -> int:
    return int(datetime(*clock, tzinfo=UTC).timestamp()) * 1_000_000  # type: ignore[misc,arg-type]


def times(folder: Path, text: str, interval: str = "1m", **options: object) -> list[str]:
    """What becomes of the times in `text`, a line each."""
    lines = [f'"{line}",1,1,1,1,1' for line in text.split("\n")]
    (folder / "X.csv").write_text(HEADER + "\n".join(lines))
    return [row[0] for row in ask(folder, interval=interval, **options)]


TWO_DAYS = [("2024-01-02", 1.0, 2.0, 0.5, 1.5, 10.0), ("2024-01-03", 1.5, 2.0, 1.0, 1.75, 20.0)]


# Tables


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (DAYS, {}),
        (DAYS.replace("\n", "\r\n"), {}),
        ("\ufeff" + DAYS, {}),
        (DAYS.replace(",", ";"), {"delimiter": ";"}),
        (DAYS.replace(",", "\t"), {"delimiter": "tab"}),
        (DAYS.replace(",", " , "), {}),
        ("a line\nanother, \"line\n" + DAYS, {"skip_rows": 2}),
        (DAYS.removeprefix(HEADER), {"header": False}),
        (DAYS, {"header": False, "skip_rows": 1}),
        (DAYS.replace("time,", "DATE,").replace("volume", "Volume"), {}),
        (DAYS.replace("\n", "\n\n") + "\n\n", {}),
        (DAYS.replace("close", "wrong").replace("high", "close").replace("wrong", "high"),
         {"columns": {"high": "close", "close": "HIGH"}}),
        (DAYS, {"columns": {"time": 0, "volume": 5}}),
    ],
)  # fmt: skip
def test_a_table_is_read_however_it_is_written(tmp_path: Path, text: str, options: dict[str, object]) -> None:
    (tmp_path / "X.csv").write_text(text, newline="")
    assert ask(tmp_path, **options) == TWO_DAYS


def test_packed_files_are_known_by_their_content_not_by_their_name(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    pl.read_csv(io.StringIO(DAYS)).write_parquet(buffer)
    (tmp_path / "A.1").write_bytes(gzip.compress(DAYS.encode()))
    with zipfile.ZipFile(tmp_path / "B.2", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner/b.csv", DAYS)
    (tmp_path / "C.3").write_bytes(buffer.getvalue())
    with zipfile.ZipFile(tmp_path / "D.4", "w") as archive:
        archive.writestr("d.parquet", buffer.getvalue())
    for symbol in "ABCD":
        assert ask(tmp_path, symbol) == TWO_DAYS


@pytest.mark.parametrize(
    "column",
    [
        pl.Series([date(2024, 1, 2), date(2024, 1, 3)]),
        pl.Series([datetime(2024, 1, 2), datetime(2024, 1, 3)]),  # noqa: DTZ001
        pl.Series([datetime(2024, 1, 2, 5), datetime(2024, 1, 3, 5)]).dt.replace_time_zone("UTC"),  # noqa: DTZ001
        pl.Series([datetime(2024, 1, 2), datetime(2024, 1, 3)]).dt.cast_time_unit("ns"),  # noqa: DTZ001
        pl.Series(["2024-01-02", "2024-01-03"]),
    ],
)
def test_parquet_keeps_its_types(tmp_path: Path, column: pl.Series) -> None:
    table = pl.read_csv(io.StringIO(DAYS)).with_columns(column.alias("time"), pl.col("close").cast(pl.Decimal(10, 2)))
    table.with_columns(pl.col("volume").cast(pl.Int32)).write_parquet(tmp_path / "X.parquet")
    assert ask(tmp_path, timezone="America/New_York") == TWO_DAYS


def test_numbers_of_a_parquet_file_are_times_in_the_unit_that_is_said(tmp_path: Path) -> None:
    at = [us(2024, 1, 2, 9, 30) // 1000, us(2024, 1, 2, 9, 31) // 1000]
    table = pl.DataFrame({"time": at, **{name: [1.0, 2.0] for name in ("open", "high", "low", "close")}})
    table.write_parquet(tmp_path / "X.parquet")
    found = ask(tmp_path, interval="1m", time_format="ms")
    assert found == [("2024-01-02T09:30:00", 1, 1, 1, 1, 0), ("2024-01-02T09:31:00", 2, 2, 2, 2, 0)]


def test_several_columns_become_one(tmp_path: Path) -> None:
    (tmp_path / "X.csv").write_text(
        "day,clock,bo,bh,bl,bc,ao,ah,al,ac,bought,sold\n20240102,09:30,1.33581,2,1,2,1.33579,2.5,1.5,2,3,4\n"
    )
    columns = {"time": ["day", "clock"], "open": ["bo", "ao"], "high": ["bh", "ah"], "low": ["bl", "al"],
               "close": ["bc", "ac"], "volume": ["bought", "sold"]}  # fmt: skip
    found = ask(tmp_path, interval="1m", columns=columns, time_format="%Y%m%d %H:%M")
    assert found == [("2024-01-02T09:30:00", 1.3358, 2.25, 1.25, 2.0, 7.0)]


def test_a_volume_that_is_not_there_is_0_and_one_that_is_blank_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "A.csv").write_text("time,open,high,low,close\n2024-01-02,1,2,0.5,1.5\n")
    (tmp_path / "B.csv").write_text(HEADER + "2024-01-02,1,2,0.5,1.5,\n")
    assert ask(tmp_path, "A")[0][5] == 0
    assert np.isnan(ask(tmp_path, "B")[0][5])
    assert ask(tmp_path, "B", columns={"volume": None})[0][5] == 0


@pytest.mark.parametrize("cell", ["", "NaN", "nan", "null", "N/A", " "])
def test_a_missing_price_is_left_to_the_validator(tmp_path: Path, cell: str) -> None:
    (tmp_path / "X.csv").write_text(HEADER + f"2024-01-02,1,2,{cell},1.5,10\n")
    (row,) = ask(tmp_path)
    assert np.isnan(row[3])
    assert row[4] == 1.5


@given(st.integers(1, 10**9), st.sampled_from([1, 2, 4, 5]))
def test_scaled_prices_are_the_decimals_that_people_would_write(whole: int, digits: int) -> None:
    # The scale is a power of ten: what is left must be the double nearest to the decimal fraction.
    reading = sys.modules["reading"]
    scaled = pl.DataFrame({"x": [float(whole)]}).select(reading._scaled(pl.col("x"), 10.0**-digits)).item()
    text = str(whole).rjust(digits + 1, "0")
    assert scaled == float(f"{text[:-digits]}.{text[-digits:]}")


def test_prices_are_scaled_and_volumes_are_not(tmp_path: Path) -> None:
    (tmp_path / "X.csv").write_text(HEADER + "2024-01-02,12345,20000,5000,15001,10\n")
    assert ask(tmp_path, price_scale=0.0001) == [("2024-01-02", 1.2345, 2.0, 0.5, 1.5001, 10.0)]
    assert ask(tmp_path, price_scale=100)[0][1] == 1234500


# Times


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("2024-01-02 14:30", {}),
        ("2024-01-02T14:30", {}),
        ("2024-01-02T14:30:00Z", {}),
        ("2024-01-02 14:30:00.000", {}),
        ("2024-01-02T14:30:00+00:00", {"timezone": "Asia/Tokyo"}),
        ("2024-01-02 09:30:00-05:00", {}),
        ("2024-01-02 09:30:00 -0500", {}),
        ("20240102 14:30", {}),
        ("2024-01-02 09:30", {"timezone": "America/New_York"}),
        ("2024-01-02 09:30", {"timezone": "UTC-05:00"}),
        ("2024-01-02 09:30", {"timezone": "-0500"}),
        ("2024-01-02 20:00", {"timezone": "GMT+5:30"}),
        ("1/2/2024 14:30", {"time_format": "%m/%d/%Y %H:%M"}),
        ("2-Jan-24 02.30 PM", {"time_format": "%d-%b-%y %I.%M %p"}),
        ("1704205800", {"time_format": "s"}),
        ("1704205800.0", {"time_format": "s"}),
        ("1704205800000", {"time_format": "ms", "timezone": "Asia/Tokyo"}),
        ("1704205800000000", {"time_format": "us"}),
        ("1704205800000000000", {"time_format": "ns"}),
        ("2024-01-02 14:31", {"stamp": "close"}),
        ("2024-01-02 14:30:59.999", {"stamp": "close"}),
        ("1704205859999", {"stamp": "close", "time_format": "ms"}),
    ],
)
def test_a_time_is_understood(tmp_path: Path, text: str, options: dict[str, object]) -> None:
    assert times(tmp_path, text, **options) == ["2024-01-02T14:30:00"]


@pytest.mark.parametrize(
    ("interval", "closing", "opening"),
    [
        ("5m", "2024-01-02 09:35", "2024-01-02T09:30:00"),
        ("1h", "2024-01-02 10:30", "2024-01-02T09:30:00"),
        ("1h", "2024-01-02 10:29:59", "2024-01-02T09:30:00"),
        ("4h", "2024-01-02 12:00", "2024-01-02T08:00:00"),
        ("1d", "2024-01-03 00:00", "2024-01-02"),
        ("1d", "2024-01-02 16:00", "2024-01-02"),
        ("1wk", "2024-01-08 00:00", "2024-01-01"),
        ("1wk", "2024-01-05 16:00", "2024-01-01"),
        ("1mo", "2024-02-01 00:00", "2024-01-01"),
        ("1mo", "2024-01-31 16:00", "2024-01-01"),
    ],
)
def test_closing_stamps_become_opening_instants(tmp_path: Path, interval: str, closing: str, opening: str) -> None:
    assert times(tmp_path, closing, interval, stamp="close") == [opening]


@pytest.mark.parametrize(
    ("interval", "text", "options", "opening"),
    [
        ("1d", "2024-01-02", {"timezone": "America/New_York"}, "2024-01-02"),
        ("1d", "2024-01-02 00:00", {"timezone": "Asia/Tokyo"}, "2024-01-02"),
        ("1d", "2024-01-02T05:00:00Z", {"timezone": "America/New_York"}, "2024-01-02"),
        ("1d", "1704171600", {"timezone": "America/New_York", "time_format": "s"}, "2024-01-02"),
        ("1d", "1704121200", {"timezone": "Asia/Tokyo", "time_format": "s"}, "2024-01-02"),
        ("1d", "1969-12-31", {}, "1969-12-31"),
        ("1wk", "2024-01-05", {}, "2024-01-01"),
        ("1wk", "2024-01-07", {}, "2024-01-01"),
        ("1wk", "1950-01-03", {}, "1950-01-02"),
        ("1mo", "2024-02-29", {}, "2024-02-01"),
    ],
)
def test_days_weeks_and_months_keep_their_date(
    tmp_path: Path, interval: str, text: str, options: dict[str, object], opening: str
) -> None:
    assert times(tmp_path, text, interval, **options) == [opening]


def test_the_hour_that_comes_twice_is_told_apart_by_its_order(tmp_path: Path) -> None:
    clock = ["00:30", "01:00", "01:30", "01:00", "01:30", "02:00"]
    text = [f"2024-11-03 {at}" for at in clock]
    expected = [f"2024-11-03T{at}:00" for at in ("04:30", "05:00", "05:30", "06:00", "06:30", "07:00")]
    assert times(tmp_path, "\n".join(text), "30m", timezone="America/New_York") == expected
    assert times(tmp_path, "\n".join(reversed(text)), "30m", timezone="America/New_York") == expected


def test_a_time_that_never_was_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(Malformed, match=r"X.csv line 3: time 2024-03-10 02:30:00 never was in America/New_York"):
        times(tmp_path, "2024-03-10 01:30\n2024-03-10 02:30\n2024-03-10 03:30", "30m", timezone="America/New_York")


def test_offsets_may_change_inside_a_file(tmp_path: Path) -> None:
    text = "2024-11-01 16:00:00-04:00\n2024-11-04 16:00:00-05:00"
    assert times(tmp_path, text, "1h") == ["2024-11-01T20:00:00", "2024-11-04T21:00:00"]


def test_times_of_day_take_the_date_of_the_files_name(tmp_path: Path) -> None:
    (tmp_path / "X_2024-07-01.csv").write_text(HEADER + "09:30,1,1,1,1,1\n")
    (tmp_path / "X_2024-12-02.csv").write_text(HEADER + "09:30,2,2,2,2,2\n")
    found = ask(
        tmp_path, interval="1m", path="{symbol}_{date:%Y-%m-%d}.csv", time_format="%H:%M", timezone="America/New_York"
    )
    assert [row[0] for row in found] == ["2024-07-01T13:30:00", "2024-12-02T14:30:00"]


def test_seconds_and_milliseconds_of_the_day_are_on_the_clock_of_the_files(tmp_path: Path) -> None:
    for form, unit in (("s_of_day", 1), ("ms_of_day", 1000)):
        (tmp_path / "20240701.csv").write_text(HEADER + f"{34200 * unit},1,1,1,1,1\n")
        found = ask(
            tmp_path,
            interval="1m",
            path="{date}.csv",
            symbols={"X": "X"},
            time_format=form,
            timezone="America/New_York",
        )
        assert [row[0] for row in found] == ["2024-07-01T13:30:00"]


# Files


def dated(folder: Path, *days: str) -> None:
    for day in days:
        (folder / f"X_{day}.csv").write_text(HEADER + f"{day[:4]}-{day[4:6]}-{day[6:]} 10:00,1,1,1,1,1\n")


def test_files_of_many_days_are_stitched_in_order(tmp_path: Path) -> None:
    dated(tmp_path, "20240103", "20231231", "20240102")
    found = ask(tmp_path, interval="1m", path="{symbol}_{date}.csv")
    assert [row[0][:10] for row in found] == ["2023-12-31", "2024-01-02", "2024-01-03"]
    assert ask(tmp_path, interval="1m", path="{symbol}_{date}.csv", span=(us(2024, 1, 4), us(2024, 1, 9))) == []


def test_a_range_is_half_open(tmp_path: Path) -> None:
    (tmp_path / "X.csv").write_text(DAYS)
    assert ask(tmp_path, span=(us(2024, 1, 2), us(2024, 1, 3))) == TWO_DAYS[:1]
    assert ask(tmp_path, span=(us(2024, 1, 2) + 1, us(2024, 1, 3) + 1)) == TWO_DAYS[1:]


def test_files_outside_the_range_are_not_opened(tmp_path: Path) -> None:
    dated(tmp_path, "20240102")
    (tmp_path / "X_20230102.csv").write_text("garbage")
    assert len(ask(tmp_path, interval="1m", path="{symbol}_{date}.csv", span=(us(2024, 1, 1), us(2024, 2, 1)))) == 1
    with pytest.raises(Malformed, match="X_20230102"):
        ask(tmp_path, interval="1m", path="{symbol}_{date}.csv")


def test_years_and_months_in_names_and_folders(tmp_path: Path) -> None:
    for year, month in ((2023, 12), (2024, 1)):
        (tmp_path / f"{year}/deep").mkdir(parents=True)
        (tmp_path / f"{year}/deep/x-{month:02}.csv").write_text(HEADER + f"{year}-{month:02}-15,1,1,1,1,1\n")
    path = "{date:%Y}/**/{symbol:lower}-*.csv"
    assert [row[0] for row in ask(tmp_path, path=path)] == ["2023-12-15", "2024-01-15"]
    assert [row[0] for row in ask(tmp_path, path=path, span=(us(2024, 1, 20), us(2025, 1, 1)))] == []


def test_many_small_files_come_in_large_pages_while_they_are_read(tmp_path: Path) -> None:
    body = "".join(f"{minute * 60},1,1,1,1,1\n" for minute in range(1440))
    for day in range(1, 29):
        for month in (1, 2, 3, 4):
            (tmp_path / f"X_2024{month:02}{day:02}.csv").write_text(HEADER + body)
    provider = files(tmp_path, path="{symbol}_{date}.csv", intervals={"1m": ""}, time_format="s_of_day")
    pages = provider.history(HistoryRequest("X", AssetClass.STOCK, Interval.M1, *EVER))
    first = next(pages)
    (tmp_path / "X_20240428.csv").write_text("garbage")  # not read yet
    assert len(first) == 46 * 1440
    with pytest.raises(Malformed):
        list(pages)


def test_a_file_that_begins_before_its_forerunner_ended_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "X_20240102.csv").write_text(HEADER + "2024-01-02 10:00,1,1,1,1,1\n2024-01-03 10:00,1,1,1,1,1\n")
    dated(tmp_path, "20240103")
    assert len(ask(tmp_path, interval="1m", path="{symbol}_{date}.csv")) == 3  # a duplicate is the validator's
    (tmp_path / "X_20240103.csv").write_text(HEADER + "2024-01-03 09:00,1,1,1,1,1\n")
    with pytest.raises(Malformed, match=r"X_20240103.csv: it begins before"):
        ask(tmp_path, interval="1m", path="{symbol}_{date}.csv")


def test_duplicates_and_disorder_within_a_file_come_sorted_and_complete(tmp_path: Path) -> None:
    (tmp_path / "X.csv").write_text(HEADER + "2024-01-03,3,3,3,3,3\n2024-01-02,1,1,1,1,1\n2024-01-03,4,4,4,4,4\n")
    assert [row[:2] for row in ask(tmp_path)] == [("2024-01-02", 1), ("2024-01-03", 3), ("2024-01-03", 4)]


def test_intervals_have_the_names_that_the_files_use(tmp_path: Path) -> None:
    for name in ("daily", "1h"):
        (tmp_path / name).mkdir()
    (tmp_path / "daily/X.csv").write_text(DAYS)
    (tmp_path / "1h/X.csv").write_text(HEADER + "2024-01-02 10:00,1,1,1,1,1\n")
    path = "{interval}/{symbol}.csv"
    assert ask(tmp_path, path=path, intervals={"1d": "daily"}) == TWO_DAYS
    assert len(ask(tmp_path, interval="1h", path=path, intervals={})) == 1
    with pytest.raises(Unsupported, match="there are: 1h, daily"):
        ask(tmp_path, path=path, intervals={})
    with pytest.raises(Unsupported, match="hold 1d bars"):
        ask(tmp_path, interval="1h", path=path, intervals={"1d": "daily"})


def test_symbols_are_written_as_the_files_write_them(tmp_path: Path) -> None:
    for name in ("btcusdt", "brk.b", "EURUSD"):
        (tmp_path / f"{name}.csv").write_text(DAYS)
    assert ask(tmp_path, "BTC-USDT", path="{symbol:joined,lower}.csv") == TWO_DAYS
    assert ask(tmp_path, "EUR-USD", path="{symbol:joined}.csv") == TWO_DAYS
    assert ask(tmp_path, "BRK-B", path="{symbol:lower}.csv", symbols={"BRK-B": "BRK.B"}) == TWO_DAYS


def test_symbols_are_listed_as_we_write_them(tmp_path: Path) -> None:
    for name in ("btcusdt", "eurusd", "brk.b", "aapl"):
        (tmp_path / f"{name}.csv").write_text(DAYS)
    provider = files(tmp_path, path="{symbol:joined,lower}.csv", intervals={"1d": ""}, symbols={"BRK-B": "BRK.B"})
    found = provider.symbols("", 10)
    assert [(each.symbol, each.asset_class.value, each.currency) for each in found] == [
        ("AAPL", "stock", ""), ("BRK-B", "stock", ""), ("BTC-USDT", "crypto", "USDT"), ("EUR-USD", "forex", "USD"),
    ]  # fmt: skip
    assert [each.symbol for each in provider.symbols("b", 2)] == ["BRK-B", "BTC-USDT"]
    assert [each.symbol for each in provider.symbols("usd", 9)] == ["BTC-USDT", "EUR-USD"]


def test_listing_symbols_does_not_look_through_all_dates(tmp_path: Path) -> None:
    for symbol in ("A", "B"):
        (tmp_path / "1m" / symbol).mkdir(parents=True)
        for day in range(10, 30):
            (tmp_path / "1m" / symbol / f"202401{day}.csv").write_text(DAYS)
    (tmp_path / "1m" / "EMPTY").mkdir()
    provider = files(tmp_path, path="{interval}/{symbol}/{date}.csv", intervals={})
    assert [each.symbol for each in provider.symbols("", 10)] == ["A", "B"]
    template = sys.modules["naming"].Template("{interval}/{symbol}/{date}.csv")
    assert len(list(template.survey(tmp_path))) == 2
    assert len(list(template.find(tmp_path, {}))) == 40


def test_folders_that_link_in_a_circle_are_walked_once(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/X.csv").write_text(DAYS)
    (tmp_path / "a/again").symlink_to(tmp_path, target_is_directory=True)
    assert ask(tmp_path, path="**/{symbol}.csv") == TWO_DAYS


def test_a_column_can_say_the_symbol(tmp_path: Path) -> None:
    lines = ["2024-01-02,A,1,1,1,1,1", "2024-01-02,B.X,2,2,2,2,2", "2024-01-03, A ,3,3,3,3,3", "2024-01-03,C,x,x,x,x,x"]
    (tmp_path / "all.csv").write_text("time,name,open,high,low,close,volume\n" + "\n".join(lines))
    options = {"path": "all.csv", "columns": {"symbol": "Name"}, "symbols": {"B-X": "B.X"}}
    assert [row[1] for row in ask(tmp_path, "A", **options)] == [1, 3]
    assert [row[1] for row in ask(tmp_path, "B-X", **options)] == [2]
    assert ask(tmp_path, "A", span=(0, 1), **options) == []
    with pytest.raises(SymbolNotFound):
        ask(tmp_path, "D", **options)
    with pytest.raises(Malformed, match=r"all.csv line 5: open 'x' is not a number"):
        ask(tmp_path, "C", **options)
    listed = files(tmp_path, intervals={"1d": ""}, **options).symbols("", 10)
    assert [each.symbol for each in listed] == ["A", "B-X", "C"]


def test_some_members_of_an_archive_can_be_chosen(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "20240102.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
        archive.writestr("20240102_x.csv", HEADER + "2024-01-02,1,1,1,1,1\n")
        archive.writestr("20240103_x.csv", HEADER + "2024-01-03,1,1,1,1,1\n")
    options = {"path": "{date}.zip", "columns": {}, "symbols": {"X": "x"}}
    assert [row[0] for row in ask(tmp_path, member="{date}_{symbol}.csv", **options)] == ["2024-01-02"]
    assert [row[0] for row in ask(tmp_path, member="*.csv", **options)] == ["2024-01-02", "2024-01-03"]
    with pytest.raises(Malformed, match=r"no member is \*.parquet; there are: readme.txt"):
        ask(tmp_path, member="*.parquet", **options)


# Faults


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (HEADER + "2024-01-02,1,2,oops,1,1\n", "X.csv line 2: low 'oops' is not a number"),
        (HEADER + "2024-01-02,1,2,1,1,1\n\n2024-01-03,1,2,1,1,1_0\n", "X.csv line 4: volume '1_0' is not a number"),
        (HEADER + "2024-01-02,1,2,1,1,1\n3.1.2024,1,2,1,1,1\n", "X.csv line 3: time '3.1.2024' is not ISO 8601"),
        (HEADER + "yesterday,1,2,1,1,1\n", "X.csv line 2: time 'yesterday' is not ISO 8601"),
        (HEADER + "2024-01-02,1,2,1,1,1\n,1,2,1,1,1\n", "X.csv line 3: it has no time"),
        (
            HEADER + "2024-01-02,1,2,1,1,1\n2024-01-03,1,2,1,1,1,9\n",
            "X.csv line 3: 7 cells, where the first",
        ),
        (HEADER + '2024-01-02,1,2,1,1,"1\n"\n2024-01-03,1,2,1,1,x\n', "X.csv line 4: volume 'x' is not a number"),
        ("a,b\n1,2\n", "X.csv: no column looks like open; name it in option `columns`; the file has 2: a, b"),
        ("<html><body>not found</body></html>\n", "X.csv: no column looks like open"),
    ],
)
def test_a_file_that_cannot_be_understood_is_named_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "X.csv").write_text(text)
    with pytest.raises(Malformed) as caught:
        ask(tmp_path)
    assert str(caught.value).startswith(told)


def test_lines_are_counted_with_those_that_are_skipped_and_those_without_a_header(tmp_path: Path) -> None:
    (tmp_path / "X.csv").write_text("#\n#\n2024-01-02,1,2,1,1,1\n2024-01-02,1,2,1,?,1\n")
    with pytest.raises(Malformed, match=r"X.csv line 4: close '\?' is not a number"):
        ask(tmp_path, header=False, skip_rows=2)


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(os.urandom(1000))[:-200],
        b"\x1f\x8b" + os.urandom(100),
        b"PK\x03\x04" + os.urandom(100),
        b"PAR1" + os.urandom(100),
        b"\xff\xfe" + os.urandom(300),
        b"time,open,high,low,close,volume\n2024-01-02,1,1,1,1,\xff\xff\n",
        os.urandom(1000).replace(b"PK", b"__"),
    ],
    ids=["cut gzip", "gzip", "zip", "parquet", "utf-16", "not utf-8", "noise"],
)
def test_garbage_is_malformed_and_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "X.csv").write_bytes(content)
    with pytest.raises(Malformed, match=r"^X.csv"):
        ask(tmp_path)


@pytest.mark.parametrize("text", ["", "\n", HEADER, HEADER + "\n\n", HEADER.strip()])
def test_an_empty_file_holds_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "X.csv").write_text(text)
    assert ask(tmp_path) == []


@pytest.mark.parametrize(
    "symbol", ["../secret", "..", ".", "", "/etc/passwd", "a/b", "a\\b", "X\0", ".hidden", "*", "?", "[X]", "{symbol}"]
)
@pytest.mark.parametrize("path", ["{symbol}.csv", "{symbol}/x.csv", "{symbol}*", "**/{symbol}.csv"])
def test_no_symbol_leads_out_of_the_folder(tmp_path: Path, symbol: str, path: str) -> None:
    (tmp_path / "secret.csv").write_text(DAYS)
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "X.csv").write_text(DAYS)
    (inside / ".hidden.csv").write_text(DAYS)
    with pytest.raises(SymbolNotFound):
        ask(inside, symbol, path=path)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"folder": None}, "`folder` is not set"),
        ({"path": "../{symbol}.csv"}, "`path`"),
        ({"path": "/{symbol}.csv"}, "`path`"),
        ({"path": "{ticker}.csv"}, "{ticker} means nothing; there are {symbol}, {interval} and {date}"),
        ({"path": "{symbol:snake}.csv"}, "no form snake; there are: upper, lower, joined"),
        ({"path": "{symbol}_{date:%H}.csv"}, "%H is not understood"),
        ({"path": "{symbol}_{date:%m}.csv"}, "names no year"),
        ({"path": "x**/{symbol}.csv"}, "** stands alone"),
        ({"path": "{symbol}.csv", "intervals": {}}, "`intervals: {1d: daily}`"),
        ({"path": "x.csv"}, "`columns: {symbol: Ticker}`"),
        ({"intervals": {"2d": "x"}}, "'2d' is no interval; there are: 1m, 5m"),
        ({"columns": {"price": 1}}, "'price' is none of ours"),
        ({"columns": {"open": -1}}, "open: write a column's name, or its position from 0, not -1"),
        ({"columns": {"open": None}}, "open: name a column"),
        ({"columns": {"open": "o"}, "header": False}, "without a header there are only positions"),
        ({"delimiter": "::"}, "one character"),
        ({"timezone": "Mars/Olympus"}, "America/New_York"),
        ({"stamp": "middle"}, "open or close"),
        ({"price_scale": 0}, "above 0"),
        ({"price_scale": "much"}, "`price_scale` is 'much'"),
        ({"time_format": "ms_of_day"}, "`path` must say {date}"),
        ({"asset_class": "shares"}, "`asset_class`"),
    ],
)
def test_wrong_options_are_told_at_once(tmp_path: Path, options: Mapping[str, object], told: str) -> None:
    good = {"folder": str(tmp_path), "path": "{symbol}.csv", "intervals": {"1d": ""}}
    with pytest.raises(Unsupported) as caught:
        Files(options={**good, **options}).setup()
    assert told in str(caught.value)


def test_all_wrong_options_are_told_together(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match=r"`path`.*`stamp`"):
        Files(options={"folder": str(tmp_path), "path": "{x}", "stamp": "x", "intervals": {"1d": ""}}).setup()


def test_a_folder_that_is_not_there_may_come_later(tmp_path: Path) -> None:
    with pytest.raises(Upstream, match="there is no folder"):
        files(tmp_path / "later")


# As a provider


@pytest.mark.parametrize("name", ["X.csv", "X.csv.gz"])
def test_it_keeps_what_every_provider_must_keep(tmp_path: Path, name: str) -> None:
    text = HEADER + "".join(f"2024-01-{day:02},1,2,0.5,1.5,10\n" for day in range(1, 32))
    (tmp_path / name).write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    provider = Files(options={"folder": str(tmp_path), "path": "{symbol}.*", "intervals": {"1d": ""}})
    request = HistoryRequest("X", AssetClass.STOCK, Interval.D1, us(2024, 1, 5), us(2024, 1, 25))
    assert check(provider, request) == []


def test_several_questions_at_once(tmp_path: Path) -> None:
    for name in "ABCDEFGH":
        (tmp_path / f"{name}.csv.gz").write_bytes(gzip.compress(DAYS.encode()))
    provider = files(tmp_path, path="{symbol}.csv.gz", intervals={"1d": ""})

    def answer(symbol: str) -> int:
        request = HistoryRequest(symbol, AssetClass.STOCK, Interval.D1, *EVER)
        return sum(len(page) for page in provider.history(request))

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(answer, list("ABCDEFGH") * 5)) == {2}


def test_the_bundled_manifest_waits_for_its_folder(tmp_path: Path) -> None:
    manifest = load_manifest(MANIFESTS / "files")
    with pytest.raises(ConfigError, match="`folder` is not set"):
        resolve_options(manifest, {})
    options = resolve_options(manifest, {"folder": str(tmp_path)})
    (tmp_path / "1d").mkdir()
    (tmp_path / "1d/X.csv").write_text(DAYS)
    provider = Files(options=options)
    provider.setup()
    pages = provider.history(HistoryRequest("X", AssetClass.STOCK, Interval.D1, *EVER))
    assert [row for page in pages for row in rows(page)] == TWO_DAYS


def test_what_is_not_set_is_as_the_bundled_manifest_says(tmp_path: Path) -> None:
    layout = sys.modules["layout"]
    said = resolve_options(load_manifest(MANIFESTS / "files"), {"folder": str(tmp_path)})
    spoken, silent = (layout.parse_layout(options) for options in (said, {"folder": str(tmp_path)}))
    for name in ("intervals", "symbols", "asset_class", "columns", "header", "skip_rows", "delimiter", "time_format",
                 "zone", "stamps_closing", "price_scale"):  # fmt: skip
        assert getattr(spoken, name) == getattr(silent, name)
    assert (spoken.path.text, spoken.member.text) == (silent.path.text, silent.member.text)


def test_it_is_small_while_nobody_asks(tmp_path: Path) -> None:
    code = (
        "import psutil, sys\n"
        "from timebase.sdk.run import load_provider\n"
        f"provider = load_provider({ENTRYPOINT!r})(options={{'folder': {str(tmp_path)!r}}})\n"
        "provider.setup(); provider.symbols('', 10)\n"
        "assert 'polars' not in sys.modules and 'numpy' not in sys.modules\n"
        "print(psutil.Process().memory_info().rss / 2**20)\n"
    )
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=PLUGINS.parent)
    assert float(told.stdout) < 60
