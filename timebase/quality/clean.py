"""Is there anything to judge at all: one pass over columns that are almost always clean."""

import numpy as np

from timebase.model.bars import Bars
from timebase.quality.rules.alignment import off_grid
from timebase.quality.rules.positive import MAY_FALL_TO_ZERO
from timebase.quality.rules.rule import Context
from timebase.quality.rules.spacing import too_close
from timebase.quality.rules.time_range import EARLIEST_US, latest_us


def is_clean(bars: Bars, context: Context) -> bool:
    """Whether every rule would let every bar pass, without asking them one by one.

    True is a proof; False may still be float noise that the rules tolerate.
    """
    return len(bars) == 0 or (_times_are_clean(bars, context) and _prices_are_clean(bars, context))


def _times_are_clean(bars: Bars, context: Context) -> bool:
    time = bars.time
    return bool(
        time[0] >= EARLIEST_US
        and time[-1] <= latest_us(context)
        and (time[1:] > time[:-1]).all()
        and not off_grid(bars, context).any()
        and not (context.interval.us > context.interval.grid_us and too_close(bars, context).any())
    )


def _prices_are_clean(bars: Bars, context: Context) -> bool:
    """NaN answers False to every comparison, so no column has to be looked at twice."""
    lowest = -np.inf if context.asset_class in MAY_FALL_TO_ZERO else 0.0
    return bool(
        bars.low.min() > lowest
        and bars.high.max() < np.inf
        and (bars.low <= np.minimum(bars.open, bars.close)).all()
        and (bars.high >= np.maximum(bars.open, bars.close)).all()
        and bars.volume.min() >= 0
        and bars.volume.max() < np.inf
    )
