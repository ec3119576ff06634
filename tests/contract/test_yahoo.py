"""The yahoo-finance provider: yfinance, really called, against recorded answers and faults on the loopback."""

import importlib
import json
import logging
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psutil
import pytest
import trio
from recorded.plugin import open_plugin
from recorded.vendor import Answer, Seen, Vendor, nobody_listens, open_vendor
from recorded.yahoo import BAD_CRUMB, CHART, CRUMB, DOWN, NOT_FOUND, SEARCH, TOO_MANY, Yahoo, no_data_in

from timebase.house import MANIFESTS, PLUGINS
from timebase.manifest.load import load_manifest
from timebase.manifest.manifest import RateWindow
from timebase.model.timerange import DAY_US, HOUR_US, MINUTE_US, to_us
from timebase.sdk import (
    AssetClass,
    AuthFailed,
    Bars,
    CorporateAction,
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
    warnings.simplefilter("ignore")  # yfinance uses names that its own dependencies have deprecated
    import curl_cffi.requests
    import yfinance.data

ENTRYPOINT = f"{PLUGINS}/yahoo-finance/provider.py:YahooFinance"
YahooFinance = load_provider(ENTRYPOINT)
yahoo_ledgers = importlib.import_module("yahoo_ledgers")  # the provider's folder is on the module path now

SHARED = Path(__file__).parents[3] / "shared/data"
recorded = [pytest.mark.shared, pytest.mark.skipif(not SHARED.is_dir(), reason="the recorded answers are not here")]

NEW_YORK = ZoneInfo("America/New_York")
MAY = [datetime(2024, 5, day, 9, 30, tzinfo=NEW_YORK) for day in (1, 2, 3, 6, 7)]
Row = tuple[float, ...]


class Paying(YahooFinance):  # type: ignore[valid-type,misc]
    """The provider with an account of its own, for being called without the SDK's runner."""

    spent = 0
    allowed = 1_000_000

    def spend_sync(self, n: int = 1) -> None:
        if self.spent + n > self.allowed:
            raise RateLimited("the budget is used up", retry_after_s=30.0)
        self.spent += n


@pytest.fixture
def vendor() -> Iterator[Vendor]:
    with open_vendor() as vendor:
        yield vendor


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("yfinance")


@pytest.fixture
def yahoo(vendor: Vendor) -> Yahoo:
    """A vendor with one stock: five days in May 2024 that were split 2:1 three weeks later."""
    yahoo = Yahoo(vendor)
    days = [(at, (10.0 + i, 11.0 + i, 9.0 + i, 10.5 + i, 2_000.0 + i)) for i, at in enumerate(MAY)]
    acme = yahoo.list("ACME", rows={"1d": days})
    acme.split(datetime(2024, 5, 28, 9, 30, tzinfo=NEW_YORK), 2)
    acme.dividend(datetime(2024, 5, 3, 9, 30, tzinfo=NEW_YORK), 0.25)
    acme.dividend(datetime(2024, 8, 2, 9, 30, tzinfo=NEW_YORK), 0.25)
    return yahoo


@pytest.fixture
def provider(vendor: Vendor, cache_dir: Path) -> Iterator[Paying]:
    with open_provider(vendor.url, cache_dir) as provider:
        yield provider


@contextmanager
def open_provider(url: str, cache_dir: Path, timeout: float = 10) -> Iterator[Paying]:
    """A provider in a process that has asked nothing before."""
    yfinance.data.SingletonMeta._instances.clear()
    provider = Paying(options={"base_url": url, "timeout": timeout}, cache_dir=cache_dir)
    provider.setup()
    try:
        yield provider
    finally:
        provider.close()


def day_us(year: int, month: int, day: int) -> int:
    return to_us(datetime(year, month, day, tzinfo=UTC))


def parts(
    provider: Paying,
    symbol: str = "ACME",
    interval: Interval = Interval.D1,
    start_us: int = day_us(2024, 5, 1),
    end_us: int = day_us(2024, 6, 1),
    asset_class: AssetClass = AssetClass.STOCK,
) -> list[Bars | list[CorporateAction]]:
    return list(provider.history(HistoryRequest(symbol, asset_class, interval, start_us, end_us)))


def rows(given: Sequence[Bars | list[CorporateAction]]) -> list[Row]:
    """(time_us, open, high, low, close, volume) of every bar."""
    pages = [part for part in given if isinstance(part, Bars)]
    return [row for page in pages for row in zip(*(list(getattr(page, c)) for c in Bars.__slots__), strict=True)]


def actions(given: Sequence[Bars | list[CorporateAction]]) -> list[tuple[date, str, float, str]]:
    return [
        (datetime.fromtimestamp(a.ex_date_us / 1e6, UTC).date(), a.kind, a.value, a.currency)
        for part in given if not isinstance(part, Bars) for a in part
    ]  # fmt: skip


def question(symbol: str) -> Seen:
    """What yfinance would ask about it."""
    return Seen("GET", f"{CHART}{symbol}", {"interval": "1d"})


def dates(given: Sequence[Row]) -> list[date]:
    """The dates of bars that are stamped 00:00 UTC."""
    assert all(row[0] % DAY_US == 0 for row in given)
    return [datetime.fromtimestamp(row[0] / 1e6, UTC).date() for row in given]


def test_the_manifest_is_the_example_of_the_specification() -> None:
    manifest = load_manifest(MANIFESTS / "yahoo-finance")
    assert (manifest.name, manifest.slug) == ("Yahoo Finance Provider", "yahoo-finance")
    assert manifest.intervals == {Interval(name) for name in ("1m", "5m", "15m", "1h", "1d", "1wk", "1mo")}
    assert manifest.rate_limits == (RateWindow(60, 60.0), RateWindow(2_000, 86_400.0))
    timeout = manifest.options["timeout"]
    assert (timeout.type, timeout.description, timeout.default) == ("int", "Request timeout in seconds", 30)


class TestPrices:
    def test_a_split_after_the_range_is_undone(self, yahoo: Yahoo, provider: Paying) -> None:
        assert rows(parts(provider))[:2] == [
            (day_us(2024, 5, 1), 20.0, 22.0, 18.0, 21.0, 1_000.0),
            (day_us(2024, 5, 2), 22.0, 24.0, 20.0, 23.0, 1_000.0),
        ]

    def test_bars_from_the_ex_date_on_are_left_alone(self, yahoo: Yahoo, provider: Paying) -> None:
        yahoo.symbols["ACME"].splits.clear()
        yahoo.symbols["ACME"].split(MAY[2], 3)
        assert [row[1] for row in rows(parts(provider))] == [30.0, 33.0, 12.0, 13.0, 14.0]

    def test_splits_multiply_and_a_reverse_one_divides(self, yahoo: Yahoo, provider: Paying) -> None:
        yahoo.symbols["ACME"].split(datetime(2025, 1, 2, 9, 30, tzinfo=NEW_YORK), 1, 10)
        first = rows(parts(provider))[0]
        assert first == (day_us(2024, 5, 1), 2.0, 2.2, 1.8, 2.1, 10_000.0)

    def test_thirds_come_back_whole(self, yahoo: Yahoo, provider: Paying) -> None:
        third = float.fromhex("0x1.0aaaaa0000000p+5")  # 33.333332, Yahoo's binary32 of a third of 100
        yahoo.list("THIRD", rows={"1d": [(MAY[0], (third,) * 4 + (300,))]}).split(MAY[3], 3)
        assert rows(parts(provider, "THIRD")) == [(day_us(2024, 5, 1), 100.0, 100.0, 100.0, 100.0, 100.0)]

    def test_a_price_is_the_shortest_decimal_of_the_32_bit_number(self, yahoo: Yahoo, provider: Paying) -> None:
        quoted = (129.0399932861328, 131.0, 126.12345678901234, 104567.234375, 7.0)
        yahoo.list("NARROW", rows={"1d": [(MAY[0], quoted)]})
        assert rows(parts(provider, "NARROW")) == [
            (day_us(2024, 5, 1), 129.04, 131.0, 126.12345678901234, 104567.234, 7.0)
        ]

    def test_actions_since_the_start_come_as_they_were_paid(self, yahoo: Yahoo, provider: Paying) -> None:
        assert actions(parts(provider, start_us=day_us(2024, 5, 3), end_us=day_us(2024, 5, 4))) == [
            (date(2024, 5, 3), "dividend", 0.5, "USD"),
            (date(2024, 5, 28), "split", 2.0, ""),
            (date(2024, 8, 2), "dividend", 0.25, "USD"),
        ]
        assert len(actions(parts(provider, start_us=day_us(2024, 5, 4), end_us=day_us(2024, 5, 5)))) == 2

    def test_a_dividend_in_another_currency_says_so(self, yahoo: Yahoo, provider: Paying) -> None:
        yahoo.symbols["ACME"].dividends[:] = [{"amount": 0.1, "date": int(MAY[1].timestamp()), "currency": "EUR"}]
        assert (date(2024, 5, 2), "dividend", 0.2, "EUR") in actions(parts(provider))

    def test_coins_and_currencies_have_no_actions_to_ask_for(self, yahoo: Yahoo, provider: Paying) -> None:
        yahoo.list(
            "BTC-USD", "UTC", kind="CRYPTOCURRENCY", rows={"1d": [(datetime(2024, 5, 1, tzinfo=UTC), (1.0,) * 5)]}
        )
        assert len(rows(parts(provider, "BTC-USD", asset_class=AssetClass.CRYPTO))) == 1
        assert not yahoo.ledgers

    def test_the_ledger_is_asked_for_once_for_many_questions(self, yahoo: Yahoo, provider: Paying) -> None:
        assert parts(provider) is not None
        assert rows(parts(provider)) == rows(parts(provider))
        assert (len(yahoo.ledgers), len(yahoo.charts)) == (1, 3)

    def test_a_split_newer_than_the_ledger_renews_it_at_once(self, yahoo: Yahoo, provider: Paying) -> None:
        yahoo.symbols["ACME"].splits.clear()
        before = rows(parts(provider))
        yahoo.symbols["ACME"].split(MAY[3], 2)
        after = parts(provider)
        # Without renewal the days before would be raw no longer: half of what they were.
        assert [row[1] for row in rows(after)][:3] == [2 * row[1] for row in before][:3]
        assert (date(2024, 5, 6), "split", 2.0, "") in actions(after)
        assert len(yahoo.ledgers) == 2


class TestLedgers:
    @pytest.fixture
    def now_s(self) -> list[float]:
        return [1_000.0]

    @pytest.fixture
    def fetched(self) -> list[str]:
        return []

    @pytest.fixture
    def ask(self, now_s: list[float], fetched: list[str]) -> Callable[[str], object]:
        kept = yahoo_ledgers.Ledgers(lambda: now_s[0])

        def fetch(symbol: str) -> object:
            fetched.append(symbol)
            return object()

        return lambda symbol: kept.get(symbol, lambda: fetch(symbol))

    def test_a_ledger_is_kept_for_an_hour(
        self, ask: Callable[[str], object], now_s: list[float], fetched: list[str]
    ) -> None:
        first = ask("A")
        now_s[0] += 3_599
        assert ask("A") is first
        now_s[0] += 1
        assert ask("A") is not first
        assert fetched == ["A", "A"]

    def test_the_least_recently_fetched_go_first(self, ask: Callable[[str], object], fetched: list[str]) -> None:
        for n in range(yahoo_ledgers.MOST + 1):
            ask(f"S{n}")
        fetched.clear()
        ask("S1")
        ask("S0")
        assert fetched == ["S0"]

    def test_a_fetch_that_fails_keeps_nothing(self, now_s: list[float]) -> None:
        kept = yahoo_ledgers.Ledgers(lambda: now_s[0])

        def fail() -> object:
            raise Upstream("down")

        with pytest.raises(Upstream):
            kept.get("A", fail)
        assert kept.get("A", lambda: "ledger") == "ledger"


class TestStamps:
    def test_days_are_stamped_with_the_exchange_s_date(self, yahoo: Yahoo, provider: Paying) -> None:
        cases = {
            "VOD.L": ("Europe/London", 8, 0),
            "7203.T": ("Asia/Tokyo", 9, 0),
            "BHP.AX": ("Australia/Sydney", 10, 0),  # the UTC day before
            "NZ.NZ": ("Pacific/Auckland", 10, 0),
        }
        for symbol, (zone, hour, minute) in cases.items():
            days = [datetime(2024, 1, day, hour, minute, tzinfo=ZoneInfo(zone)) for day in (3, 4, 5)]
            yahoo.list(symbol, zone, rows={"1d": [(at, (1.0,) * 5) for at in days]})
            given = parts(provider, symbol, start_us=day_us(2024, 1, 3), end_us=day_us(2024, 1, 5))
            assert dates(rows(given)) == [date(2024, 1, 3), date(2024, 1, 4)], symbol

    def test_a_currency_s_day_is_london_s_in_winter_and_summer(self, yahoo: Yahoo, provider: Paying) -> None:
        london = ZoneInfo("Europe/London")
        days = [datetime(2024, 3, 29, tzinfo=london) + timedelta(days=n) for n in range(5)]  # clocks go on on the 31st
        yahoo.list(
            "EURUSD=X", "Europe/London", kind="CURRENCY", rows={"1d": [(at, (1.0, 1.0, 1.0, 1.0, 0)) for at in days]}
        )
        given = parts(
            provider, "EUR-USD", start_us=day_us(2024, 3, 29), end_us=day_us(2024, 4, 3), asset_class=AssetClass.FOREX
        )
        assert dates(rows(given)) == [date(2024, 3, 29) + timedelta(days=n) for n in range(5)]

    def test_weeks_are_stamped_monday_and_fetched_whole(self, yahoo: Yahoo, provider: Paying) -> None:
        mondays = [datetime(2024, 4, 29, tzinfo=NEW_YORK) + timedelta(weeks=n) for n in range(4)]
        yahoo.list("WEEK", rows={"1wk": [(at, (1.0,) * 5) for at in mondays]})
        # From Wednesday to Wednesday: one Monday opens in there, and its week ends on the 12th.
        given = parts(provider, "WEEK", Interval.W1, day_us(2024, 5, 1), day_us(2024, 5, 8))
        assert dates(rows(given)) == [date(2024, 5, 6)]
        [asked] = yahoo.charts
        assert int(asked.query["period1"]) * 1_000_000 <= day_us(2024, 4, 29)
        assert int(asked.query["period2"]) * 1_000_000 >= day_us(2024, 5, 13)

    def test_months_are_stamped_the_first_even_where_yahoo_is_an_hour_early(
        self, yahoo: Yahoo, provider: Paying
    ) -> None:
        days = [date(2018, 10, 1), date(2018, 11, 1), date(2018, 12, 1)]
        months = [datetime(day.year, day.month, day.day, tzinfo=ZoneInfo("America/Sao_Paulo")) for day in days]
        months[1] -= timedelta(hours=1)
        yahoo.list("PETR4.SA", "America/Sao_Paulo", rows={"1mo": [(at, (1.0,) * 5) for at in months]})
        given = parts(provider, "PETR4.SA", Interval.MO1, day_us(2018, 10, 1), day_us(2018, 12, 1))
        assert dates(rows(given)) == [date(2018, 10, 1), date(2018, 11, 1)]

    def test_a_week_counts_in_shares_of_its_monday(self, yahoo: Yahoo, provider: Paying) -> None:
        mondays = [datetime(2024, 5, 6, tzinfo=NEW_YORK), datetime(2024, 5, 13, tzinfo=NEW_YORK)]
        known = yahoo.list("WEEK", rows={"1wk": [(at, (10.0, 10.0, 10.0, 10.0, 100)) for at in mondays]})
        known.split(datetime(2024, 5, 8, 9, 30, tzinfo=NEW_YORK), 4)
        given = parts(provider, "WEEK", Interval.W1, day_us(2024, 5, 6), day_us(2024, 5, 20))
        assert [row[1] for row in rows(given)] == [40.0, 10.0]

    def test_the_first_second_of_the_epoch_is_a_start_like_any_other(self, yahoo: Yahoo, provider: Paying) -> None:
        parts(provider, start_us=DAY_US, end_us=3 * DAY_US)  # a day of margin makes it 0
        [asked] = yahoo.charts
        assert int(asked.query["period1"]) == -1

    def test_days_before_1970_are_asked_for(self, yahoo: Yahoo, provider: Paying) -> None:
        at = datetime(1962, 1, 2, 9, 30, tzinfo=NEW_YORK)
        yahoo.list("IBM", rows={"1d": [(at, (1.0,) * 5)]})
        given = parts(provider, "IBM", start_us=day_us(1900, 1, 1), end_us=day_us(1963, 1, 1))
        assert dates(rows(given)) == [date(1962, 1, 2)]


class TestIntraday:
    """On the last session that is over, because Yahoo keeps minutes for a month."""

    @pytest.fixture
    def opening(self) -> datetime:
        day = datetime.now(NEW_YORK).date() - timedelta(days=3)
        return datetime(day.year, day.month, day.day, 9, 30, tzinfo=NEW_YORK)

    def test_minutes_without_any_price_are_no_bars(self, yahoo: Yahoo, provider: Paying, opening: datetime) -> None:
        minute = timedelta(minutes=1)
        nothing = (None,) * 5
        yahoo.list(
            "HALT",
            rows={"1m": [(opening, (1.0,) * 5), (opening + minute, nothing), (opening + 2 * minute, (2.0,) * 5)]},
        )
        start_us = to_us(opening)
        given = rows(parts(provider, "HALT", Interval.M1, start_us, start_us + 10 * MINUTE_US))
        assert [row[0] - start_us for row in given] == [0, 2 * MINUTE_US]

    def test_the_last_trade_is_not_a_bar(self, yahoo: Yahoo, provider: Paying, opening: datetime) -> None:
        five = timedelta(minutes=5)
        last = opening + 2 * five + timedelta(seconds=37)
        yahoo.list("LIVE", rows={"5m": [(opening, (1.0,) * 5), (opening + five, (2.0,) * 5), (last, (3.0,) * 5)]})
        start_us = to_us(opening)
        given = rows(parts(provider, "LIVE", Interval.M5, start_us, start_us + HOUR_US))
        assert [(row[0] - start_us, row[1]) for row in given] == [(0, 1.0), (5 * MINUTE_US, 2.0)]

    def test_the_last_trade_within_a_bar_closes_that_bar(
        self, yahoo: Yahoo, provider: Paying, opening: datetime
    ) -> None:
        later = opening + timedelta(minutes=12)
        forming = (1.0, 1.5, 0.5, 1.2, 100)
        yahoo.list("LIVE", rows={"1h": [(opening, forming), (later + timedelta(seconds=1), (1.7, 1.7, 1.7, 1.7, 0))]})
        start_us = to_us(opening)
        given = rows(parts(provider, "LIVE", Interval.H1, start_us, start_us + HOUR_US))
        assert given == [(start_us, 1.0, 1.7, 0.5, 1.7, 100.0)]

    def test_what_was_traded_after_the_close_is_left_out(
        self, yahoo: Yahoo, provider: Paying, opening: datetime
    ) -> None:
        closing = opening.replace(hour=16, minute=0)
        yahoo.list("LATE", rows={"1m": [(closing - timedelta(minutes=1), (1.0,) * 5), (closing, (9.0,) * 5)]})
        given = parts(provider, "LATE", Interval.M1, to_us(opening), to_us(opening) + DAY_US)
        assert [row[1] for row in rows(given)] == [1.0]

    def test_hours_open_at_half_past_as_new_york_does(self, yahoo: Yahoo, provider: Paying, opening: datetime) -> None:
        hours = [opening + timedelta(hours=n) for n in range(7)]
        yahoo.list("HOURS", rows={"1h": [(at, (1.0,) * 5) for at in hours]})
        given = parts(provider, "HOURS", Interval.H1, to_us(opening) - HOUR_US, to_us(opening) + DAY_US)
        assert [row[0] for row in rows(given)] == [to_us(at) for at in hours]

    def test_three_weeks_of_minutes_take_three_requests_without_seam_or_overlap(
        self, yahoo: Yahoo, provider: Paying, opening: datetime
    ) -> None:
        first = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(days=21)
        hours = [first + timedelta(hours=n) for n in range(500)]
        yahoo.list("ETH-USD", "UTC", kind="CRYPTOCURRENCY", rows={"1m": [(at, (1.0,) * 5) for at in hours]})
        start_us = to_us(first)
        given = parts(provider, "ETH-USD", Interval.M1, start_us, start_us + 500 * HOUR_US, AssetClass.CRYPTO)
        assert [row[0] for row in rows(given)] == [to_us(at) for at in hours]
        spans = [(int(seen.query["period1"]), int(seen.query["period2"])) for seen in yahoo.charts]
        assert [end - start for start, end in spans] == [7 * 86_400, 7 * 86_400, 500 * 3_600 - 14 * 86_400]
        assert spans[0][1] == spans[1][0]

    @pytest.mark.parametrize(
        ("interval", "days"), [(Interval.M1, 30), (Interval.M5, 60), (Interval.M15, 60), (Interval.H1, 730)]
    )
    def test_further_back_than_yahoo_keeps_is_unsupported_without_asking(
        self, yahoo: Yahoo, provider: Paying, interval: Interval, days: int
    ) -> None:
        now_us = time.time_ns() // 1_000
        with pytest.raises(Unsupported, match=f"for {days} days: ask from 20"):
            parts(provider, interval=interval, start_us=now_us - (days + 1) * DAY_US, end_us=now_us)
        assert not yahoo.vendor.seen
        manifest = load_manifest(MANIFESTS / "yahoo-finance")
        earliest_us = manifest.earliest_us(interval, now_us)
        assert earliest_us is not None
        assert earliest_us > now_us - days * DAY_US

    def test_intervals_that_yahoo_lacks_are_unsupported(self, yahoo: Yahoo, provider: Paying) -> None:
        with pytest.raises(Unsupported, match="no 4h bars"):
            parts(provider, interval=Interval.H4)


class TestNothing:
    def test_a_range_without_rows_gives_no_bars(self, yahoo: Yahoo, provider: Paying) -> None:
        assert rows(parts(provider, start_us=day_us(2024, 5, 4), end_us=day_us(2024, 5, 6))) == []

    def test_yahoo_s_words_for_nothing_give_no_bars(self, yahoo: Yahoo, provider: Paying) -> None:
        ledger = yahoo.chart
        yahoo.vendor.serve(CHART, lambda seen: ledger(seen) if "range" in seen.query else Answer(no_data_in(1, 2), 400))
        assert rows(parts(provider)) == []

    def test_an_answer_of_nulls_gives_no_bars(self, yahoo: Yahoo, provider: Paying) -> None:
        yahoo.list("NULLS", rows={"1d": [(at, (None,) * 5) for at in MAY]})
        assert rows(parts(provider, "NULLS")) == []

    @pytest.mark.parametrize("symbol", ["A/B", "A?x=1", "..", "", "A B", "A" * 60, "ÄÖ", "A#", "%41"])
    def test_what_cannot_be_a_symbol_is_unknown_without_asking(
        self, yahoo: Yahoo, provider: Paying, symbol: str
    ) -> None:
        with pytest.raises(SymbolNotFound):
            parts(provider, symbol)
        assert not yahoo.vendor.seen

    def test_an_unknown_symbol_is_unknown_at_the_price_of_one_request(self, yahoo: Yahoo, provider: Paying) -> None:
        for asset_class in (AssetClass.STOCK, AssetClass.INDEX):
            with pytest.raises(SymbolNotFound, match="may be delisted"):
                parts(provider, "NOPE", asset_class=asset_class)
        assert len(yahoo.vendor.asked(CHART)) == 2


class TestFaults:
    @pytest.mark.parametrize(
        ("answer", "expected", "retry_after_s"),
        [
            (Answer(TOO_MANY, 429), RateLimited, None),
            (Answer(TOO_MANY, 429, {"Retry-After": "90"}), RateLimited, 90.0),
            (Answer(TOO_MANY, 429, {"Retry-After": "soon"}), RateLimited, None),
            (Answer(TOO_MANY, 429, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}), RateLimited, 0.0),
            (Answer(b"Request denied", 999), RateLimited, None),
            (Answer(b"Edge: Too Many Requests"), RateLimited, None),  # a limit inside a 200
            (Answer({"finance": {"error": {"code": "Too Many Requests", "description": "x"}}}), RateLimited, None),
            (Answer(BAD_CRUMB, 401), AuthFailed, None),
            (Answer(b"<html>Forbidden", 403), Upstream, None),
            (Answer(BAD_CRUMB), AuthFailed, None),
            (Answer(NOT_FOUND, 404), SymbolNotFound, None),
            (Answer(NOT_FOUND), SymbolNotFound, None),
            (Answer(b"<html>not here", 404), Upstream, None),
            (Answer(b"<html>bad gateway", 502), Upstream, None),
            (
                Answer({"chart": {"result": None, "error": {"code": "Internal", "description": "x"}}}, 500),
                Upstream,
                None,
            ),
            (Answer({"chart": {"result": None, "error": {"code": "Internal", "description": "x"}}}), Upstream, None),
            (Answer(DOWN), Upstream, None),
            (
                Answer({"chart": {"error": {"code": "Bad Request", "description": "no such range"}}}, 400),
                Unsupported,
                None,
            ),
            (Answer({"chart": {"error": {"code": "Unprocessable Entity"}}}, 422), Unsupported, None),
            (Answer({}, 400), Upstream, None),
            (Answer(b"", 302, {"Location": "http://192.0.2.1/"}), Malformed, None),
            (Answer(b"<html>all is well"), Malformed, None),
            (Answer(b'{"chart": {"resu'), Malformed, None),
            (Answer(b""), Malformed, None),
            (Answer([]), Malformed, None),
            (Answer({}), Malformed, None),
            (Answer({"chart": None}), Malformed, None),
            (Answer({"chart": {"result": [], "error": None}}), Malformed, None),
            (Answer({"chart": {"result": [{"meta": {}, "indicators": {"quote": [None]}}]}}), Malformed, None),
        ],
    )
    @pytest.mark.parametrize("asset_class", [AssetClass.STOCK, AssetClass.INDEX])  # the ledger's request, and the bars'
    def test_faults_are_typed(
        self,
        yahoo: Yahoo,
        provider: Paying,
        answer: Answer,
        expected: type[ProviderError],
        retry_after_s: float | None,
        asset_class: AssetClass,
    ) -> None:
        yahoo.vendor.always(CHART, answer)
        with pytest.raises(ProviderError) as caught:
            parts(provider, asset_class=asset_class)
        assert type(caught.value) is expected, caught.value
        assert getattr(caught.value, "retry_after_s", None) == retry_after_s
        assert len(yahoo.vendor.asked(CHART)) <= (2 if answer.status in (401, 403) else 1), "no storm"

    def test_a_slow_vendor_is_a_timeout(self, yahoo: Yahoo, cache_dir: Path) -> None:
        yahoo.vendor.always(CHART, Answer(is_slow=True))
        with (
            open_provider(yahoo.vendor.url, cache_dir, timeout=0.2) as provider,
            pytest.raises(UpstreamTimeout, match=r"within 0\.2 s"),
        ):
            parts(provider)

    def test_a_refused_connection_is_upstream(self, cache_dir: Path) -> None:
        with (
            open_provider(nobody_listens(), cache_dir) as provider,
            pytest.raises(Upstream, match=r"cannot be reached: curl: \(7\) .*[^ ]\.$"),
        ):
            parts(provider)

    def test_a_connection_that_is_cut_is_upstream(self, yahoo: Yahoo, provider: Paying) -> None:
        yahoo.vendor.always(CHART, Answer(is_cut=True))
        with pytest.raises(Upstream, match="cannot be reached"):
            parts(provider)
        assert len(yahoo.ledgers) <= 2, "curl takes it for a connection that was idle too long, once"

    def test_prices_that_are_no_numbers_are_malformed(self, yahoo: Yahoo, provider: Paying) -> None:
        yahoo.list("TEXT", rows={"1d": [(MAY[0], ("dear",) * 5)]})
        with pytest.raises(Malformed):
            parts(provider, "TEXT", asset_class=AssetClass.INDEX)

    def test_columns_of_unlike_length_are_malformed(self, yahoo: Yahoo, provider: Paying) -> None:
        body: Any = yahoo.chart(question("ACME")).body
        body["chart"]["result"][0]["indicators"]["quote"][0]["close"].pop()
        yahoo.vendor.always(CHART, Answer(body))
        with pytest.raises(Malformed):
            parts(provider, asset_class=AssetClass.INDEX)

    @pytest.mark.parametrize(
        "events",
        [
            {"splits": {"1": {"date": 1_716_903_000, "numerator": 2, "denominator": 0}}},
            {"splits": {"1": {"date": 1_716_903_000, "numerator": 0, "denominator": 1}}},
            {"splits": {"1": {"numerator": 2, "denominator": 1}}},
            {"dividends": {"1": {"date": 1_716_903_000, "amount": None}}},
            {"dividends": ["0.25"]},
        ],
    )
    def test_events_that_make_no_sense_are_malformed(
        self, yahoo: Yahoo, provider: Paying, events: dict[str, object]
    ) -> None:
        body: Any = yahoo.chart(question("ACME")).body
        body["chart"]["result"][0]["events"] = events
        yahoo.vendor.always(CHART, Answer(body))
        with pytest.raises(Malformed, match="events"):
            parts(provider)

    def test_yfinance_says_nothing_of_its_own(
        self, yahoo: Yahoo, provider: Paying, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
    ) -> None:
        yahoo.vendor.always(CRUMB, Answer(TOO_MANY, 429))
        caplog.set_level(logging.INFO)
        parts(provider)
        yahoo.vendor.always(CHART, Answer(b"{}", 500))
        with pytest.raises(Upstream):
            parts(provider)
        assert [record for record in caplog.records if "yfinance" in record.name or "peewee" in record.name] == []
        assert capsys.readouterr() == ("", "")


class TestBudget:
    def test_every_request_but_the_first_is_paid_for(self, yahoo: Yahoo, provider: Paying) -> None:
        parts(provider)
        assert [seen.path for seen in yahoo.vendor.seen] == ["/", CRUMB, f"{CHART}ACME", f"{CHART}ACME"]
        assert provider.spent == 3
        parts(provider)
        assert (len(yahoo.vendor.seen), provider.spent) == (5, 3)

    def test_nothing_is_sent_that_the_budget_does_not_allow(self, yahoo: Yahoo, provider: Paying) -> None:
        provider.allowed = 2
        with pytest.raises(RateLimited, match="used up"):
            parts(provider)
        assert len(yahoo.vendor.seen) == 3

    def test_a_refused_session_gets_another_cookie_and_is_asked_again(self, yahoo: Yahoo, provider: Paying) -> None:
        yahoo.vendor.play(CHART, Answer(BAD_CRUMB, 401))
        assert len(rows(parts(provider, asset_class=AssetClass.INDEX))) == 5
        assert len(yahoo.charts) == 2
        assert provider.spent == len(yahoo.vendor.seen) - 1

    def test_a_crumb_that_is_refused_is_not_asked_for_with_every_question(self, yahoo: Yahoo, provider: Paying) -> None:
        yahoo.vendor.always(CRUMB, Answer(TOO_MANY, 429))
        for _ in range(3):
            assert len(rows(parts(provider))) == 5
        assert len(yahoo.vendor.asked(CRUMB)) == 1

    def test_a_cookie_server_that_hangs_up_costs_requests_once(self, yahoo: Yahoo, provider: Paying) -> None:
        yahoo.vendor.serve("/", lambda seen: Answer(is_cut=not seen.path.startswith(CHART)))
        yahoo.vendor.serve(CHART, yahoo.chart)
        for _ in range(3):
            assert len(rows(parts(provider))) == 5
        others = [seen.path for seen in yahoo.vendor.seen if not seen.path.startswith(CHART)]
        assert others == ["/", "/consent"]

    def test_the_past_is_not_answered_from_memory(self, yahoo: Yahoo, provider: Paying) -> None:
        parts(provider)
        yahoo.list("ACME", rows={"1d": [(MAY[0], (5.0,) * 5)]})
        assert len(rows(parts(provider))) == 1

    def test_no_request_goes_anywhere_but_to_base_url(
        self, yahoo: Yahoo, provider: Paying, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sent: list[str] = []
        send = curl_cffi.requests.Session.request

        def spy(session: object, method: object, url: str, **kwargs: object) -> object:
            sent.append(url)
            return send(session, method, url, **kwargs)

        monkeypatch.setattr(curl_cffi.requests.Session, "request", spy)
        form = b'<form><input name="csrfToken" value="x"><input name="sessionId" value="y"></form>'
        yahoo.vendor.always("/consent", Answer(form))
        yahoo.vendor.always(CRUMB, Answer(b"<html>"))
        yahoo.vendor.play(CHART, Answer(BAD_CRUMB, 401))
        parts(provider)
        provider.symbols("acme", 5)
        with pytest.raises(SymbolNotFound):
            parts(provider, "US0378331005")  # an ISIN, which yfinance would look up
        assert len(sent) == len(yahoo.vendor.seen) > 8
        assert all(url.startswith(yahoo.vendor.url + "/") for url in sent)


class TestSymbols:
    def test_what_yahoo_finds_comes_canonical(self, yahoo: Yahoo, provider: Paying) -> None:
        quotes = [
            {"symbol": "AAPL", "quoteType": "EQUITY", "longname": "Apple Inc.", "exchDisp": "NASDAQ"},
            {"symbol": "EURUSD=X", "quoteType": "CURRENCY", "shortname": "EUR/USD", "exchDisp": "CCY"},
            {"symbol": "JPY=X", "quoteType": "CURRENCY", "shortname": "USD/JPY", "exchDisp": "CCY"},
            {"symbol": "BTC-USD", "quoteType": "CRYPTOCURRENCY", "shortname": "Bitcoin USD", "exchange": "CCC"},
            {"symbol": "AAPL260116C00100000", "quoteType": "OPTION"},
            {"index": "news"},
        ]
        yahoo.vendor.always(SEARCH, Answer({"quotes": quotes}))
        assert provider.symbols("a", 10) == [
            Instrument(0, "AAPL", AssetClass.STOCK, "Apple Inc.", "", "NASDAQ"),
            Instrument(0, "EUR-USD", AssetClass.FOREX, "EUR/USD", "USD", "CCY"),
            Instrument(0, "USD-JPY", AssetClass.FOREX, "USD/JPY", "JPY", "CCY"),
            Instrument(0, "BTC-USD", AssetClass.CRYPTO, "Bitcoin USD", "USD", "CCC"),
        ]

    def test_a_search_that_fails_is_typed(self, yahoo: Yahoo, provider: Paying) -> None:
        yahoo.vendor.always(SEARCH, Answer(TOO_MANY, 429))
        with pytest.raises(RateLimited):
            provider.symbols("a", 10)

    @pytest.mark.parametrize(
        ("symbol", "asset_class", "native"),
        [
            ("BTC-USD", AssetClass.CRYPTO, "BTC-USD"),
            ("EUR-USD", AssetClass.FOREX, "EURUSD=X"),
            ("USD-JPY", AssetClass.FOREX, "USDJPY=X"),
            ("BRK-B", AssetClass.STOCK, "BRK-B"),
            ("^GSPC", AssetClass.INDEX, "^GSPC"),
            ("GC=F", AssetClass.FUTURE, "GC=F"),
            ("SAP.DE", AssetClass.STOCK, "SAP.DE"),
            ("0P000071W8.TO", AssetClass.FUND, "0P000071W8.TO"),
            ("M&M.NS", AssetClass.STOCK, "M&M.NS"),
        ],
    )
    def test_canonical_symbols_reach_yahoo_as_its_own(
        self, yahoo: Yahoo, provider: Paying, symbol: str, asset_class: AssetClass, native: str
    ) -> None:
        yahoo.list(native, rows={"1d": [(MAY[0], (1.0,) * 5)]})
        assert len(rows(parts(provider, symbol, asset_class=asset_class))) == 1


class TestRecorded:
    """Answers that Yahoo gave in February and October 2025."""

    pytestmark = recorded
    FOLDER = SHARED / "yahoo_finance2"

    def test_nvidia_is_what_it_was_on_the_tape_in_2021(self, yahoo: Yahoo, provider: Paying) -> None:
        nvidia = yahoo.replay(self.FOLDER / "historical-via-chart-NVDA-split-2021-02-01-to-2022-01-31.csv.json")
        nvidia.split(datetime(2024, 6, 10, 9, 30, tzinfo=NEW_YORK), 10)  # after the recorded range
        given = parts(provider, "NVDA", start_us=day_us(2021, 2, 1), end_us=day_us(2022, 2, 1))
        closes = dict(zip(dates(rows(given)), (row[4] for row in rows(given)), strict=True))
        assert len(closes) == 252
        assert (closes[date(2021, 2, 1)], closes[date(2021, 7, 19)]) == (529.48, 751.19)  # the day before 4:1
        assert (closes[date(2021, 7, 20)], closes[date(2022, 1, 28)]) == (186.12, 228.4)
        assert actions(given) == [
            (date(2021, 7, 20), "split", 4.0, ""),
            (date(2024, 6, 10), "split", 10.0, ""),
        ]

    def test_apple_is_what_it_was_on_the_tape_in_2020(self, yahoo: Yahoo, provider: Paying) -> None:
        yahoo.replay(self.FOLDER / "chart-AAPL-2020-01-01-to-2020-01-03.json")
        apple = yahoo.replay(self.FOLDER / "chart-AAPL-2020-08-31-to-2020-11-07.json")
        recorded_rows = list(apple.rows["1d"])
        yahoo.replay(self.FOLDER / "chart-AAPL-2020-01-01-to-2020-01-03.json")
        apple.rows["1d"] += recorded_rows
        apple.dividend(datetime(2020, 8, 7, 9, 30, tzinfo=NEW_YORK), 0.205)  # as Yahoo tells it today
        given = parts(provider, "AAPL", start_us=day_us(2020, 1, 1), end_us=day_us(2020, 12, 1))
        bars = rows(given)
        assert bars[0] == (day_us(2020, 1, 2), 296.24, 300.6, 295.19, 300.35, 33_870_100.0)
        assert bars[1] == (day_us(2020, 8, 31), 127.58, 131.0, 126.0, 129.04, 225_702_700.0)
        assert actions(given) == [
            (date(2020, 8, 7), "dividend", 0.82, "USD"),
            (date(2020, 8, 31), "split", 4.0, ""),
            (date(2020, 11, 6), "dividend", 0.205, "USD"),
        ]

    def test_tesla_s_3303_days_arrive_and_none_twice(self, yahoo: Yahoo, provider: Paying) -> None:
        tesla = yahoo.replay(self.FOLDER / "historical-via-chart-dividends-TSLA-no-dividends.json")
        tesla.split(datetime(2020, 8, 31, 9, 30, tzinfo=NEW_YORK), 5)
        tesla.split(datetime(2022, 8, 25, 9, 30, tzinfo=NEW_YORK), 3)
        bars = rows(parts(provider, "TSLA", start_us=0, end_us=day_us(2023, 8, 12)))
        assert len({row[0] for row in bars}) == len(bars) == 3_303
        assert bars[0] == (day_us(2010, 6, 29), 19.0, 25.0, 17.54, 23.89, 18_766_300.0)  # its first day

    def test_the_weekend_has_no_minutes(self, yahoo: Yahoo, provider: Paying) -> None:
        name = "chart-AAPL-2025-02-01-to-2025-02-02-includePrePost-false-interval-1m.json"
        body = json.loads((self.FOLDER / name).read_text())["response"]["bodyJson"]
        yahoo.vendor.always(CHART, Answer(body))
        now_us = time.time_ns() // 1_000
        given = parts(provider, "AAPL", Interval.M1, now_us - DAY_US, now_us, AssetClass.INDEX)
        assert given == [[]]

    @pytest.mark.parametrize("name", ["chart-notimestamp-quotes-length.fake", "chart-notimestamp-weird-quote.fake"])
    def test_prices_without_times_are_malformed(self, yahoo: Yahoo, provider: Paying, name: str) -> None:
        body = json.loads((self.FOLDER / f"{name}.json").read_text())["response"]["bodyJson"]
        yahoo.vendor.always(CHART, Answer(body))
        with pytest.raises(Malformed):
            parts(provider, "AAPL", asset_class=AssetClass.INDEX)

    @pytest.mark.parametrize(
        ("symbol", "asset_class", "native", "expected"),
        [
            ("OCDO.L", AssetClass.STOCK, "OCDO.L", [date(2020, 1, 2)]),
            ("ORSTED.CO", AssetClass.STOCK, "ORSTED.CO", [date(2020, 1, 2)]),
            ("AZT.OL", AssetClass.STOCK, "AZT.OL", [date(2020, 1, 2)]),
            ("WSKT.JK", AssetClass.FUND, "WSKT.JK", [date(2020, 1, 2)]),
            ("0P000071W8.TO", AssetClass.FUND, "0P000071W8.TO", [date(2020, 1, 2)]),
            ("GC=F", AssetClass.FUTURE, "GC=F", [date(2020, 1, 2)]),
            ("EUR-USD", AssetClass.FOREX, "EURUSD=X", [date(2020, 1, 1), date(2020, 1, 2)]),
            ("BTC-USD", AssetClass.CRYPTO, "BTC-USD", [date(2020, 1, 1), date(2020, 1, 2)]),
        ],
    )
    def test_every_kind_of_symbol_has_its_days(
        self, yahoo: Yahoo, provider: Paying, symbol: str, asset_class: AssetClass, native: str, expected: list[date]
    ) -> None:
        """Yahoo added the day of the end as well, where markets trade at midnight; it was not asked for."""
        yahoo.replay(self.FOLDER / f"chart-{native}-2020-01-01-to-2020-01-03.json")
        given = parts(provider, symbol, start_us=day_us(2020, 1, 1), end_us=day_us(2020, 1, 3), asset_class=asset_class)
        assert dates(rows(given)) == expected

    def test_a_live_day_is_one_bar_with_the_day_s_date(self, yahoo: Yahoo, provider: Paying) -> None:
        for symbol, n in (("AAPL", 127), ("MSFT", 127), ("GS2C.DE", 5)):
            yahoo.replay(SHARED / f"yahoo_rs/history_chart_{symbol}.json")
            bars = rows(parts(provider, symbol, start_us=day_us(2025, 4, 1), end_us=day_us(2025, 11, 1)))
            assert len(bars) == n
            assert dates(bars)[-1] == date(2025, 10, 29)


@pytest.mark.parametrize("interval", [Interval.D1, Interval.W1, Interval.MO1])
def test_it_keeps_the_contract(yahoo: Yahoo, cache_dir: Path, interval: Interval) -> None:
    acme = yahoo.symbols["ACME"]
    first = datetime(2024, 1, 1, tzinfo=NEW_YORK)
    mondays, months = [first + timedelta(weeks=n) for n in range(40)], [first.replace(month=n + 1) for n in range(9)]
    acme.rows["1wk"] = [(int(at.timestamp()), 9.1, 9.3, 8.7, 9.2, 100) for at in mondays]
    acme.rows["1mo"] = [(int(at.timestamp()), 9.1, 9.3, 8.7, 9.2, 100) for at in months]
    yfinance.data.SingletonMeta._instances.clear()
    provider = YahooFinance(options={"base_url": yahoo.vendor.url, "timeout": 10}, cache_dir=cache_dir)
    asked = HistoryRequest("ACME", AssetClass.STOCK, interval, day_us(2024, 4, 1), day_us(2024, 7, 1))
    assert check(provider, asked) == []


@pytest.mark.parametrize("interval", [Interval.M1, Interval.M5, Interval.M15, Interval.H1])
def test_it_keeps_the_contract_within_the_day(yahoo: Yahoo, cache_dir: Path, interval: Interval) -> None:
    day = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=3)
    length = timedelta(microseconds=interval.us)
    bars = [(day + n * length, (9.1, 9.3, 8.7, 9.2, 100 + n)) for n in range(timedelta(days=1) // length)]
    yahoo.list("BTC-USD", "UTC", kind="CRYPTOCURRENCY", rows={str(interval): bars})
    yfinance.data.SingletonMeta._instances.clear()
    provider = YahooFinance(options={"base_url": yahoo.vendor.url, "timeout": 10}, cache_dir=cache_dir)
    asked = HistoryRequest("BTC-USD", AssetClass.CRYPTO, interval, to_us(day), to_us(day) + DAY_US)
    assert check(provider, asked) == []


async def test_a_real_process_stays_small_and_answers_many_at_once(yahoo: Yahoo, tmp_path: Path) -> None:
    for n in range(12):
        yahoo.list(f"S{n}", rows={"1d": [(at, (1.0 + n,) * 5) for at in MAY]})
    answered: dict[str, float] = {}
    (tmp_path / "cookies.db").write_bytes(b"what a full disk has left of it" * 100)
    with trio.fail_after(60):
        async with open_plugin(ENTRYPOINT, {"base_url": yahoo.vendor.url}, tmp_path) as plugin:
            assert plugin.methods == ("history", "symbols", "stream")

            async def ask(symbol: str) -> None:
                bars, _ = await plugin.ask(
                    symbol, AssetClass.STOCK, Interval.D1, day_us(2024, 5, 1), day_us(2024, 6, 1)
                )
                answered[symbol] = float(bars.close[0])

            async with trio.open_nursery() as nursery:
                for n in range(12):
                    nursery.start_soon(ask, f"S{n}")
            assert answered == {f"S{n}": 1.0 + n for n in range(12)}
            assert sum(plugin.spent) + 12 == len(yahoo.vendor.seen)
            with pytest.raises(SymbolNotFound):
                await plugin.ask("NOPE", AssetClass.STOCK, Interval.D1, day_us(2024, 5, 1), day_us(2024, 6, 1))
            plugin.refusal = RateLimited("used up", retry_after_s=7.0)
            with pytest.raises(RateLimited) as caught:
                await plugin.ask("ACME", AssetClass.STOCK, Interval.D1, day_us(2024, 5, 1), day_us(2024, 6, 1))
            assert caught.value.retry_after_s == 7.0
            assert psutil.Process(plugin.pid).memory_info().rss < 160e6


def test_threads_share_a_provider(yahoo: Yahoo, provider: Paying) -> None:
    together = threading.Barrier(8)

    def ask(_: int) -> list[Row]:
        together.wait()
        return rows(parts(provider))

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(ask, range(8)))
    assert all(answer == answers[0] for answer in answers)
    assert len(answers[0]) == 5
