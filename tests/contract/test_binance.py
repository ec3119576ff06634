"""The binance provider: python-binance, really called, against recorded answers and faults on the loopback."""

import asyncio
import warnings
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
import trio
from recorded.binance import (
    INVALID_KEY,
    INVALID_SYMBOL,
    KLINES,
    NOT_HERE,
    TOO_MUCH_WEIGHT,
    Exchange,
    Kline,
    minutes,
)
from recorded.plugin import open_plugin
from recorded.vendor import Answer, Vendor, nobody_listens, open_vendor

from timebase.house import MANIFESTS, PLUGINS
from timebase.manifest.load import load_manifest
from timebase.model.timerange import DAY_US, MINUTE_US, to_us
from timebase.sdk import (
    AssetClass,
    AuthFailed,
    Bars,
    HistoryRequest,
    Instrument,
    Interval,
    Malformed,
    ProviderError,
    RateLimited,
    SymbolNotFound,
    Unsupported,
    Upstream,
    UpstreamTimeout,
)
from timebase.sdk.contract import check
from timebase.sdk.entrypoint import load_provider

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # python-binance names what websockets has deprecated
    import binance  # noqa: F401

ENTRYPOINT = f"{PLUGINS}/binance/provider.py:Binance"
Binance = load_provider(ENTRYPOINT)

RECORDING = Path(__file__).parents[3] / "shared/data/gocryptotrader/exchanges/binance/testdata/http.json"
recorded = [pytest.mark.shared, pytest.mark.skipif(not RECORDING.exists(), reason="the recorded answers are not here")]

START_US = to_us(datetime(2024, 5, 1, tzinfo=UTC))
START_MS = START_US // 1_000


@pytest.fixture
def vendor() -> Iterator[Vendor]:
    with open_vendor() as vendor:
        yield vendor


@pytest.fixture
def exchange(vendor: Vendor) -> Exchange:
    exchange = Exchange(vendor)
    exchange.list("BTCUSDT", "1m", minutes(START_MS, 2_500))
    return exchange


class Account:
    """A budget that counts, and perhaps is used up after some requests."""

    def __init__(self, allowed: int = 1_000_000) -> None:
        self.spent = 0
        self.allowed = allowed

    async def spend(self, n: int) -> None:
        if self.spent + n > self.allowed:
            raise RateLimited("the budget is used up", retry_after_s=30.0)
        self.spent += n


def ask(
    url: str,
    symbol: str = "BTC-USDT",
    interval: Interval = Interval.M1,
    start_us: int = START_US,
    end_us: int = START_US + DAY_US,
    *,
    account: Account | None = None,
    timeout: float = 10,
) -> list[Bars]:
    """The pages of one answer."""

    async def answer() -> list[Bars]:
        options = {"base_url": url, "timeout": timeout}
        provider = Binance(options=options, ask_to_spend=(account or Account()).spend)
        await provider.setup()
        try:
            request = HistoryRequest(symbol, AssetClass.CRYPTO, interval, start_us, end_us)
            return [page async for page in provider.history(request)]
        finally:
            await provider.close()

    return asyncio.run(answer())


def find(url: str, query: str, limit: int = 10) -> list[Instrument]:
    async def answer() -> list[Instrument]:
        provider = Binance(options={"base_url": url})
        await provider.setup()
        try:
            await provider.symbols(query, limit)
            return await provider.symbols(query, limit)
        finally:
            await provider.close()

    return asyncio.run(answer())


def rows(pages: Sequence[Bars]) -> list[tuple[float, ...]]:
    return [row for page in pages for row in zip(*(getattr(page, name) for name in Bars.__slots__), strict=True)]


def as_rows(klines: Sequence[Kline]) -> list[tuple[float, ...]]:
    return [(int(kline[0]) * 1_000, *map(float, kline[1:6])) for kline in klines]


def test_the_manifest_loads_and_names_every_interval() -> None:
    manifest = load_manifest(MANIFESTS / "binance")
    assert manifest.intervals == frozenset(Interval)
    assert manifest.asset_classes == {AssetClass.CRYPTO}
    assert not manifest.secrets


def test_klines_become_bars_at_their_opening_instant(exchange: Exchange) -> None:
    pages = ask(exchange.vendor.url, end_us=START_US + 3 * MINUTE_US)
    assert rows(pages) == [
        (START_US, 1.5, 1.9, 1.1, 1.75, 1.125),
        (START_US + MINUTE_US, 2.5, 2.9, 2.1, 2.75, 2.125),
        (START_US + 2 * MINUTE_US, 3.5, 3.9, 3.1, 3.75, 3.125),
    ]


def test_a_range_is_half_open_and_its_end_is_not_asked_for(exchange: Exchange) -> None:
    ask(exchange.vendor.url, end_us=START_US + 3 * MINUTE_US)
    [page] = exchange.pages
    assert page.query == {
        "symbol": "BTCUSDT", "interval": "1m", "limit": "1000",
        "startTime": str(START_MS), "endTime": str(START_MS + 3 * 60_000 - 1),
    }  # fmt: skip


def test_pages_of_a_thousand_follow_each_other_and_all_but_the_first_are_paid_for(exchange: Exchange) -> None:
    account = Account()
    pages = ask(exchange.vendor.url, end_us=START_US + 2_500 * MINUTE_US, account=account)
    assert [len(page) for page in pages] == [1_000, 1_000, 500]
    assert rows(pages) == as_rows(exchange.of("BTCUSDT", "1m"))
    assert (len(exchange.pages), account.spent) == (3, 2)


def test_a_range_that_ends_with_a_full_page_costs_no_empty_one(exchange: Exchange) -> None:
    pages = ask(exchange.vendor.url, end_us=START_US + 2_000 * MINUTE_US)
    assert [len(page) for page in pages] == [1_000, 1_000]
    assert len(exchange.pages) == 2


def test_years_before_the_first_trade_cost_one_request(exchange: Exchange) -> None:
    pages = ask(exchange.vendor.url, start_us=0, end_us=START_US + 10 * MINUTE_US)
    assert (len(rows(pages)), len(exchange.pages)) == (10, 1)


def test_pages_stop_where_the_budget_does(exchange: Exchange) -> None:
    with pytest.raises(RateLimited, match="used up"):
        ask(exchange.vendor.url, end_us=START_US + 2_500 * MINUTE_US, account=Account(allowed=1))
    assert len(exchange.pages) == 2


def test_a_range_without_trades_gives_nothing(exchange: Exchange) -> None:
    assert ask(exchange.vendor.url, start_us=START_US - DAY_US, end_us=START_US) == []


def test_a_vendor_that_gives_the_same_page_for_ever_is_malformed(vendor: Vendor) -> None:
    vendor.always(KLINES, Answer(minutes(START_MS, 1_000)))
    with pytest.raises(Malformed, match="same page"):
        ask(vendor.url, start_us=START_US, end_us=START_US + 10 * DAY_US)


@pytest.mark.parametrize("symbol", ["AAPL", "BTCUSDT", "BTC-", "-USDT", "BTC/USDT", "BTC-US?DT", "BTC-USDT-X"])
def test_what_is_no_pair_is_unknown_without_asking(exchange: Exchange, symbol: str) -> None:
    with pytest.raises(SymbolNotFound):
        ask(exchange.vendor.url, symbol)
    assert not exchange.vendor.seen


def test_an_unknown_pair_is_unknown(exchange: Exchange) -> None:
    with pytest.raises(SymbolNotFound, match="Invalid symbol"):
        ask(exchange.vendor.url, "NOPE-USDT")


@pytest.mark.parametrize(
    ("answer", "expected", "retry_after_s"),
    [
        (Answer(TOO_MUCH_WEIGHT, 429, {"Retry-After": "17"}), RateLimited, 17.0),
        (Answer(TOO_MUCH_WEIGHT, 418, {"Retry-After": "120"}), RateLimited, 120.0),
        (Answer(TOO_MUCH_WEIGHT, 429), RateLimited, None),
        (Answer(b"<html>too many", 429, {"Retry-After": "5"}), RateLimited, 5.0),
        (Answer(b"<html>forbidden", 403), RateLimited, 300.0),
        (Answer({"code": -1003, "msg": "IP banned until 1000000000000."}, 418), RateLimited, 0.0),
        (Answer(TOO_MUCH_WEIGHT), RateLimited, None),  # a limit inside a 200
        (Answer(INVALID_SYMBOL, 400), SymbolNotFound, None),
        (Answer(INVALID_SYMBOL), SymbolNotFound, None),
        (Answer(INVALID_KEY, 401), AuthFailed, None),
        (Answer({"code": -1120, "msg": "Invalid interval."}, 400), Unsupported, None),
        (Answer(NOT_HERE, 451), Unsupported, None),
        (Answer({"code": -1007, "msg": "Timeout waiting for response."}, 408), UpstreamTimeout, None),
        (Answer({"code": -1000, "msg": "An unknown error occurred."}, 500), Upstream, None),
        (Answer(b"<html>bad gateway", 502), Upstream, None),
        (Answer([], 503), Upstream, None),
        (Answer(b"", 302, {"Location": "http://192.0.2.1/"}), Upstream, None),
        (Answer(b"<html>all is well"), Malformed, None),
        (Answer(b"[[1,", headers={"Content-Type": "application/json"}), Malformed, None),
        (Answer(b""), Malformed, None),
        (Answer({"bars": []}), Malformed, None),
        (Answer([[START_MS, "1", "2"]]), Malformed, None),
        (Answer([[START_MS, "1", "2", "1", "dear", "0", 0]]), Malformed, None),
        (Answer([None]), Malformed, None),
        (Answer([["soon", "1", "2", "1", "1", "0"]]), Malformed, None),
        (Answer([[10**17, "1", "2", "1", "1", "0"]]), Malformed, None),
        (Answer("nothing to see"), Malformed, None),
    ],
)
def test_faults_are_typed(
    vendor: Vendor, answer: Answer, expected: type[ProviderError], retry_after_s: float | None
) -> None:
    vendor.always(KLINES, answer)
    with pytest.raises(ProviderError) as caught:
        ask(vendor.url)
    assert type(caught.value) is expected, caught.value
    assert getattr(caught.value, "retry_after_s", None) == retry_after_s
    assert len(vendor.seen) == 1, "the plugin does not retry: the router does, within the budget"


def test_a_connection_that_is_cut_is_upstream(vendor: Vendor) -> None:
    vendor.always(KLINES, Answer(is_cut=True))
    with pytest.raises(Upstream, match="cannot be reached"):
        ask(vendor.url)
    assert len(vendor.seen) <= 2, "aiohttp takes it for a connection that was idle too long, once"


def test_a_slow_vendor_is_a_timeout(vendor: Vendor) -> None:
    vendor.always(KLINES, Answer(is_slow=True))
    with pytest.raises(UpstreamTimeout):
        ask(vendor.url, timeout=0.1)


def test_a_refused_connection_is_upstream() -> None:
    with pytest.raises(Upstream, match="cannot be reached"):
        ask(nobody_listens())


def test_a_fault_between_pages_comes_after_the_bars_before_it(exchange: Exchange) -> None:
    exchange.vendor.play(KLINES, Answer(minutes(START_MS, 1_000)), Answer(b"", 500))
    pages: list[Bars] = []

    async def answer() -> None:
        provider = Binance(options={"base_url": exchange.vendor.url})
        await provider.setup()
        try:
            request = HistoryRequest("BTC-USDT", AssetClass.CRYPTO, Interval.M1, START_US, START_US + 3 * DAY_US)
            async for page in provider.history(request):
                pages.append(page)
        finally:
            await provider.close()

    with pytest.raises(Upstream):
        asyncio.run(answer())
    assert [len(page) for page in pages] == [1_000]


def test_setup_asks_nothing(vendor: Vendor) -> None:
    async def only_set_up() -> None:
        provider = Binance(options={"base_url": vendor.url})
        await provider.setup()
        await provider.close()

    asyncio.run(only_set_up())
    assert not vendor.seen


def test_symbols_are_found_canonical_the_likeliest_first_and_the_list_is_kept(exchange: Exchange) -> None:
    for symbol in ("WBTCBTC", "BTCTUSD", "ETHBTC", "BTCEUR", "USDTTRY"):
        exchange.list(symbol, "1m", [])
    assert [found.symbol for found in find(exchange.vendor.url, "btc")] == [
        "BTC-EUR", "BTC-TUSD", "BTC-USDT", "ETH-BTC", "WBTC-BTC",
    ]  # fmt: skip
    assert [found.symbol for found in find(exchange.vendor.url, "BTC/USDT")] == ["BTC-USDT"]
    assert len(find(exchange.vendor.url, "", limit=2)) == 2
    assert len(exchange.vendor.seen) == 3, "each provider asked once, though it was questioned twice"
    [found] = find(exchange.vendor.url, "USDTTRY")
    assert (found.asset_class, found.currency, found.timezone) == (AssetClass.CRYPTO, "TRY", "UTC")


@pytest.mark.parametrize("answer", [Answer({"symbol": "BTCUSDT"}), Answer([{"pair": "BTCUSDT"}]), Answer([1])])
def test_a_garbled_list_of_symbols_is_malformed(vendor: Vendor, answer: Answer) -> None:
    vendor.always("/api/v3/ticker/price", answer)
    with pytest.raises(Malformed):
        find(vendor.url, "BTC")


class TestRecorded:
    """Answers that Binance gave, as an exchange that is asked anew."""

    pytestmark = recorded

    @pytest.fixture
    def exchange(self, vendor: Vendor) -> Exchange:
        exchange = Exchange(vendor)
        exchange.replay(RECORDING)
        return exchange

    def test_a_year_of_days_is_what_binance_said(self, exchange: Exchange) -> None:
        start_us, end_us = (to_us(datetime(year, 1, 1, tzinfo=UTC)) for year in (2019, 2020))
        given = rows(ask(exchange.vendor.url, interval=Interval.D1, start_us=start_us, end_us=end_us))
        assert len(given) == 365
        assert given[0] == (start_us, 3701.23, 3810.16, 3642.0, 3797.14, 23741.687033)
        assert {b[0] - a[0] for a, b in pairwise(given)} == {DAY_US}

    def test_1468_hours_come_in_two_pages_without_a_seam(self, exchange: Exchange) -> None:
        start_us, end_us = to_us(datetime(2020, 4, 30, 21, tzinfo=UTC)), to_us(datetime(2020, 7, 1, 4, tzinfo=UTC))
        pages = ask(exchange.vendor.url, interval=Interval.H1, start_us=start_us, end_us=end_us)
        assert rows(pages) == as_rows([
            kline for kline in exchange.of("BTCUSDT", "1h") if start_us <= int(kline[0]) * 1_000 < end_us
        ])  # fmt: skip
        assert [len(page) for page in pages] == [1_000, 468]

    def test_ether_in_bitcoin_is_another_pair(self, exchange: Exchange) -> None:
        start_us = to_us(datetime(2023, 1, 1, tzinfo=UTC))
        pages = ask(
            exchange.vendor.url, "ETH-BTC", interval=Interval.D1, start_us=start_us, end_us=start_us + 6 * DAY_US
        )
        assert next(row[4] for row in rows(pages)) == 0.072238


@pytest.mark.parametrize("interval", list(Interval))
def test_it_keeps_the_contract(vendor: Vendor, interval: Interval) -> None:
    exchange = Exchange(vendor)
    opened_us = interval.floor_us(START_US)
    opens = []
    for _ in range(40):
        opens.append(opened_us)
        opened_us = interval.end_us(opened_us)
    native = {Interval.W1: "1w", Interval.MO1: "1M"}.get(interval, str(interval))
    exchange.list("BTCUSDT", native, [[at // 1_000, "9.1", "9.3", "8.7", "9.2", "1.5"] for at in opens])
    provider = Binance(options={"base_url": vendor.url})
    asked = HistoryRequest("BTC-USDT", AssetClass.CRYPTO, interval, opens[3], opens[30])
    assert check(provider, asked, unknown_symbol="NOPE-USDT") == []


async def test_a_real_process_answers_small_and_typed(exchange: Exchange, tmp_path: Path) -> None:
    with trio.fail_after(30):
        async with open_plugin(ENTRYPOINT, {"base_url": exchange.vendor.url}, tmp_path) as plugin:
            assert plugin.methods == ("history", "symbols", "stream")
            end_us = START_US + 2_500 * MINUTE_US
            bars, actions = await plugin.ask("BTC-USDT", AssetClass.CRYPTO, Interval.M1, START_US, end_us)
            assert (len(bars), len(actions), plugin.spent) == (2_500, 0, [1, 1])
            with pytest.raises(SymbolNotFound):
                await plugin.ask("NOPE-USDT", AssetClass.CRYPTO, Interval.M1, START_US, end_us)
            [found] = await plugin.link.symbols("btc", 5)
            assert found.symbol == "BTC-USDT"
            assert psutil.Process(plugin.pid).memory_info().rss < 110e6
