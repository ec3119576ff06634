"""volume: nobody trades less than nothing."""

from timebase.model.bars import Bars
from timebase.quality.rules.rule import Context, Mask, Rule


def negative_volume(bars: Bars, _: Context) -> Mask:
    return bars.volume < 0


RULE = Rule("volume", "the volume is negative", negative_volume)
