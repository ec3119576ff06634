"""low: no price of a bar lies below its low."""

import numpy as np

from timebase.model.bars import Bars
from timebase.quality.rules.high import TOLERANCE
from timebase.quality.rules.rule import Context, Mask, Rule


def below_low(bars: Bars, _: Context) -> Mask:
    bottom = np.minimum(bars.open, bars.close)
    return bars.low - bottom > np.abs(bars.low) * TOLERANCE


RULE = Rule("low", "a price lies below the low", below_low)
