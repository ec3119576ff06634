"""Yahoo's bars while they form: polled through yfinance from a loopback vendor, each poll paid for."""

from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yfinance
from recorded.rehearsed import heard, run_rehearsal
from recorded.vendor import Answer, Seen, Vendor, open_vendor
from recorded.yahoo import CHART, TOO_MANY, Yahoo

from timebase.house import PLUGINS
from timebase.model.feed import FeedKind
from timebase.model.timerange import MINUTE_US, to_us
from timebase.sdk import Bars, Interval, RateLimited, SymbolNotFound, Unsupported
from timebase.sdk.contract import check_stream
from timebase.sdk.entrypoint import load_provider
from timebase.sdk.rehearsal import Rehearsal

YahooFinance = load_provider(f"{PLUGINS}/yahoo-finance/provider.py:YahooFinance")

from yahoo_news import OVERLAP, Known  # noqa: E402 - the plugin's folder is on the path now
from yahoo_polling import PATIENCE, Rhythm  # noqa: E402

PATIENCE_S = 30.0
LATE_US = 15 * MINUTE_US
NOW_US = to_us(datetime(2024, 5, 6, 15, 0, 30, tzinfo=UTC))


# What is news


def bars(*rows: tuple[int, float]) -> Bars:
    """Bars by minutes before NOW_US's minute, and their close."""
    opened = NOW_US // MINUTE_US * MINUTE_US
    return Bars.from_rows((opened - ago * MINUTE_US, close, close, close, close, 10.0) for ago, close in rows)


def told(known: Known, given: Bars, now_us: int = NOW_US) -> list[tuple[int, float, bool]]:
    news = known.news(given, now_us)
    opened = NOW_US // MINUTE_US * MINUTE_US
    return [
        ((opened - at) // MINUTE_US, close, is_closed)
        for at, close, is_closed in zip(news.bars.time, news.bars.close, news.is_closed, strict=True)
    ]


def test_at_first_the_newest_closed_bar_and_the_one_that_forms_are_told() -> None:
    assert told(Known(Interval.M1, LATE_US), bars((3, 1.0), (2, 2.0), (1, 3.0), (0, 4.0))) == [
        (1, 3.0, True),
        (0, 4.0, False),
    ]


def test_a_bar_is_closed_once_when_a_later_one_has_begun() -> None:
    known = Known(Interval.M1, LATE_US)
    told(known, bars((1, 1.0), (0, 2.0)))
    assert told(known, bars((1, 1.0), (0, 2.5), (-1, 3.0))) == [(0, 2.5, True), (-1, 3.0, False)]
    assert told(known, bars((1, 1.0), (0, 2.5), (-1, 3.0))) == []


def test_a_closed_bar_that_yahoo_changes_is_told_again() -> None:
    known = Known(Interval.M1, LATE_US)
    told(known, bars((2, 1.0), (1, 2.0), (0, 3.0)))
    assert told(known, bars((1, 2.25), (0, 3.0))) == [(1, 2.25, True)]


def test_the_last_bar_of_a_session_is_closed_when_yahoo_cannot_be_late_any_more() -> None:
    known = Known(Interval.M1, LATE_US)
    told(known, bars((1, 1.0), (0, 2.0)))
    still_us = NOW_US // MINUTE_US * MINUTE_US + MINUTE_US + LATE_US - 1
    assert told(known, bars((1, 1.0), (0, 2.0)), still_us) == []
    assert told(known, bars((1, 1.0), (0, 2.0)), still_us + 1) == [(0, 2.0, True)]


def test_a_few_closed_bars_are_asked_for_again_and_what_is_remembered_is_bounded() -> None:
    known = Known(Interval.M1, LATE_US)
    assert known.since_us(NOW_US) <= NOW_US - LATE_US
    for minute in range(500):
        told(known, bars((-minute, 1.0), (-minute - 1, 2.0)))
    assert len(known.closed) == 2 * OVERLAP
    assert max(known.closed) - known.since_us(NOW_US) == (OVERLAP - 1) * MINUTE_US


def test_polls_become_rarer_while_they_bring_nothing_up_to_a_limit() -> None:
    rhythm = Rhythm(60.0, 900.0)
    assert [rhythm.wait_s(n) for n in range(PATIENCE + 1)] == [60.0] * (PATIENCE + 1)
    assert [rhythm.wait_s(PATIENCE + n) for n in range(1, 7)] == [120.0, 240.0, 480.0, 900.0, 900.0, 900.0]


# Against a vendor


class Account:
    """A budget that counts, and may be used up."""

    def __init__(self) -> None:
        self.spent = 0
        self.allowed = 1_000

    async def spend(self, n: int) -> None:
        if self.spent + n > self.allowed:
            raise RateLimited("the budget is used up", retry_after_s=0.5)
        self.spent += n


@pytest.fixture
def vendor() -> Iterator[Vendor]:
    with open_vendor() as vendor:
        yield vendor


@pytest.fixture
def yahoo(vendor: Vendor) -> Yahoo:
    """A coin with a bar for each of the last minutes, the one that is running included."""
    yahoo = Yahoo(vendor)
    yahoo.list("BTC-USD", "UTC", kind="CRYPTOCURRENCY", rows={"1m": [(at, price(at)) for at in minutes()]})
    return yahoo


def minutes(n: int = 40) -> list[datetime]:
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    return [now - timedelta(minutes=ago) for ago in reversed(range(n))]


def price(at: datetime) -> tuple[float, ...]:
    return (9.5, 10.75, 9.25, 9.5 + at.minute / 64, 100.0 + at.minute)


def rehearse(
    vendor: Vendor, cache: Path, act: Callable[[Rehearsal], Awaitable[None]], account: Account | None = None
) -> None:
    yfinance.data.SingletonMeta._instances.clear()
    provider = YahooFinance(
        options={"base_url": vendor.url, "timeout": 10, "poll_seconds": 0.05},
        cache_dir=cache,
        ask_to_spend=(account or Account()).spend,
    )
    run_rehearsal(provider, act, PATIENCE_S)


def test_a_feed_comes_up_with_its_first_poll_closed_and_forming_bars_follow(yahoo: Yahoo, tmp_path: Path) -> None:
    async def act(core: Rehearsal) -> None:
        feed = core.subscribe("BTC-USD", FeedKind.BARS, "1m")
        first = await core.next()
        assert first.is_up is True
        rows = await core.rows(feed, 2)
        assert [row[6] for row in rows[:2]] == [1, 0]
        assert rows[1][0] - rows[0][0] == MINUTE_US
        at = datetime.fromtimestamp(rows[0][0] / 1e6, UTC)
        assert rows[0][1:6] == price(at)
        pulse = (await heard(core, lambda found: found.pulse_us is not None)).pulse_us
        assert pulse == rows[1][0]

    rehearse(yahoo.vendor, tmp_path, act)


def test_a_new_minute_closes_the_one_before_with_its_last_numbers(yahoo: Yahoo, tmp_path: Path) -> None:
    async def act(core: Rehearsal) -> None:
        recording = yahoo.symbols["BTC-USD"]
        *before, last, running = recording.rows["1m"]
        recording.rows["1m"] = [*before, last]
        feed = core.subscribe("BTC-USD", FeedKind.BARS, "1m")
        assert (await core.rows(feed, 2))[1] == (last[0] * 1_000_000, *last[1:], 0)
        recording.rows["1m"] = [*before, (last[0], 9.5, 9.75, 9.25, 9.625, 500.0), running]
        first = (await core.rows(feed, 1))[0]
        assert first == (last[0] * 1_000_000, 9.5, 9.75, 9.25, 9.625, 500.0, 1)

    rehearse(yahoo.vendor, tmp_path, act)


def test_every_poll_is_paid_for_and_stops_where_the_budget_does(yahoo: Yahoo, tmp_path: Path) -> None:
    account = Account()
    account.allowed = 4

    async def act(core: Rehearsal) -> None:
        core.subscribe("BTC-USD", FeedKind.BARS, "1m")
        assert "used up" in (await heard(core, lambda found: found.is_up is False)).reason
        account.allowed = 1_000
        await heard(core, lambda found: found.is_up is True)

    rehearse(yahoo.vendor, tmp_path, act, account)
    assert len(yahoo.vendor.seen) <= account.spent


def test_a_vendor_that_limits_requests_is_down_and_asked_again_later(yahoo: Yahoo, tmp_path: Path) -> None:
    async def act(core: Rehearsal) -> None:
        core.subscribe("BTC-USD", FeedKind.BARS, "1m")
        await heard(core, lambda found: found.is_up is True)
        yahoo.vendor.play(CHART, *[Answer(TOO_MANY, status=429, headers={"Retry-After": "1"})] * 2)
        assert "limits requests" in (await heard(core, lambda found: found.is_up is not None)).reason
        await heard(core, lambda found: found.is_up is True)

    rehearse(yahoo.vendor, tmp_path, act)


@pytest.mark.parametrize(
    ("symbol", "kind", "interval", "error"),
    [
        ("BTC-USD", "trades", None, Unsupported),
        ("BTC-USD", "bars", "4h", Unsupported),
        ("NOPE", "bars", "1m", SymbolNotFound),
    ],
)
def test_what_yahoo_does_not_have_is_refused(
    yahoo: Yahoo, tmp_path: Path, symbol: str, kind: str, interval: Any, error: type[Exception]
) -> None:
    async def act(core: Rehearsal) -> None:
        core.subscribe(symbol, kind, interval)
        assert isinstance((await core.next()).error, error)

    rehearse(yahoo.vendor, tmp_path, act)


def test_it_keeps_what_every_stream_must_keep(yahoo: Yahoo, tmp_path: Path) -> None:
    recording = yahoo.symbols["BTC-USD"]
    *before, running = recording.rows["1m"]
    volumes = count(1)

    def chart(seen: Seen) -> Answer:
        recording.rows["1m"] = [*before, (*running[:5], float(next(volumes)))]
        return yahoo.chart(seen)

    yahoo.vendor.serve(CHART, chart)
    yfinance.data.SingletonMeta._instances.clear()
    options = {"base_url": yahoo.vendor.url, "timeout": 10, "poll_seconds": 0.05}
    provider = YahooFinance(options=options, cache_dir=tmp_path)
    assert check_stream(provider, "BTC-USD", "bars", "1m", rows=2, lateness_s=120, settle_s=3) == []
