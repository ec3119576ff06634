"""The rules, in the order in which they are applied: a bad row is refused by the first that it breaks.

Time first, because a row with a wrong time is nobody's bar; then numbers before their relations, so that later rules
compare nothing with NaN; duplicates after all that judges single rows, so that a broken row never stands in for a good
one; spacing last, because it judges the batch by what is left.
"""

from timebase.quality.rules import (
    alignment,
    duplicate_time,
    finite,
    high,
    low,
    positive,
    spacing,
    time_range,
    volume,
)
from timebase.quality.rules.rule import Context, Mask, Rule

RULES: tuple[Rule, ...] = (
    time_range.RULE,
    alignment.RULE,
    finite.RULE,
    positive.RULE,
    volume.RULE,
    high.RULE,
    low.RULE,
    duplicate_time.RULE,
    spacing.RULE,
)

__all__ = ["RULES", "Context", "Mask", "Rule"]
