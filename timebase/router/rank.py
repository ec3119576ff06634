"""In which order providers are asked, and why. Pure.

First come those that can answer now; among them the operator's rules decide, then whose history reaches the whole
range, then the priority in the manifest, and last a score of five factors, each with its number and its reason.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from timebase.manifest.manifest import Manifest, RateWindow
from timebase.model.demand import Question
from timebase.model.timerange import SECOND_US, TimeRange
from timebase.router.record import Record
from timebase.router.rules import RoutingRule
from timebase.router.settings import Weights

UNKNOWN = 0.5  # the value of a factor nothing is known about: neither praised nor blamed
STALE_S = 900.0  # data that comes so late is worth half as much to a question about now
SLOW_S = 1.0  # an answer that takes so long is worth half as much as an instant one


@dataclass(frozen=True, slots=True)
class Facts:
    """What the score looks at, gathered by the router. Units: `now` of the record's clock, `now_us` µs UTC."""

    manifest: Manifest
    record: Record
    left: Sequence[tuple[RateWindow, int]]
    reach: TimeRange
    not_now: str  # why it cannot answer now, "" when it can
    now: float
    now_us: int


@dataclass(frozen=True, slots=True)
class Factor:
    """One reason: 0 is worst, 1 is best, `weight` what it counts for."""

    name: str
    value: float
    weight: float
    says: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A provider that can answer, with the reasons for its place.

    `reach` is the part of the question's range that its history goes back to. `not_now` says why it is asked only after
    all others.
    """

    slug: str
    manifest: Manifest
    reach: TimeRange
    score: float
    factors: tuple[Factor, ...]
    rule_place: int
    reaches_all: bool
    not_now: str = ""

    def order(self) -> tuple[bool, int, bool, int, float, str]:
        """Smaller is asked earlier."""
        return (
            bool(self.not_now),
            self.rule_place,
            not self.reaches_all,
            -self.manifest.priority,
            -self.score,
            self.slug,
        )


def rank(
    question: Question, all_facts: Sequence[Facts], weights: Weights, rule: RoutingRule | None
) -> tuple[Candidate, ...]:
    candidates = [_candidate(question, facts, weights, rule) for facts in all_facts]
    return tuple(sorted(candidates, key=Candidate.order))


def _candidate(question: Question, facts: Facts, weights: Weights, rule: RoutingRule | None) -> Candidate:
    factors = (
        _reliability(facts, weights.reliability),
        _freshness(question, facts, weights.freshness),
        _quota(facts, weights.quota),
        _response(facts, weights.response),
        _cost(facts, weights.cost),
    )
    whole = sum(factor.weight for factor in factors)
    return Candidate(
        slug=facts.manifest.slug,
        manifest=facts.manifest,
        reach=facts.reach,
        score=sum(factor.value * factor.weight for factor in factors) / whole if whole else 0.0,
        factors=factors,
        rule_place=rule.place(facts.manifest.slug) if rule else 0,
        reaches_all=facts.reach == question.range,
        not_now=facts.not_now,
    )


def _reliability(facts: Facts, weight: float) -> Factor:
    value = facts.record.reliability(facts.now)
    asked, failed = facts.record.asked, facts.record.failed
    says = f"{failed} of {asked} questions failed, {value:.0%} reliable lately" if asked else "not asked yet"
    return Factor("reliability", value, weight, says)


def _freshness(question: Question, facts: Facts, weight: float) -> Factor:
    delay_s = facts.manifest.delay_s
    if not delay_s:
        return Factor("freshness", 1.0, weight, "its data comes without delay")
    if question.range.end_us <= facts.now_us - delay_s * SECOND_US:
        return Factor("freshness", 1.0, weight, f"the question ends before its delay of {delay_s:g} s")
    return Factor("freshness", STALE_S / (STALE_S + delay_s), weight, f"its data comes {delay_s:g} s late")


def _quota(facts: Facts, weight: float) -> Factor:
    if not facts.left:
        return Factor("quota", 1.0, weight, "no rate limit")
    shares = [(left / window.requests if window.requests else 0.0, left, window) for window, left in facts.left]
    share, left, window = min(shares, key=lambda each: each[0])
    return Factor("quota", share, weight, f"{left} of {window.requests} requests per {window.window_s:g} s left")


def _response(facts: Facts, weight: float) -> Factor:
    took_s = facts.record.response_s
    if took_s is None:
        return Factor("response", UNKNOWN, weight, "no answer measured yet")
    return Factor("response", SLOW_S / (SLOW_S + took_s), weight, f"answers in {took_s * 1000:.0f} ms")


def _cost(facts: Facts, weight: float) -> Factor:
    cost = facts.manifest.cost
    return Factor("cost", 1 / (1 + cost), weight, f"costs {cost:g} a request" if cost else "free")
