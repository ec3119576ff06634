"""An interval that no provider has is answered from a finer one that one has, and the reply says so."""

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from e2e.asked import ask, backfill, bars_of, day, get, iso, problem_of, span
from e2e.conftest import ServerMaker
from e2e.running import Server, asking
from e2e.stubs import Stub, true_bars

from timebase.clock import now_us
from timebase.history.adjust import adjust, factor
from timebase.history.resample import periods, resample
from timebase.model.bars import Bars, Flag
from timebase.model.instrument import CorporateAction
from timebase.model.interval import Interval
from timebase.model.timerange import DAY_US, HOUR_US, MINUTE_US, Ranges, TimeRange

MAY = span("2024-05-01", "2024-06-01")
LATE_US = 10**17


@dataclass(frozen=True, slots=True)
class Fine:
    server: Server
    stub: Stub


@pytest.fixture(scope="module")
def fine(new_home: Callable[[], Path], serving: ServerMaker) -> Iterator[Fine]:
    home = new_home()
    stub = Stub("stub-fine", home / "manifests", home / "stubs", intervals=["1m", "1d"])
    with serving(home, breaker_failures=1000) as server:
        yield Fine(server, stub)


@pytest.fixture
async def client(fine: Fine) -> AsyncIterator[httpx.AsyncClient]:
    async with asking(fine.server) as asker:
        yield asker


def made(to: Interval, within: TimeRange, source: Interval, holidays: Ranges | None = None) -> Bars:
    finer = true_bars(source, periods(within, to), holidays)
    return resample(finer, to, LATE_US).within(within.start_us, within.end_us)


@pytest.mark.parametrize("interval", ["5m", "15m", "30m", "1h", "4h"])
async def test_intraday_bars_are_made_of_minutes(fine: Fine, client: httpx.AsyncClient, interval: str) -> None:
    within = span("2024-05-01", "2024-05-03")
    answer = await ask(client, f"MINUTES{interval.upper()}-USD", within, interval)
    assert (answer["interval"], answer["meta"]["resampled_from"]) == (interval, "1m")
    assert answer["meta"]["source"] == "fetched"
    assert (answer["meta"]["coverage"]["complete"], answer["warnings"]) == (True, [])
    assert bars_of(answer).equals(made(Interval(interval), within, Interval.M1))


@pytest.mark.parametrize("interval", ["1wk", "1mo"])
async def test_weeks_and_months_are_made_of_days(fine: Fine, client: httpx.AsyncClient, interval: str) -> None:
    symbol = f"DAYS{interval.upper()}-USD"
    within = span("2024-01-01", "2024-07-01")
    answer = await ask(client, symbol, within, interval)
    assert answer["meta"]["resampled_from"] == "1d"
    assert bars_of(answer).equals(made(Interval(interval), within, Interval.D1))
    # The finer bars are what is stored, whole periods of them: nobody is asked for them again.
    days = await ask(client, symbol, within, "1d")
    assert (days["meta"]["source"], days["meta"]["resampled_from"]) == ("store", None)
    assert [seen.interval for seen in fine.stub.seen(symbol)] == ["1d"]
    assert (await ask(client, symbol, within, interval))["meta"]["source"] == "cache"
    series = (await client.get(f"/api/v1/symbols/{symbol}")).json()["series"]
    assert series == [{"provider": "stub-fine", "interval": "1d"}]


async def test_days_are_not_made_of_minutes_and_the_refusal_says_so(
    new_home: Callable[[], Path], serving: ServerMaker
) -> None:
    home = new_home()
    Stub("minutes-only", home / "manifests", home / "stubs", intervals=["1m"])
    with serving(home) as server:
        async with asking(server) as client:
            for interval in ("1d", "1wk"):
                problem = problem_of(await get(client, "NO-USD", MAY, interval), 422)
                assert problem["code"] == "not_supported"
                assert f"minutes-only: has no {interval} bars, only 1m" in problem["detail"]


async def test_what_a_provider_has_itself_is_not_made(client: httpx.AsyncClient) -> None:
    answer = await ask(client, "NATIVE-USD", span("2024-05-01", "2024-05-02"), "1m")
    assert answer["meta"]["resampled_from"] is None


async def test_only_the_missing_part_is_fetched(fine: Fine, client: httpx.AsyncClient) -> None:
    await ask(client, "HALF-USD", span("2024-05-01", "2024-05-02"), "1m")
    await ask(client, "HALF-USD", span("2024-05-01", "2024-05-03"), "4h")
    assert fine.stub.ranges("HALF-USD") == [span("2024-05-01", "2024-05-02"), span("2024-05-02", "2024-05-03")]


async def test_pages_follow_each_other_and_no_more_is_fetched_than_they_need(
    fine: Fine, client: httpx.AsyncClient
) -> None:
    within = span("2020-01-01", "2024-01-01")
    page = await ask(client, "PAGES-USD", within, "1h", limit=5)
    assert sum(each.length_us for each in fine.stub.ranges("PAGES-USD")) < 10 * DAY_US
    found = [bars_of(page)]
    for _ in range(3):
        page = (await client.get("/api/v1/data/PAGES-USD", params={"cursor": page["next"]})).json()
        found.append(bars_of(page))
    first = TimeRange(within.start_us, within.start_us + 20 * HOUR_US)
    assert Bars.concat(found).equals(made(Interval.H1, first, Interval.M1))
    assert page["meta"]["resampled_from"] == "1m"


async def test_a_limit_without_a_start_keeps_the_newest(client: httpx.AsyncClient) -> None:
    end_us = day("2024-05-03")
    answer = await ask(client, "NEWEST-USD", None, "4h", end=iso(end_us), limit=3)
    assert bars_of(answer).equals(made(Interval.H4, TimeRange(end_us - 12 * HOUR_US, end_us), Interval.M1))
    assert answer["next"] is None


async def test_a_start_inside_a_period_begins_with_the_next_one(client: httpx.AsyncClient) -> None:
    within = TimeRange(day("2024-05-01") + 15 * MINUTE_US, day("2024-05-01") + 3 * HOUR_US)
    answer = await ask(client, "INSIDE-USD", within, "1h")
    assert answer["bars"]["time"] == [(day("2024-05-01") + n * HOUR_US) // 1000 for n in (1, 2)]
    nothing = TimeRange(day("2024-05-01") + 15 * MINUTE_US, day("2024-05-01") + 30 * MINUTE_US)
    assert (await ask(client, "INSIDE-USD", nothing, "1h"))["bars"]["time"] == []


async def test_the_newest_bar_is_forming_until_its_period_is_over(client: httpx.AsyncClient) -> None:
    answer = await ask(client, "FORMING-USD", None, "1wk", start="-40d")
    bars = bars_of(answer)
    this_week_us = Interval.W1.floor_us(now_us())
    assert bars.time[-1] in (this_week_us, this_week_us - Interval.W1.us)  # a Monday may have no bar yet
    assert [bool(flags & Flag.FORMING) for flags in bars.flags] == [at >= this_week_us for at in bars.time]


async def test_a_period_that_is_only_partly_covered_is_named(fine: Fine, client: httpx.AsyncClient) -> None:
    fine.stub.script("PARTLY-USD", {"code": "upstream", "after": 10}, {"code": "upstream"})
    answer = await ask(client, "PARTLY-USD", MAY, "1wk")
    assert not answer["meta"]["coverage"]["complete"]
    assert answer["meta"]["freshness"]["is_stale"]
    assert any("bars are made of less than their whole period" in warning for warning in answer["warnings"])


async def test_a_holiday_is_no_fault(fine: Fine, client: httpx.AsyncClient) -> None:
    holidays = Ranges.of([span("2024-05-04", "2024-05-06"), span("2024-05-06", "2024-05-13")])
    parts = [[each.start_us, each.end_us] for each in holidays.parts]
    fine.stub.script("HOLIDAY-USD", {"holidays": parts})
    within = span("2024-04-29", "2024-05-27")
    answer = await ask(client, "HOLIDAY-USD", within, "1wk")
    assert (answer["meta"]["coverage"]["complete"], answer["warnings"]) == (True, [])
    assert bars_of(answer).equals(made(Interval.W1, within, Interval.D1, holidays))
    assert len(answer["bars"]["time"]) == 3


async def test_a_split_inside_a_period_is_applied_before_the_period_is_made(
    fine: Fine, client: httpx.AsyncClient
) -> None:
    split = {"ex_date_us": day("2024-05-15"), "kind": "split", "value": 4.0}
    fine.stub.script("SPLIT-USD", {"actions": [split]})
    within = span("2024-05-06", "2024-05-27")
    raw = await ask(client, "SPLIT-USD", within, "1wk")
    assert bars_of(raw).equals(made(Interval.W1, within, Interval.D1))
    assert any("a split on 2024-05-15 is inside the bar" in warning for warning in raw["warnings"])

    adjusted = await ask(client, "SPLIT-USD", within, "1wk", adjust="splits")
    days = adjust(true_bars(Interval.D1, within), [factor(CorporateAction(day("2024-05-15"), "split", 4.0), None)])
    assert bars_of(adjusted).equals(resample(days, Interval.W1, LATE_US))
    assert adjusted["warnings"] == []
    assert [each["kind"] for each in adjusted["meta"]["adjustment"]["applied"]] == ["split"]

    later = await ask(client, "SPLIT-USD", span("2024-05-20", "2024-05-27"), "1wk", adjust="splits")
    assert later["meta"]["adjustment"]["applied"] == []


async def test_the_same_answer_has_the_same_etag(client: httpx.AsyncClient) -> None:
    first = await get(client, "ETAG-USD", MAY, "1wk")
    again = await client.get(first.url, headers={"If-None-Match": first.headers["etag"]})
    assert (first.status_code, again.status_code) == (200, 304)


async def test_other_formats_say_it_in_their_header(client: httpx.AsyncClient) -> None:
    reply = await get(client, "HEADER-USD", MAY, "1wk", format="csv")
    assert '"resampled_from":"1d"' in reply.headers["timebase-meta"]
    assert len(reply.text.splitlines()) == 1 + 4  # the Mondays of May 2024


async def test_explain_says_what_would_be_asked_instead(client: httpx.AsyncClient) -> None:
    reply = await client.get("/api/v1/explain/ANY-USD", params={"interval": "4h", "start": "2024-05-01"})
    explained: dict[str, Any] = reply.json()
    assert (explained["interval"], explained["resampled_from"]) == ("4h", "1m")
    assert [each["provider"] for each in explained["candidates"]] == ["stub-fine"]


async def test_a_backfill_fetches_the_finer_bars(fine: Fine, client: httpx.AsyncClient) -> None:
    done = (await backfill(client, "FILL-USD", MAY, "1mo")).json()
    assert (done["interval"], done["fetched"]) == ("1d", 31)
    assert "1mo bars are made of 1d bars" in done["warnings"]
    assert (await ask(client, "FILL-USD", MAY, "1mo"))["meta"]["source"] == "store"


async def test_data_is_as_it_was_known_then(client: httpx.AsyncClient) -> None:
    before = iso(now_us())
    await ask(client, "KNOWN-USD", MAY, "1wk")
    then = await ask(client, "KNOWN-USD", MAY, "1wk", as_of=before)
    assert (then["bars"]["time"], then["meta"]["coverage"]["complete"]) == ([], False)
    since = await ask(client, "KNOWN-USD", MAY, "1wk", as_of=iso(now_us()))
    assert bars_of(since).equals(made(Interval.W1, MAY, Interval.D1))
    assert np.all(bars_of(since).flags == 0)
