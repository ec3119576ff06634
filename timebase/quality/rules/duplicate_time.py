"""duplicate_time: of bars that open at the same instant the first that came is kept.

Exact copies are not refused but dropped, see `repair`; what is left here contradicts the bar that was kept. Needs
ascending time, and among equals the order in which the provider gave them.
"""

import numpy as np

from timebase.model.bars import Bars
from timebase.quality.rules.rule import Context, Mask, Rule


def repeats_time(bars: Bars, _: Context) -> Mask:
    repeats = np.zeros(len(bars), np.bool_)
    repeats[1:] = bars.time[1:] == bars.time[:-1]
    return repeats


RULE = Rule("duplicate_time", "contradicts an earlier bar of the same time", repeats_time)
