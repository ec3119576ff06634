"""high: no price of a bar lies above its high."""

import numpy as np

from timebase.model.bars import Bars
from timebase.quality.rules.rule import Context, Mask, Rule

# Vendors multiply float64 prices by adjustment factors, each product off by one part in 10^16; the real faults seen in
# vendor files start at 5 parts in 100,000. Bars within the tolerance are stored as they came.
TOLERANCE = 1e-9


def above_high(bars: Bars, _: Context) -> Mask:
    top = np.maximum(np.maximum(bars.open, bars.close), bars.low)
    return top - bars.high > np.abs(bars.high) * TOLERANCE


RULE = Rule("high", "a price lies above the high", above_high)
