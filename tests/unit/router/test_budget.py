"""The rate budget under the scheduler's own clock, counted by a vendor that stands outside."""

import random
from itertools import pairwise

import pytest
import trio
from unit.router.fakes import NOW_US, FakeLedger, Row, Vendor, Wall, live_for

from timebase.errors import RateLimited
from timebase.manifest.manifest import RateWindow
from timebase.model.timerange import DAY_US
from timebase.router.budget import Budget, Limits
from timebase.router.settings import RouterSettings

PER_SECOND = RateWindow(5, 1.0)
PER_DAY = RateWindow(500, 86_400.0)
LIMITS = Limits((PER_SECOND, PER_DAY), max_concurrent=4)
PATIENT = RouterSettings(max_budget_wait_s=1_000_000.0)


async def ask(budget, vendor, limits=LIMITS, key=None, refused=None):
    try:
        async with budget.turn("demo", limits, key=key):
            await vendor.answer()
    except RateLimited as exc:
        if refused is None:
            raise
        refused.append(exc)


async def ask_all(budget, vendor, times, limits=LIMITS, refused=None):
    async with trio.open_nursery() as nursery:
        for n in range(times):
            nursery.start_soon(ask, budget, vendor, limits, f"question {n}", refused)


async def test_two_hundred_questions_at_once_make_no_violation_in_any_sliding_window(autojump_clock):
    vendor = Vendor(way_s=lambda: random.uniform(0, 0.3), work_s=lambda: random.uniform(0, 0.5))

    await ask_all(Budget(FakeLedger(), PATIENT), vendor, 200)

    assert len(vendor.arrivals) == 200
    assert vendor.violations(PER_SECOND, PER_DAY) == []


async def test_an_instant_vendor_gets_nearly_all_that_it_allows(autojump_clock):
    vendor = Vendor()

    await ask_all(Budget(FakeLedger(), PATIENT), vendor, 200)

    assert vendor.violations(PER_SECOND) == []
    assert max(vendor.arrivals) < 200 / 5 * 1.02


@pytest.mark.parametrize("seed", range(10))
async def test_a_restart_in_the_middle_opens_no_window(autojump_clock, seed):
    random.seed(seed)
    vendor = Vendor(way_s=lambda: random.uniform(0, 0.5), work_s=lambda: random.uniform(0, 0.2))
    ledger, wall = FakeLedger(), Wall()
    while len(vendor.arrivals) < 200:
        budget = Budget(ledger, PATIENT, wall_us=wall)
        await live_for(random.uniform(0.01, 8), ask_all, budget, vendor, 200 - len(vendor.arrivals))
        await trio.sleep(random.uniform(0, 0.5))

    assert vendor.violations(PER_SECOND, PER_DAY) == []


async def test_a_request_that_was_on_its_way_at_the_restart_still_counts(autojump_clock):
    ledger, wall, vendor = FakeLedger(), Wall(), Vendor(way_s=1.5)
    async with trio.open_nursery() as nursery:
        for n in range(5):
            nursery.start_soon(ask, Budget(ledger, PATIENT, wall_us=wall), vendor, Limits((PER_SECOND,)), str(n))
        await trio.sleep(1.4)  # the first life is over; its requests arrive in 0.1 s
        await ask_all(Budget(ledger, PATIENT, wall_us=wall), vendor, 5)

    assert len(vendor.arrivals) == 10
    assert vendor.violations(PER_SECOND) == []


async def test_the_days_budget_is_kept_over_many_restarts(autojump_clock):
    ledger, wall, refused, vendor = FakeLedger(), Wall(), [], Vendor()
    for _ in range(6):
        budget = Budget(ledger, RouterSettings(max_budget_wait_s=60.0), wall_us=wall)
        await ask_all(budget, vendor, 100, refused=refused)

    assert len(vendor.arrivals) == 500
    assert len(refused) == 100
    assert all(exc.retry_after_s > 86_000 for exc in refused)


async def test_a_clock_put_back_opens_no_window(autojump_clock):
    wall, vendor = Wall(), Vendor()
    budget = Budget(FakeLedger(), PATIENT, wall_us=wall)
    await ask_all(budget, vendor, 5)
    wall.step(-3_600)
    await ask_all(budget, vendor, 5)

    assert vendor.violations(PER_SECOND) == []
    assert max(vendor.arrivals) < 3


async def test_a_clock_put_back_over_a_restart_opens_no_window(autojump_clock):
    ledger, wall, vendor = FakeLedger(), Wall(), Vendor()
    await ask_all(Budget(ledger, PATIENT, wall_us=wall), vendor, 5)
    wall.step(-3_600)
    await ask_all(Budget(ledger, PATIENT, wall_us=wall), vendor, 5)

    assert vendor.violations(PER_SECOND) == []
    assert max(vendor.arrivals) < 10


async def test_a_clock_put_forward_opens_no_window_while_the_server_lives(autojump_clock):
    wall, vendor = Wall(), Vendor()
    budget = Budget(FakeLedger(), PATIENT, wall_us=wall)
    await ask_all(budget, vendor, 5)
    wall.step(3_600)
    await ask_all(budget, vendor, 5)

    assert vendor.violations(PER_SECOND) == []


async def test_the_ledger_knows_of_a_request_before_it_goes_out(autojump_clock):
    ledger = FakeLedger()
    async with Budget(ledger, wall_us=Wall()).turn("demo", LIMITS, key="AAPL"):
        assert [(row.provider, row.n, row.key) for row in ledger.rows] == [("demo", 1, "AAPL")]


async def test_without_limits_nothing_is_kept_and_nothing_waits(autojump_clock):
    ledger, vendor = FakeLedger(), Vendor()
    before = trio.current_time()

    await ask_all(Budget(ledger), vendor, 1000, Limits())

    assert trio.current_time() == before
    assert (ledger.rows, ledger.loads) == ([], 0)


async def test_questions_go_out_in_the_order_in_which_they_came(autojump_clock):
    budget, order = Budget(FakeLedger(), PATIENT), []

    async def numbered(n):
        async with budget.turn("demo", Limits((RateWindow(1, 1.0),))):
            order.append(n)

    async with trio.open_nursery() as nursery:
        for n in range(20):
            nursery.start_soon(numbered, n)
            await trio.sleep(0.001)

    assert order == list(range(20))


async def test_no_more_questions_at_once_than_the_provider_wants(autojump_clock):
    budget, now, most = Budget(FakeLedger()), 0, 0

    async def one():
        nonlocal now, most
        async with budget.turn("demo", Limits(max_concurrent=3)):
            now += 1
            most = max(most, now)
            await trio.sleep(1)
            now -= 1

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(one)

    assert most == 3


async def test_a_wait_that_is_too_long_is_refused_at_once_and_says_when_to_come_back(autojump_clock):
    budget, vendor, refused = Budget(FakeLedger(), RouterSettings(max_budget_wait_s=10.0)), Vendor(), []
    limits = Limits((RateWindow(5, 60.0),))
    await ask_all(budget, vendor, 5, limits)
    before = trio.current_time()

    with pytest.raises(RateLimited, match=r"5 per 60 s\) is used up; the next request may go in 6") as caught:
        await ask(budget, vendor, limits)

    assert trio.current_time() == before
    assert 59 < caught.value.retry_after_s < 61
    assert refused == []


async def test_nobody_waits_longer_than_its_caller_has_left(autojump_clock):
    budget, vendor = Budget(FakeLedger()), Vendor()
    limits = Limits((RateWindow(1, 20.0),))
    await ask(budget, vendor, limits)
    before = trio.current_time()

    with trio.fail_after(5), pytest.raises(RateLimited):
        await ask(budget, vendor, limits)

    assert trio.current_time() == before


async def test_a_busy_provider_is_not_waited_for_for_ever(autojump_clock):
    budget = Budget(FakeLedger(), RouterSettings(max_budget_wait_s=30.0))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, budget, Vendor(work_s=1000), Limits(max_concurrent=1))
        await trio.sleep(1)
        with pytest.raises(RateLimited, match="busy with 1 question"):
            await ask(budget, Vendor(), Limits(max_concurrent=1))
        assert trio.current_time() == pytest.approx(31, abs=0.1)
        nursery.cancel_scope.cancel()


async def test_a_cancelled_question_gives_its_place_back(autojump_clock):
    budget, vendor = Budget(FakeLedger(), PATIENT), Vendor()
    limits = Limits((RateWindow(1, 10.0),), max_concurrent=1)
    await ask(budget, vendor, limits)
    await live_for(2, ask, budget, vendor, limits)
    await ask(budget, vendor, limits)

    assert [round(b - a) for a, b in pairwise(vendor.arrivals)] == [10]


async def test_the_same_question_is_not_repeated_within_its_window(autojump_clock):
    budget, vendor = Budget(FakeLedger(), PATIENT), Vendor()
    limits = Limits(identical_window_s=15.0)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(ask, budget, vendor, limits, "AAPL 1d")
        nursery.start_soon(ask, budget, vendor, limits, "MSFT 1d")

    assert [round(at) for at in sorted(vendor.arrivals)] == [0, 0, 15, 30]
    assert all(b - a >= 15 for a, b in pairwise(sorted(vendor.arrivals)[1:]))


async def test_the_same_question_is_not_repeated_after_a_restart_either(autojump_clock):
    ledger, wall, vendor = FakeLedger(), Wall(), Vendor()
    limits = Limits(identical_window_s=15.0)
    for _ in range(2):
        await ask(Budget(ledger, PATIENT, wall_us=wall), vendor, limits, "AAPL 1d")

    assert vendor.arrivals[1] - vendor.arrivals[0] >= 15


async def test_who_repeats_a_question_does_not_hold_up_who_does_not(autojump_clock):
    budget, vendor = Budget(FakeLedger(), PATIENT), Vendor()
    limits = Limits((RateWindow(50, 1.0),), identical_window_s=15.0)
    async with trio.open_nursery() as nursery:
        for key in ("AAPL", "AAPL", "MSFT"):
            nursery.start_soon(ask, budget, vendor, limits, key)

    assert [round(at) for at in sorted(vendor.arrivals)] == [0, 0, 15]


async def test_pages_are_counted_one_by_one(autojump_clock):
    budget, vendor = Budget(FakeLedger(), PATIENT), Vendor()
    limits = Limits((PER_SECOND,), max_concurrent=8)

    async def paging():
        async with budget.turn("demo", limits):
            await vendor.answer()
            for _ in range(10):
                await budget.take("demo", limits)
                await vendor.answer()

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(paging)

    assert len(vendor.arrivals) == 88
    assert vendor.violations(PER_SECOND) == []


async def test_questions_that_page_do_not_wait_for_each_other_for_ever(autojump_clock):
    """Both hold a place and the window's only requests while they wait for more."""
    budget, vendor = Budget(FakeLedger(), PATIENT), Vendor()
    limits = Limits((RateWindow(2, 1.0),), max_concurrent=2)

    async def paging():
        async with budget.turn("demo", limits):
            await vendor.answer()
            await budget.take("demo", limits)
            await vendor.answer()

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(paging)

    assert vendor.violations(RateWindow(2, 1.0)) == []
    assert max(vendor.arrivals) < 9


async def test_a_page_does_not_wait_so_long_that_its_provider_seems_mute(autojump_clock):
    budget = Budget(FakeLedger())
    limits = Limits((RateWindow(1, 20.0),))
    await budget.take("demo", limits)

    with pytest.raises(RateLimited) as caught:
        await budget.take("demo", limits)

    assert 19 < caught.value.retry_after_s < 22


async def test_a_slow_ledger_does_not_make_requests_arrive_uncounted(autojump_clock):
    ledger, vendor = FakeLedger(slow_s=[6.0] * 5), Vendor(way_s=0.5)
    await ask_all(Budget(ledger, PATIENT), vendor, 10, Limits((PER_SECOND,), max_concurrent=10))

    assert vendor.violations(PER_SECOND) == []


async def test_thousands_may_wait_without_anyone_counting_them_again_and_again(autojump_clock):
    refused, vendor = [], Vendor()
    await ask_all(Budget(FakeLedger()), vendor, 5_000, Limits((PER_SECOND,), max_concurrent=1_000), refused)

    assert 145 <= len(vendor.arrivals) <= 155
    assert len(refused) == 5_000 - len(vendor.arrivals)


async def test_more_pages_than_a_window_holds_are_refused_and_not_waited_for(autojump_clock):
    with pytest.raises(RateLimited, match="less than this needs at once"):
        await Budget(FakeLedger()).take("demo", Limits((PER_SECOND,)), 6)


async def test_a_vendor_that_has_had_enough_is_left_alone_as_long_as_it_says(autojump_clock):
    budget, vendor = Budget(FakeLedger(), PATIENT), Vendor()
    budget.pause("demo", LIMITS, 42.0)

    await ask(budget, vendor)

    assert vendor.arrivals == [pytest.approx(42.0, abs=0.01)]


async def test_a_vendor_that_does_not_say_how_long_is_left_alone_for_longer_each_time(autojump_clock):
    budget = Budget(FakeLedger())
    pauses = [budget.pause("demo", LIMITS, None) for _ in range(8)]
    budget.forgive("demo")

    assert pauses == [15, 30, 60, 120, 240, 480, 900, 900]
    assert budget.pause("demo", LIMITS, None) == 15


async def test_a_paused_vendor_says_so_to_those_who_cannot_wait(autojump_clock):
    budget = Budget(FakeLedger())
    budget.pause("demo", LIMITS, 100.0)

    assert budget.wait_s("demo", LIMITS) == 100.0
    with pytest.raises(RateLimited, match="asked not to be asked") as caught:
        await ask(budget, Vendor())
    assert caught.value.retry_after_s == 100.0


async def test_while_the_ledger_is_away_the_budget_goes_on_from_memory_and_tells_it_later(autojump_clock):
    ledger, vendor, wall = FakeLedger(is_away=True), Vendor(), Wall()
    budget = Budget(ledger, PATIENT, wall_us=wall)
    await ask_all(budget, vendor, 7)
    ledger.is_away = False
    await ask(budget, vendor, key="the eighth")

    assert vendor.violations(PER_SECOND) == []
    assert len(ledger.rows) == 8
    assert ledger.rows[-1].key == "the eighth"
    assert budget.left("demo", LIMITS)[1] == (PER_DAY, 492)


async def test_what_was_spent_is_known_before_the_first_question_when_asked_for(autojump_clock):
    wall = Wall()
    ledger = FakeLedger([Row("demo", NOW_US - DAY_US // 2, 100, None), Row("other", NOW_US, 400, None)])
    budget = Budget(ledger, wall_us=wall)
    await budget.restore("demo", LIMITS)

    assert budget.left("demo", LIMITS) == ((PER_SECOND, 5), (PER_DAY, 400))


async def test_the_ledger_is_read_once(autojump_clock):
    ledger = FakeLedger()
    budget = Budget(ledger, PATIENT)
    await ask_all(budget, Vendor(), 20)
    await budget.restore("demo", LIMITS)

    assert ledger.loads == 1


async def test_limits_that_are_tightened_while_it_runs_hold_from_the_next_question(autojump_clock):
    budget, vendor = Budget(FakeLedger(), PATIENT, wall_us=Wall()), Vendor()
    await ask_all(budget, vendor, 10)
    tight = Limits((RateWindow(1, 1.0),), max_concurrent=1)
    began = len(vendor.arrivals)
    await ask_all(budget, vendor, 5, tight)

    assert all(b - a > 1 for a, b in pairwise(vendor.arrivals[began:]))


async def test_a_question_that_is_cancelled_while_it_is_written_down_is_not_under_way_for_ever(autojump_clock):
    budget, vendor = Budget(FakeLedger(slow_s=[100.0]), PATIENT), Vendor()
    limits = Limits((RateWindow(1, 10.0),), max_concurrent=1)
    await live_for(3, ask, budget, vendor, limits)
    await ask(budget, vendor, limits)

    assert vendor.arrivals == [pytest.approx(13.0, abs=0.1)]


async def test_old_questions_are_forgotten_once_their_identical_window_is_over(autojump_clock):
    ledger, wall, vendor = FakeLedger(), Wall(), Vendor()
    budget, limits = Budget(ledger, PATIENT, wall_us=wall), Limits(identical_window_s=15.0, max_concurrent=100)
    await ask_all(budget, vendor, 1_200, limits)
    await trio.sleep(20)
    before = trio.current_time()
    await ask(budget, vendor, limits, "question 7")

    assert trio.current_time() - before < 0.01
