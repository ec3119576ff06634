"""positive: prices are above zero, where the kind of asset has no honest price at or below it.

Futures and commodities have (crude oil for May 2020 settled at -37.63), so have yield indices (13-week bills in March
2020) and bonds quoted by yield, and an option may be worth nothing.
"""

import numpy as np

from timebase.model.bars import Bars
from timebase.model.instrument import AssetClass
from timebase.quality.rules.rule import Context, Mask, Rule

MAY_FALL_TO_ZERO = frozenset(
    {AssetClass.FUTURE, AssetClass.COMMODITY, AssetClass.INDEX, AssetClass.BOND, AssetClass.OPTION}
)


def not_positive(bars: Bars, context: Context) -> Mask:
    if context.asset_class in MAY_FALL_TO_ZERO:
        return np.zeros(len(bars), np.bool_)
    return (bars.open <= 0) | (bars.high <= 0) | (bars.low <= 0) | (bars.close <= 0)


RULE = Rule("positive", "a price is zero or negative", not_positive)
