"""Bars from a whole tape at once: what the live road must have told in the end, and what questions about a tape ask."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from timebase.aggregation.rows import COUNT, Rows, combine, seconds_of
from timebase.aggregation.tape import Tape
from timebase.aggregation.updates import bars_of, vwap_of
from timebase.model.bars import Bars
from timebase.model.calendar import MADE_OF, Calendar
from timebase.model.interval import Interval
from timebase.model.ticks import Trades


@dataclass(frozen=True, slots=True, eq=False)
class BuiltBars:
    """Shape: `trades` int64 (how many), `vwap` float64 (NaN without volume), of the length of `bars`."""

    bars: Bars
    trades: NDArray[np.int64]
    vwap: NDArray[np.float64]

    @classmethod
    def of(cls, rows: Rows) -> "BuiltBars":
        return cls(bars_of(rows), rows.values[COUNT].astype(np.int64), vwap_of(rows))


def rebuild(
    trades: Trades, *, intervals: Collection[Interval] = tuple(Interval), zone: str = ""
) -> Mapping[Interval, BuiltBars]:
    """The bars of every period that has a trade, also of the first and the last, whole or not.

    `trades` in any order; copies count once, cancels and corrections are applied. `zone` as `calendar.zone_of`.

    Example: `rebuild(tape, intervals=[Interval.H1])[Interval.H1].bars`
    """
    time, price, size = in_order(trades)
    calendar = Calendar(zone)
    rows: dict[Interval | None, Rows] = {None: seconds_of(time, price, size) if len(time) else Rows.empty()}
    for interval, part in MADE_OF.items():
        parts = rows[part]
        rows[interval] = combine(parts, calendar.of_parts(interval, parts.stamp)) if len(parts) else parts
    return {interval: BuiltBars.of(rows[interval]) for interval in intervals}


def in_order(trades: Trades) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Time, price and size of what really traded, in the order of the tape."""
    tape, is_word = Tape(), trades.flags != 0
    tape.insert(trades.pick(~is_word))
    tape.put_right(trades.pick(is_word))
    return tape.within(-(1 << 62), 1 << 62)
