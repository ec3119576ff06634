"""The examples of docs/plugins.md do what the page says, as printed."""

from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import anyio
import anyio.lowlevel
import pytest

from timebase.manifest.load import load_manifest
from timebase.sdk import HistoryRequest, Interval, Provider, RateLimited, SymbolNotFound
from timebase.sdk.contract import check
from timebase.sdk.rehearsal import open_rehearsal

PAGE = (Path(__file__).parents[2] / "docs/plugins.md").read_text()
WEEK = HistoryRequest.of("BTC-USD", "1d", "2024-01-01", "2024-01-08")
DAY = timedelta(days=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def blocks(language: str) -> Iterator[str]:
    return (block.split("```")[0] for block in PAGE.split(f"```{language}\n")[1:])


class Vendor:
    """Knows one ticker; three days a page."""

    def __init__(self) -> None:
        self.status = 200
        self.asked: list[datetime] = []

    async def fetch(self, ticker: str, interval: Interval, start: datetime, end: datetime) -> SimpleNamespace:
        assert interval is Interval.D1
        self.asked.append(start)
        first = start - (start - EPOCH) % -DAY  # the first midnight from `start`
        days = [day for day in (first + n * DAY for n in range(3)) if day < end]
        rows = [(day, 10.0, 11.0, 9.0, 10.5, 1_000.0) for day in days]
        following = first + 3 * DAY
        return SimpleNamespace(
            status=self.status if ticker == "BTCUSD" else 404,
            rows=rows,
            next_start=following if following < end else None,
        )


@pytest.fixture
def vendor() -> Vendor:
    return Vendor()


@pytest.fixture
def provider_class(vendor: Vendor) -> type[Provider]:
    return printed("MyVendor", fetch=vendor.fetch)


def printed(name: str, **around: object) -> type[Provider]:
    names: dict[str, Any] = dict(around)
    (code,) = (code for code in blocks("python") if f"class {name}(" in code)
    exec(code, names)
    return names[name]


def test_the_printed_provider_keeps_what_every_provider_must_keep(provider_class: type[Provider]) -> None:
    assert check(provider_class(), WEEK) == []


async def test_the_printed_provider_pays_for_each_further_request(
    provider_class: type[Provider], vendor: Vendor
) -> None:
    spent: list[int] = []

    async def spend(n: int) -> None:
        spent.append(n)

    pages = [page async for page in provider_class(ask_to_spend=spend).history(WEEK)]
    assert [len(page) for page in pages] == [3, 3, 1]
    assert len(vendor.asked) == 1 + sum(spent)


async def test_the_printed_provider_says_that_it_is_limited(provider_class: type[Provider], vendor: Vendor) -> None:
    vendor.status = 429
    with pytest.raises(RateLimited) as caught:
        await anext(provider_class().history(WEEK))
    assert caught.value.retry_after_s == 30


# Its stream


class Socket:
    """Tells a trade of each ticker it knows, over and over, and a heartbeat after them."""

    def __init__(self) -> None:
        self.tickers: list[str] = []
        self.told: set[str] = set()
        self.at_us = 0
        self.waiting: deque[SimpleNamespace] = deque()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await anyio.lowlevel.checkpoint()

    async def subscribe(self, tickers: list[str]) -> None:
        await anyio.lowlevel.checkpoint()
        self.tickers = tickers

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SimpleNamespace:
        if not self.waiting:
            await anyio.sleep(0.001)
            self.waiting.extend(self.round())
        return self.waiting.popleft()

    def round(self) -> Iterator[SimpleNamespace]:
        for ticker in self.tickers:
            self.at_us += 1_000
            if ticker == "BTCUSDT":
                yield SimpleNamespace(
                    kind="trade",
                    ticker=ticker,
                    time_us=self.at_us,
                    price=10.0,
                    size=2.0,
                    is_buy=True,
                    id=self.at_us,
                )
            elif ticker not in self.told:
                self.told.add(ticker)
                yield SimpleNamespace(kind="unknown", ticker=ticker)
        yield SimpleNamespace(kind="heartbeat", time_us=self.at_us, ticker="")


async def test_the_printed_stream_tells_trades_and_pulses() -> None:
    async with open_rehearsal(printed("MyVendorLive", connect=Socket)()) as core:
        feed = core.subscribe("BTC-USDT")
        with anyio.fail_after(10):
            heard = [await core.next()]
            while heard[-1].pulse_us is None:
                heard.append(await core.next())
    assert heard[0].is_up
    assert heard[1].rows[0] == (1_000, 10.0, 2.0, 1, 1_000, 0)
    assert {one.feed for one in heard} == {feed}


async def test_the_printed_stream_follows_what_is_wanted() -> None:
    async with open_rehearsal(printed("MyVendorLive", connect=Socket)()) as core:
        core.subscribe("BTC-USDT")
        other = core.subscribe("NOT-THERE")
        with anyio.fail_after(10):
            with pytest.raises(SymbolNotFound):
                await core.rows(other, 1)
            core.subscribe("ELSE-WHERE")
            while not isinstance((await core.next()).error, SymbolNotFound):
                pass


def test_the_printed_examples_are_short() -> None:
    stream = next(code for code in blocks("python") if "MyVendorLive" in code)
    assert len([line for line in stream.splitlines() if line.strip()]) <= 20


def test_the_printed_manifests_can_be_loaded(tmp_path: Path) -> None:
    manifests = [text for text in blocks("yaml") if "entrypoint:" in text]
    assert len(manifests) == 2
    (tmp_path / "provider.py").touch()
    for text in manifests:
        (tmp_path / "config.yaml").write_text(text)
        assert f"slug: {load_manifest(tmp_path).slug}\n" in text
