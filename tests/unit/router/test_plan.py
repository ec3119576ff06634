"""Who is asked, in which order, and why not the others."""

from contextlib import suppress

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from unit.router.fakes import AAPL, NOW_US, FakeLedger, FakeProvider, FakeRoster, demand, manifest, question

from timebase.errors import ProviderError, Upstream
from timebase.manifest.manifest import HISTORICAL_DATA, REAL_TIME_STREAMING, RateWindow, Reach
from timebase.model.feed import FeedKind, parse_channel
from timebase.model.instrument import AssetClass, Instrument
from timebase.model.interval import Interval
from timebase.model.timerange import DAY_US, MINUTE_US, TimeRange
from timebase.router.record import Record
from timebase.router.router import Router
from timebase.router.rules import RoutingRule
from timebase.router.settings import RouterSettings, Weights


def router_of(*providers, ledger=None, **settings):
    roster = FakeRoster(*(p if isinstance(p, FakeProvider) else FakeProvider(p) for p in providers))
    return Router(roster, ledger or FakeLedger(), RouterSettings(**settings), wall_us=lambda: NOW_US)


def order(plan):
    return [candidate.slug for candidate in plan.candidates]


async def why_not(refused, **parts):
    plan = router_of(refused).plan(question(**parts), AAPL)
    assert plan.candidates == ()
    return plan.refused[0].reason


@pytest.mark.parametrize(
    ("claims", "parts", "reason"),
    [
        ({"capabilities": frozenset()}, {}, "has no historical_data"),
        ({"asset_classes": frozenset({AssetClass.CRYPTO})}, {}, "does not serve the asset class stock, only crypto"),
        ({}, {"interval": Interval.H1}, "has no 1h bars, only 1m, 1d"),
        ({"symbols": (Instrument(0, "DEMO-FX", AssetClass.FOREX),)}, {}, "serves only DEMO-FX"),
        ({}, {"provider": "other"}, "the question asks for other only"),
        ({"only_by_name": True}, {}, "is asked only by who names it: provider=demo"),
        ({"history": {Interval.D1: Reach(since_us=NOW_US)}}, {}, "its 1d bars go back to 2024-03-18 only"),
    ],
)
async def test_a_provider_that_cannot_answer_is_refused_with_the_reason(claims, parts, reason):
    assert await why_not(manifest(**claims), **parts) == reason


async def test_what_is_asked_only_by_name_is_asked_by_who_names_it():
    assert order(router_of(manifest(only_by_name=True)).plan(question(provider="demo"), AAPL)) == ["demo"]


@pytest.mark.parametrize("state", ["disabled", "failed_auth", "waiting"])
async def test_what_only_an_operator_can_bring_back_is_not_asked_and_says_so(state):
    provider = FakeProvider(manifest(), state, "the vendor refused our key")

    assert await why_not(provider) == f"{state}: the vendor refused our key"


async def test_listed_symbols_are_served_whatever_their_class_looks_like():
    listed = manifest(symbols=(Instrument(0, "DEMO-FX", AssetClass.FOREX),))
    looks_like_a_stock = Instrument(0, "DEMO-FX", AssetClass.STOCK)

    assert order(router_of(listed).plan(question(symbol="DEMO-FX"), looks_like_a_stock)) == ["demo"]


async def test_the_form_of_a_ticker_does_not_tell_stocks_and_funds_apart():
    assert order(router_of(manifest(asset_classes=frozenset({AssetClass.ETF}))).plan(question(), AAPL)) == ["demo"]


async def test_a_history_that_reaches_a_part_of_the_range_is_asked_for_that_part():
    week = manifest(history={Interval.M1: Reach(back_us=7 * DAY_US + 30_000_000)})
    (candidate,) = router_of(week).plan(question(interval=Interval.M1), AAPL).candidates

    assert candidate.reach == TimeRange(NOW_US - 7 * DAY_US, NOW_US)
    assert not candidate.reaches_all


async def test_the_operators_rule_comes_before_everything_a_provider_claims():
    rule = RoutingRule(("third", "second"), AssetClass.STOCK)
    plan = router_of(
        manifest("first", priority=99), manifest("second", cost=50.0), manifest("third", priority=1), rules=(rule,)
    ).plan(question(), AAPL)

    assert order(plan) == ["third", "second", "first"]
    assert plan.rule == rule


async def test_the_longer_history_comes_before_the_higher_priority():
    short = manifest("short", priority=99, history={Interval.D1: Reach(back_us=10 * DAY_US)})

    assert order(router_of(short, manifest("long")).plan(question(), AAPL)) == ["long", "short"]


async def test_priority_comes_before_the_score():
    assert order(router_of(manifest("a"), manifest("b", priority=51, cost=9.0)).plan(question(), AAPL)) == ["b", "a"]


@pytest.mark.parametrize(
    ("factor", "worse"),
    [("cost", {"cost": 1.0}), ("freshness", {"delay_s": 900.0})],
)
async def test_among_equals_the_better_one_is_asked_first(factor, worse):
    plan = router_of(manifest("a", **worse), manifest("b")).plan(question(), AAPL)

    assert order(plan) == ["b", "a"]
    a, b = ({f.name: f.value for f in c.factors}[factor] for c in reversed(plan.candidates))
    assert a == b / 2


async def test_late_data_is_as_good_as_any_for_a_question_about_the_past():
    past = TimeRange(NOW_US - 30 * DAY_US, NOW_US - DAY_US)
    late, prompt = router_of(manifest("a", delay_s=900.0), manifest("b")).plan(question(range=past), AAPL).candidates

    assert late.score == prompt.score


async def fail(_):
    raise Upstream("503")


async def answer(_):
    pass


async def answer_slowly(_):
    await trio.sleep(2)


async def ask(router, slug, outcome):
    candidate = next(c for c in router.plan(question(), AAPL).candidates if c.slug == slug)
    with suppress(ProviderError):
        await router.fetch(candidate, demand(provider=slug), outcome)


async def test_who_failed_lately_is_asked_after_who_did_not_until_that_is_forgotten(autojump_clock):

    router = router_of(manifest("a"), manifest("b"), max_retries=0)
    await ask(router, "a", answer)
    await ask(router, "b", answer)
    await ask(router, "a", fail)
    first = order(router.plan(question(), AAPL))
    await trio.sleep(50_000)
    later = order(router.plan(question(), AAPL))

    assert (first, later) == (["b", "a"], ["a", "b"])


async def test_who_answers_slowly_is_asked_after_who_answers_at_once(autojump_clock):

    router = router_of(manifest("a"), manifest("b"))
    await ask(router, "a", answer_slowly)
    await ask(router, "b", answer)

    assert order(router.plan(question(), AAPL)) == ["b", "a"]


async def test_quota_that_is_left_speaks_for_a_provider(autojump_clock):
    router = router_of(
        manifest("a", rate_limits=(RateWindow(10, 60.0),)), manifest("b", rate_limits=(RateWindow(10, 60.0),))
    )
    await ask(router, "a", answer)
    router_plan = router.plan(question(), AAPL)
    quota = {c.slug: next(f for f in c.factors if f.name == "quota") for c in router_plan.candidates}

    assert (quota["a"].value, quota["b"].value) == (0.9, 1.0)
    assert quota["a"].says == "9 of 10 requests per 60 s left"


async def test_who_cannot_answer_now_comes_last_even_if_a_rule_names_it_first():
    down = FakeProvider(manifest("a"), "backing_off", "exit code 1")
    plan = router_of(down, manifest("b"), rules=(RoutingRule(("a",)),)).plan(question(), AAPL)

    assert order(plan) == ["b", "a"]
    assert plan.candidates[1].not_now == "backing_off: exit code 1"


async def test_a_used_up_budget_and_an_open_circuit_put_a_provider_last(autojump_clock):
    router = router_of(
        manifest("a", rate_limits=(RateWindow(1, 3600.0),)), manifest("b"), manifest("c", priority=1), max_retries=0
    )
    await ask(router, "a", answer)
    for _ in range(5):
        await ask(router, "b", fail)
    plan = router.plan(question(), AAPL)

    assert order(plan) == ["c", "a", "b"]
    assert plan.candidates[1].not_now.startswith("its budget is used up for 36")
    assert plan.candidates[2].not_now == "its circuit is open after 5 failures, for 60 s more"


async def test_a_provider_that_is_just_starting_keeps_its_place():
    assert order(router_of(FakeProvider(manifest("a"), "starting"), manifest("b")).plan(question(), AAPL)) == ["a", "b"]


async def test_an_explanation_is_plain_data_with_a_number_and_a_sentence_for_each_factor():
    router = router_of(manifest("a"), FakeProvider(manifest("b"), "disabled", "by the operator"))
    told = router.explain(question(), AAPL)

    assert told["symbol"] == "AAPL"
    assert told["refused"] == [{"provider": "b", "reason": "disabled: by the operator"}]
    (candidate,) = told["candidates"]
    assert (candidate["provider"], candidate["place"], candidate["not_now"]) == ("a", 1, None)
    assert [f["name"] for f in candidate["factors"]] == ["reliability", "freshness", "quota", "response", "cost"]
    assert all(0 <= f["value"] <= 1 and f["says"] for f in candidate["factors"])


async def test_planning_twice_gives_the_same_order():
    router = router_of(*(manifest(slug) for slug in "cab"))

    assert order(router.plan(question(), AAPL)) == order(router.plan(question(), AAPL)) == ["a", "b", "c"]


async def test_weights_of_zero_leave_every_factor_out():
    nothing = Weights(0, 0, 0, 0, 0)

    assert router_of(manifest("a"), weights=nothing).plan(question(), AAPL).candidates[0].score == 0


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 5000)), max_size=50))
def test_reliability_stays_between_nothing_and_everything(outcomes):
    now, record = 0.0, Record()
    for is_good, wait in outcomes:
        now += wait
        record = record.answered(now, 0.1) if is_good else record.let_down(now)
        assert 0 <= record.reliability(now) <= 1
    assert record.reliability(now + 1e6) > 0.999


async def test_a_reach_inside_a_period_begins_with_the_next_whole_one():
    week = manifest(history={Interval.M1: Reach(since_us=NOW_US - 10 * MINUTE_US + 1)})
    (candidate,) = router_of(week).plan(question(interval=Interval.M1), AAPL).candidates

    assert candidate.reach.start_us == NOW_US - 9 * MINUTE_US


# --- who streams ---

STREAMS = frozenset({HISTORICAL_DATA, REAL_TIME_STREAMING})


def stream_plan(*providers, channel="trades:AAPL"):
    return router_of(*providers).plan_stream(parse_channel(channel), AAPL)


def streaming(slug="demo", *kinds, **claims):
    return manifest(slug, capabilities=STREAMS, streams=frozenset(kinds), **claims)


@pytest.mark.parametrize(
    ("claims", "channel", "reason"),
    [
        ({"capabilities": frozenset({HISTORICAL_DATA})}, "trades:AAPL", "has no real_time_streaming"),
        ({"streams": frozenset({FeedKind.TRADES})}, "quotes:AAPL", "streams no quotes, only trades"),
        ({"streams": frozenset({FeedKind.BARS})}, "bars:AAPL:1h", "streams no 1h bars, only bars"),
        ({"streams": frozenset({FeedKind.TRADES})}, "trades:AAPL@other", "the channel is pinned to other"),
        ({"asset_classes": frozenset({AssetClass.CRYPTO}), "streams": frozenset({FeedKind.TRADES})}, "trades:AAPL",
         "does not serve the asset class stock, only crypto"),
    ],
)  # fmt: skip
async def test_who_cannot_stream_a_channel_is_refused_with_the_reason(claims, channel, reason):
    plan = stream_plan(manifest(**{"capabilities": STREAMS, **claims}), channel=channel)
    assert [refused.reason for refused in plan.refused] == [reason]


async def test_bars_of_every_interval_come_from_whoever_streams_trades():
    assert order(stream_plan(streaming("demo", FeedKind.TRADES), channel="bars:AAPL:1h")) == ["demo"]
    assert order(stream_plan(streaming("demo", FeedKind.BARS), channel="bars:AAPL:1m")) == ["demo"]


async def test_streams_are_ranked_by_the_operators_rules_and_priorities_too():
    first, second = streaming("a", FeedKind.TRADES, priority=10), streaming("b", FeedKind.TRADES, priority=90)
    assert order(stream_plan(first, second)) == ["b", "a"]
    rules = (RoutingRule(("a",)),)
    plan = router_of(first, second, rules=rules).plan_stream(parse_channel("trades:AAPL"), AAPL)
    assert order(plan) == ["a", "b"]
