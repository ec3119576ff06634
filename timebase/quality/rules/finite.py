"""finite: prices are numbers, and nothing is infinite. A volume that is not a number is not refused: see `repair`."""

import numpy as np

from timebase.model.bars import Bars
from timebase.quality.rules.rule import Context, Mask, Rule


def not_finite(bars: Bars, _: Context) -> Mask:
    good = np.isfinite(bars.open) & np.isfinite(bars.high) & np.isfinite(bars.low) & np.isfinite(bars.close)
    return ~good | np.isinf(bars.volume)


RULE = Rule("finite", "a price is missing or infinite", not_finite)
