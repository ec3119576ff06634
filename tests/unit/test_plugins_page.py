"""The examples of docs/plugins.md do what the page says, as printed."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from timebase.manifest.load import load_manifest
from timebase.sdk import HistoryRequest, Interval, Provider, RateLimited
from timebase.sdk.contract import check

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
    names: dict[str, Any] = {"fetch": vendor.fetch}
    (code,) = blocks("python")
    exec(code, names)
    return names["MyVendor"]


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


def test_the_printed_manifests_can_be_loaded(tmp_path: Path) -> None:
    manifests = [text for text in blocks("yaml") if "entrypoint:" in text]
    assert len(manifests) == 2
    (tmp_path / "provider.py").touch()
    for text in manifests:
        (tmp_path / "config.yaml").write_text(text)
        assert f"slug: {load_manifest(tmp_path).slug}\n" in text
