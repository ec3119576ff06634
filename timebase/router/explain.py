"""A plan as plain data, each factor with its number and its reason. Pure."""

from dataclasses import dataclass

from timebase.model.demand import Question
from timebase.model.instrument import Instrument
from timebase.router.candidates import Refusal
from timebase.router.rank import Candidate
from timebase.router.rules import RoutingRule


@dataclass(frozen=True, slots=True)
class Plan:
    """Who is asked, in this order, and who is not; `rule` is the operator's rule that applied."""

    candidates: tuple[Candidate, ...]
    refused: tuple[Refusal, ...]
    rule: RoutingRule | None = None


def explain_plan(plan: Plan, question: Question, instrument: Instrument) -> dict[str, object]:
    return {
        "symbol": instrument.symbol,
        "asset_class": str(instrument.asset_class),
        "interval": str(question.interval),
        "rule": None if plan.rule is None else str(plan.rule),
        "candidates": [_explain(place, each) for place, each in enumerate(plan.candidates, start=1)],
        "refused": [{"provider": refused.slug, "reason": refused.reason} for refused in plan.refused],
    }


def _explain(place: int, candidate: Candidate) -> dict[str, object]:
    """Times in ms, as in every reply."""
    return {
        "provider": candidate.slug,
        "place": place,
        "not_now": candidate.not_now or None,
        "rule_place": candidate.rule_place,
        "reach": [candidate.reach.start_us // 1000, candidate.reach.end_us // 1000],
        "reaches_all": candidate.reaches_all,
        "priority": candidate.manifest.priority,
        "score": round(candidate.score, 3),
        "factors": [
            {"name": each.name, "value": round(each.value, 3), "weight": each.weight, "says": each.says}
            for each in candidate.factors
        ],
    }
