"""One demand at one provider: budget, circuit, retries, and what is remembered of it."""

import logging

import pytest
import trio
from unit.router.fakes import (
    AAPL,
    NOW_US,
    FakeLedger,
    FakeProvider,
    FakeRoster,
    Row,
    Vendor,
    Wall,
    demand,
    live_for,
    manifest,
    question,
)

from timebase.errors import (
    AuthFailed,
    Empty,
    Malformed,
    ProviderError,
    RateLimited,
    StoreUnavailable,
    SymbolNotFound,
    Unavailable,
    Unsupported,
    Upstream,
    UpstreamTimeout,
)
from timebase.manifest.manifest import RateWindow, Reach
from timebase.model.interval import Interval
from timebase.model.timerange import DAY_US, TimeRange
from timebase.router.pruner import run_pruner
from timebase.router.router import Router
from timebase.router.settings import RouterSettings


class Desk:
    """A router with one provider, and a script of what that answers."""

    def __init__(self, *outcomes, provider=None, ledger=None, wall_us=lambda: NOW_US, settings=None, **claims):
        self.provider = provider or FakeProvider(manifest(**claims))
        self.roster = FakeRoster(self.provider)
        self.ledger = ledger or FakeLedger()
        self.router = Router(self.roster, self.ledger, settings or RouterSettings(), wall_us=wall_us)
        self.outcomes = list(outcomes)
        self.asked = []  # when, and for what
        self.attempts = []

    async def answer(self, demanded):
        self.asked.append((trio.current_time(), demanded))
        await trio.lowlevel.checkpoint()
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if callable(outcome):
            outcome = await outcome()
        if isinstance(outcome, Exception):
            raise outcome

    async def fetch(self, n=0, **parts):
        (candidate,) = self.router.plan(question(), AAPL).candidates
        return await self.router.fetch(candidate, demand(n, **parts), self.answer, self.attempts)

    async def fails(self, times=1):
        for _ in range(times):
            with pytest.raises(ProviderError):
                await self.fetch()

    @property
    def circuit(self):
        return self.router.facts("demo")["circuit"]["state"]


def after(seconds):
    async def outcome():
        await trio.sleep(seconds)

    return outcome


ONE_TRY = RouterSettings(max_retries=0)


async def test_an_answer_is_an_attempt_that_says_how_long_it_took(autojump_clock):
    desk = Desk(after(0.12))

    attempt = await desk.fetch()

    assert (attempt.provider, attempt.outcome, attempt.ms) == ("demo", "ok", 120)
    assert desk.attempts == [attempt]
    assert desk.router.facts("demo")["response_ms"] == 120.0


@pytest.mark.parametrize("error", [Upstream("503"), UpstreamTimeout("no answer")])
async def test_what_may_pass_is_asked_again_twice_with_growing_pauses(autojump_clock, error):
    desk = Desk(error, error, error, error)

    with pytest.raises(type(error)):
        await desk.fetch()

    first, second, third = (at for at, _ in desk.asked)
    assert 0.125 <= second - first <= 0.26
    assert 0.25 <= third - second <= 0.51
    assert [attempt.outcome for attempt in desk.attempts] == [error.code] * 3


async def test_a_retry_that_succeeds_is_an_answer(autojump_clock):
    desk = Desk(Upstream("503"))

    assert (await desk.fetch()).outcome == "ok"
    assert [attempt.outcome for attempt in desk.attempts] == ["upstream", "ok"]


@pytest.mark.parametrize(
    "error",
    [
        AuthFailed("wrong key"),
        Unsupported("no such interval"),
        SymbolNotFound("AAPL"),
        Empty("nothing"),
        Malformed("garbage"),
        Unavailable("died"),
        RateLimited("come back later"),
        RateLimited("come back later", retry_after_s=60.0),
    ],
)
async def test_what_asking_again_cannot_help_is_asked_once(autojump_clock, error):
    desk = Desk(error)

    with pytest.raises(type(error)):
        await desk.fetch()

    assert len(desk.asked) == 1


async def test_a_short_pause_that_the_vendor_asks_for_is_waited_once(autojump_clock):
    desk = Desk(RateLimited(retry_after_s=3.0), RateLimited(retry_after_s=3.0))

    with pytest.raises(RateLimited):
        await desk.fetch()

    assert [round(at) for at, _ in desk.asked] == [0, 3]


async def test_no_retry_is_begun_that_the_callers_deadline_would_cut_off(autojump_clock):
    desk = Desk(Upstream("503"))

    with trio.fail_after(0.1), pytest.raises(Upstream):
        await desk.fetch()

    assert len(desk.asked) == 1


async def test_a_try_that_took_long_is_not_repeated(autojump_clock):
    async def slow():
        await trio.sleep(20)
        return UpstreamTimeout("silent for 20 s")

    desk = Desk(slow)
    with pytest.raises(UpstreamTimeout):
        await desk.fetch()

    assert len(desk.asked) == 1


async def test_a_vendor_that_forbids_identical_questions_is_not_asked_again_at_once(autojump_clock):
    desk = Desk(Upstream("503"), identical_window_s=15.0)

    await desk.fails()

    assert len(desk.asked) == 1


async def test_a_vendors_rate_limit_keeps_everyone_away_for_as_long_as_it_says(autojump_clock):
    desk = Desk(RateLimited(retry_after_s=20.0))
    await desk.fails()

    await desk.fetch(1)

    assert [round(at) for at, _ in desk.asked] == [0, 20]


async def test_five_failures_open_the_circuit_and_nobody_is_asked_for_a_minute(autojump_clock, caplog):
    desk = Desk(*[Upstream("503")] * 5, settings=ONE_TRY)
    with caplog.at_level(logging.WARNING):
        await desk.fails(5)

    with pytest.raises(Unavailable, match="its circuit is open after 5 failures, for 60 s more"):
        await desk.fetch()

    assert len(desk.asked) == 5
    assert "the circuit of demo is open for 60 s: 503" in caplog.text
    await trio.sleep(60)
    assert desk.circuit == "half_open"


async def test_two_successes_after_a_minute_close_it(autojump_clock):
    desk = Desk(*[Malformed("garbage")] * 5, settings=ONE_TRY)
    await desk.fails(5)
    await trio.sleep(60)

    await desk.fetch()
    assert desk.circuit == "half_open"
    await desk.fetch()
    assert desk.circuit == "closed"


async def test_half_open_lets_one_question_through_and_refuses_the_others(autojump_clock):
    desk = Desk(*[Upstream("503")] * 5, after(1), settings=ONE_TRY)
    await desk.fails(5)
    await trio.sleep(60)
    refused = []

    async def one():
        try:
            await desk.fetch()
        except Unavailable as exc:
            refused.append(str(exc))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(one)

    assert len(desk.asked) == 6
    assert refused == ["its circuit is half open, and a first question is under way"] * 4


@pytest.mark.parametrize(
    "error", [AuthFailed(""), Unsupported(""), SymbolNotFound(""), Empty(""), Unavailable(""), RateLimited("")]
)
async def test_what_is_not_the_vendors_failure_does_not_open_the_circuit(autojump_clock, error):
    desk = Desk(*[error] * 10, settings=RouterSettings(max_retries=0, limited_pause_s=0.0))
    await desk.fails(10)

    assert desk.circuit == "closed"


async def test_the_circuits_numbers_are_the_operators(autojump_clock):
    settings = RouterSettings(max_retries=0, breaker_failures=2, breaker_open_s=5.0, breaker_successes=1)
    desk = Desk(Upstream(""), Upstream(""), settings=settings)
    await desk.fails(2)
    assert desk.circuit == "open"
    await trio.sleep(5)
    await desk.fetch()

    assert desk.circuit == "closed"


async def test_who_is_mute_until_its_asker_gives_up_has_failed(autojump_clock):
    desk = Desk(*[trio.sleep_forever] * 5)
    for _ in range(5):
        with trio.move_on_after(15):
            await desk.fetch()

    assert desk.circuit == "open"
    assert desk.router.facts("demo")["last_fault"]["code"] == "timeout"


async def test_an_asker_that_leaves_soon_says_nothing_about_the_provider(autojump_clock):
    desk = Desk(*[trio.sleep_forever] * 9)
    for _ in range(9):
        with trio.move_on_after(0.5):
            await desk.fetch()

    assert desk.circuit == "closed"
    assert desk.router.facts("demo")["failed"] == 0


async def test_a_probe_whose_asker_leaves_makes_room_for_the_next(autojump_clock):
    desk = Desk(*[Upstream("")] * 5, trio.sleep_forever, settings=ONE_TRY)
    await desk.fails(5)
    await trio.sleep(60)
    with trio.move_on_after(1):
        await desk.fetch()

    assert (await desk.fetch()).outcome == "ok"


async def test_an_error_of_our_own_is_not_held_against_the_provider(autojump_clock):
    desk = Desk(*[StoreUnavailable("away")] * 9)
    for _ in range(9):
        with pytest.raises(StoreUnavailable):
            await desk.fetch()

    assert (desk.circuit, desk.router.facts("demo")["failed"]) == ("closed", 0)


async def test_questions_that_wait_while_the_circuit_opens_are_not_asked_any_more(autojump_clock):
    desk = Desk(*[Upstream("503")] * 20, rate_limits=(RateWindow(1, 1.0),), settings=ONE_TRY)
    codes = []

    async def one(n):
        try:
            await desk.fetch(n)
        except ProviderError as exc:
            codes.append(exc.code)

    async with trio.open_nursery() as nursery:
        for n in range(20):
            nursery.start_soon(one, n)

    assert len(desk.asked) == 5
    assert sorted(codes) == ["unavailable"] * 15 + ["upstream"] * 5


async def test_a_provider_that_is_starting_is_waited_for_before_its_budget_is_touched(autojump_clock):
    ledger, ready = FakeLedger(), trio.Event()
    provider = FakeProvider(manifest(rate_limits=(RateWindow(5, 1.0),)), "starting", ready=ready)
    desk = Desk(provider=provider, ledger=ledger)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.fetch)
        await trio.sleep(1)
        assert (desk.asked, ledger.rows) == ([], [])
        ready.set()

    assert len(desk.asked) == len(ledger.rows) == 1


async def test_a_provider_that_does_not_get_ready_is_given_up(autojump_clock):
    desk = Desk(provider=FakeProvider(manifest(), "starting", ready=trio.Event()))

    with pytest.raises(Unavailable, match="still starting"):
        await desk.fetch()

    assert trio.current_time() == 5.0


async def test_a_provider_that_was_removed_in_the_meantime_is_unavailable(autojump_clock):
    desk = Desk()
    (candidate,) = desk.router.plan(question(), AAPL).candidates
    desk.roster.remove("demo")

    with pytest.raises(Unavailable, match="removed"):
        await desk.router.fetch(candidate, demand(), desk.answer)
    with pytest.raises(Unavailable, match="removed"):
        await desk.router.spend("demo", 1)


async def test_only_what_the_history_reaches_is_asked_for(autojump_clock):
    desk = Desk(history={Interval.D1: Reach(back_us=10 * DAY_US)})

    await desk.fetch(range=TimeRange(NOW_US - 30 * DAY_US, NOW_US))
    assert desk.asked[0][1].range == TimeRange(NOW_US - 10 * DAY_US, NOW_US)

    with pytest.raises(Unsupported, match="do not go back to"):
        await desk.fetch(range=TimeRange(NOW_US - 30 * DAY_US, NOW_US - 20 * DAY_US))
    assert len(desk.asked) == 1


async def test_two_hundred_different_questions_make_no_violation_also_across_a_restart(autojump_clock):
    windows = (RateWindow(5, 1.0), RateWindow(500, 86_400.0))
    ledger, wall, vendor = FakeLedger(), Wall(), Vendor(way_s=0.05, work_s=0.1)
    settings = RouterSettings(max_budget_wait_s=3_600.0)

    async def life(numbers):
        desk = Desk(ledger=ledger, wall_us=wall, settings=settings, rate_limits=windows, max_concurrent=16)
        desk.answer = vendor.answer
        async with trio.open_nursery() as nursery:
            for n in numbers:
                nursery.start_soon(desk.fetch, n)

    await live_for(9.3, life, range(200))
    asked = len(vendor.arrivals)
    await life(range(asked, 200))

    assert 20 < asked < 60
    assert len(vendor.arrivals) == 200
    assert vendor.violations(*windows) == []


async def test_pages_come_out_of_the_same_budget(autojump_clock):
    desk = Desk(rate_limits=(RateWindow(3, 60.0),))
    await desk.fetch()
    await desk.router.spend("demo", 2)

    assert desk.router.facts("demo")["budget"] == [{"requests": 3, "window_s": 60.0, "left": 0}]


async def test_the_facts_of_a_provider_are_plain_data(autojump_clock):
    desk = Desk(Upstream("503"), settings=ONE_TRY)
    await desk.fails()

    assert desk.router.facts("demo") == {
        "circuit": {"state": "closed", "retry_in_s": 0.0},
        "budget": [],
        "asked": 1,
        "failed": 1,
        "reliability": 0.8,
        "response_ms": None,
        "last_fault": {"code": "upstream", "message": "503", "at": NOW_US // 1000},
    }


@pytest.mark.parametrize(("windows", "kept"), [((), 1), ((RateWindow(1, 1.0), RateWindow(9, 2_592_000.0)), 2)])
async def test_the_ledger_remembers_as_long_as_the_longest_window_and_a_day_at_least(autojump_clock, windows, kept):
    rows = [Row("demo", NOW_US - days * DAY_US, 1, None) for days in (60, 20, 0)]
    desk = Desk(ledger=FakeLedger(rows), rate_limits=windows)

    await desk.router.prune_ledger()

    assert desk.ledger.rows == rows[-kept:]


async def test_the_ledger_is_pruned_every_hour_and_when_it_is_away_an_hour_later(autojump_clock):
    old = Row("demo", NOW_US - 60 * DAY_US, 1, None)
    desk = Desk(ledger=FakeLedger([old], is_away=True))
    async with trio.open_nursery() as nursery:
        await nursery.start(run_pruner, desk.router)
        await trio.sleep(3_601)
        desk.ledger.is_away = False
        assert desk.ledger.rows == [old]
        await trio.sleep(3_600)
        assert desk.ledger.rows == []
        nursery.cancel_scope.cancel()


async def test_a_provider_that_fell_and_starts_again_in_a_moment_is_waited_for(autojump_clock):
    fallen = FakeProvider(manifest(), "backing_off", "killed", next_retry_us=NOW_US + 250_000)
    desk = Desk(provider=fallen, wall_us=Wall())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.fetch)
        await trio.sleep(0.3)
        assert desk.asked == []
        fallen.state = "ready"

    assert desk.attempts[0].outcome == "ok"
    assert trio.current_time() < 0.5


async def test_a_provider_that_rests_for_long_is_not_waited_for(autojump_clock):
    desk = Desk(provider=FakeProvider(manifest(), "backing_off", "exit code 1", next_retry_us=NOW_US + 30_000_000))

    with pytest.raises(Unavailable, match="exit code 1"):
        await desk.fetch()

    assert trio.current_time() == 0


async def test_waiting_for_the_budget_is_not_held_against_a_retry(autojump_clock):
    desk = Desk(None, Upstream("503"), rate_limits=(RateWindow(2, 20.0),))
    await desk.fetch(0)
    desk.router.facts("demo")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.fetch, 1)

    assert [attempt.outcome for attempt in desk.attempts] == ["ok", "upstream", "ok"]
