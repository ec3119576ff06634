"""spacing: bars lie as far apart as their interval says.

The grid of 30m, 1h and 4h is a quarter of an hour, so a vendor that ignores the interval and answers 15m bars for 1h
passes `alignment`. Short steps are honest where one session ends and the next begins (15:30 and then 16:00 New York),
so only a batch in which most of many steps are short is refused, and then whole: its bars are not of this interval.
"""

import numpy as np

from timebase.model.bars import Bars
from timebase.quality.rules.rule import Context, Mask, Rule

# Fewer prove nothing: a 4h batch around one New York session steps 1.5 h, 4 h, 2.5 h when its extended hours are in it.
ENOUGH_STEPS = 8


def too_close(bars: Bars, context: Context) -> Mask:
    steps = np.diff(bars.time)
    short = int(np.count_nonzero(steps < context.interval.us)) if context.interval.is_intraday else 0
    return np.full(len(bars), len(steps) >= ENOUGH_STEPS and short * 2 > len(steps), np.bool_)


RULE = Rule("spacing", "bars of a shorter interval than asked for", too_close)
