"""Acceptance 3: what is held is not asked for again, what is not is, and nothing else."""

import httpx
import pytest
from e2e.asked import ask, backfill, bars_of, get, iso, problem_of, settled_us, span
from e2e.conftest import Hall
from e2e.stubs import true_bars

from timebase.clock import now_us
from timebase.model.interval import Interval
from timebase.model.timerange import DAY_US, HOUR_US, Ranges, TimeRange


async def test_with_half_of_a_range_cached_the_provider_is_asked_for_exactly_the_other_half(
    hall: Hall, client: httpx.AsyncClient
) -> None:
    half, whole = span("2024-01-01", "2024-01-05"), span("2024-01-01", "2024-01-09")
    await ask(client, "HALF-USD", half)
    answer = await ask(client, "HALF-USD", whole)
    assert hall.a.ranges("HALF-USD") == [half, span("2024-01-05", "2024-01-09")]
    assert bars_of(answer).equals(true_bars(Interval.H1, whole))
    assert answer["meta"]["coverage"] == {"complete": True, "missing": []}


async def test_with_the_middle_cached_the_provider_is_asked_for_both_ends(
    hall: Hall, client: httpx.AsyncClient
) -> None:
    await ask(client, "MIDDLE-USD", span("2024-01-03", "2024-01-05"))
    answer = await ask(client, "MIDDLE-USD", span("2024-01-01", "2024-01-09"))
    assert hall.a.ranges("MIDDLE-USD")[1:] == [span("2024-01-01", "2024-01-03"), span("2024-01-05", "2024-01-09")]
    assert bars_of(answer).equals(true_bars(Interval.H1, span("2024-01-01", "2024-01-09")))


async def test_what_is_cached_is_answered_without_the_provider(hall: Hall, client: httpx.AsyncClient) -> None:
    whole = span("2024-01-01", "2024-01-09")
    sources = [(await ask(client, "TWICE-USD", whole))["meta"]["source"] for _ in range(2)]
    part = await ask(client, "TWICE-USD", span("2024-01-02", "2024-01-04"))
    assert [*sources, part["meta"]["source"]] == ["fetched", "cache", "store"]
    assert len(hall.a.seen("TWICE-USD")) == 1


async def test_a_holiday_that_the_provider_confirmed_is_fetched_once(hall: Hall, client: httpx.AsyncClient) -> None:
    holiday = span("2024-12-25", "2024-12-26")
    hall.a.script("HOLIDAY-USD", {"holidays": [[holiday.start_us, holiday.end_us]]})
    for _ in range(2):
        answer = await ask(client, "HOLIDAY-USD", holiday)
        assert answer["bars"]["time"] == []
        assert answer["meta"]["coverage"]["complete"]
    assert hall.a.ranges("HOLIDAY-USD") == [holiday]

    week = span("2024-12-23", "2024-12-28")
    answer = await ask(client, "HOLIDAY-USD", week)
    assert bars_of(answer).equals(true_bars(Interval.H1, week, Ranges((holiday,))))
    assert holiday not in hall.a.ranges("HOLIDAY-USD")[1:]
    assert [series["coverage"]["empty"] for series in await _ledger(client, "HOLIDAY-USD")] == [
        [[holiday.start_us // 1000, holiday.end_us // 1000]]
    ]


@pytest.mark.parametrize("code", ["empty", "nothing"])
async def test_both_ways_to_say_that_there_is_nothing_are_believed(
    hall: Hall, client: httpx.AsyncClient, code: str
) -> None:
    symbol = f"{code.upper()}-USD"
    hall.a.script(symbol, {"code": "empty"} if code == "empty" else {"empty": True})
    for _ in range(2):
        assert (await ask(client, symbol, span("2024-01-06", "2024-01-08"), provider="stub-a"))["bars"]["time"] == []
    assert len(hall.a.seen(symbol)) == 1


async def test_a_failed_fetch_is_asked_again(hall: Hall, client: httpx.AsyncClient) -> None:
    whole = span("2024-01-01", "2024-01-03")
    hall.a.script("FAILED-USD", {"code": "malformed"}, {})
    problem_of(await get(client, "FAILED-USD", whole, provider="stub-a"), 502)
    assert await settled_us(client, "FAILED-USD") == 0
    answer = await ask(client, "FAILED-USD", whole)
    assert bars_of(answer).equals(true_bars(Interval.H1, whole))
    assert hall.a.ranges("FAILED-USD") == [whole, whole]


async def test_after_a_partial_fetch_only_what_was_not_given_is_asked_again(
    hall: Hall, client: httpx.AsyncClient
) -> None:
    whole = span("2024-01-01", "2024-01-03")
    hall.a.script("PARTIAL-USD", {"code": "malformed", "after": 10, "page": 4}, {})
    broken_us = whole.start_us + 10 * HOUR_US
    first = await ask(client, "PARTIAL-USD", whole, provider="stub-a")
    assert bars_of(first).equals(true_bars(Interval.H1, TimeRange(whole.start_us, broken_us)))
    assert first["meta"]["coverage"] == {
        "complete": False, "missing": [[broken_us // 1000, whole.end_us // 1000, "partial"]]
    }  # fmt: skip
    assert [each["outcome"] for each in first["meta"]["attempts"]] == ["malformed"]
    assert first["warnings"]

    second = await ask(client, "PARTIAL-USD", whole)
    assert bars_of(second).equals(true_bars(Interval.H1, whole))
    assert hall.a.ranges("PARTIAL-USD") == [whole, TimeRange(broken_us, whole.end_us)]


async def test_a_retry_goes_on_where_the_answer_broke_off(hall: Hall, client: httpx.AsyncClient) -> None:
    whole = span("2024-01-01", "2024-01-03")
    hall.a.script("RETRY-USD", {"code": "upstream", "after": 10}, {})
    answer = await ask(client, "RETRY-USD", whole)
    assert bars_of(answer).equals(true_bars(Interval.H1, whole))
    assert hall.a.ranges("RETRY-USD") == [whole, TimeRange(whole.start_us + 10 * HOUR_US, whole.end_us)]
    assert [each["outcome"] for each in answer["meta"]["attempts"]] == ["upstream", "ok"]


async def test_a_refresh_that_breaks_off_keeps_what_is_known(hall: Hall, client: httpx.AsyncClient) -> None:
    whole = span("2024-01-01", "2024-01-03")
    hall.a.script("REFRESH-USD", {}, {"code": "malformed", "after": 10}, {})
    await ask(client, "REFRESH-USD", whole)
    answer = await ask(client, "REFRESH-USD", whole, refresh="true", provider="stub-a")
    assert bars_of(answer).equals(true_bars(Interval.H1, whole))
    assert answer["meta"]["freshness"]["is_stale"]
    assert (await ask(client, "REFRESH-USD", whole))["meta"]["coverage"]["complete"]
    assert len(hall.a.seen("REFRESH-USD")) == 2


async def test_a_backfill_leaves_a_range_that_is_answered_without_the_provider(
    hall: Hall, client: httpx.AsyncClient
) -> None:
    whole = span("2024-01-01", "2024-01-03")
    done = (await backfill(client, "FILLED-USD", whole)).json()
    assert (done["fetched"], done["coverage"]["complete"]) == (2 * 1440, True)
    assert (await backfill(client, "FILLED-USD", whole)).json()["fetched"] == 0
    answer = await ask(client, "FILLED-USD", whole, "1m")
    assert bars_of(answer).equals(true_bars(Interval.M1, whole))
    assert len(hall.a.seen("FILLED-USD")) == 1


async def _ledger(client: httpx.AsyncClient, symbol: str) -> list[dict]:
    return (await client.get(f"/api/v1/coverage/{symbol}")).json()["series"]


async def test_the_first_few_bars_of_a_long_range_cost_no_more_than_they_need(
    hall: Hall, client: httpx.AsyncClient
) -> None:
    year = span("2023-01-01", "2024-01-01")
    first = await ask(client, "FEW-USD", year, limit=5)
    assert bars_of(first).equals(true_bars(Interval.H1, year).pick(slice(5)))
    (asked,) = hall.a.ranges("FEW-USD")
    assert asked.length_us <= 3 * DAY_US

    second = await ask(client, "FEW-USD", year, cursor=first["next"])
    assert bars_of(second).equals(true_bars(Interval.H1, year).pick(slice(5, 10)))


async def test_the_first_few_bars_are_found_behind_a_long_silence(hall: Hall, client: httpx.AsyncClient) -> None:
    year, silence = span("2023-01-01", "2024-01-01"), span("2023-01-01", "2023-03-01")
    hall.a.script("SILENT-USD", {"holidays": [[silence.start_us, silence.end_us]]})
    answer = await ask(client, "SILENT-USD", year, limit=5)
    assert bars_of(answer).equals(true_bars(Interval.H1, year, Ranges((silence,))).pick(slice(5)))


async def test_an_answer_as_of_then_has_the_coverage_of_then(hall: Hall, client: httpx.AsyncClient) -> None:
    first, both = span("2024-01-01", "2024-01-02"), span("2024-01-01", "2024-01-03")
    before = iso(now_us())
    await ask(client, "THEN-USD", first)
    between = iso(now_us())
    await ask(client, "THEN-USD", both)
    after = iso(now_us())

    lacks = {at: (await ask(client, "THEN-USD", both, as_of=at))["meta"]["coverage"] for at in (before, between, after)}
    assert [each["complete"] for each in lacks.values()] == [False, False, True]
    day_ms, start_ms = DAY_US // 1000, both.start_us // 1000
    assert lacks[before]["missing"] == [[start_ms, start_ms + 2 * day_ms, "not known then"]]
    assert lacks[between]["missing"] == [[start_ms + day_ms, start_ms + 2 * day_ms, "not known then"]]
    assert (await ask(client, "THEN-USD", both))["meta"]["coverage"]["complete"]
