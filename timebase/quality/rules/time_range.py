"""time_range: bars open between 1900 and one interval after the fetch.

One interval ahead is allowed because a trading date can begin before its midnight UTC: Sydney's bar of the 5th is made
from 23:00 UTC of the 4th and stamped 00:00 of the 5th.
"""

from datetime import UTC, datetime

from timebase.model.bars import Bars
from timebase.model.timerange import to_us
from timebase.quality.rules.rule import Context, Mask, Rule

EARLIEST_US = to_us(datetime(1900, 1, 1, tzinfo=UTC))


def latest_us(context: Context) -> int:
    return context.interval.end_us(context.fetched_us)


def opens_outside_time(bars: Bars, context: Context) -> Mask:
    return (bars.time < EARLIEST_US) | (bars.time > latest_us(context))


RULE = Rule("time_range", "opens before 1900 or in the future", opens_outside_time)
