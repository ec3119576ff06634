"""Bars that are made of a recorded tape when they are asked for: by trades, volume, value, or any length of time. Pure.

Order: a bar that is filled by what is traded begins where the one before is full, the first at the start of the range.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from timebase.aggregation.measured_bars import Measure, MeasuredBars
from timebase.aggregation.rebuild import BuiltBars, in_order
from timebase.aggregation.rows import Rows, combine, seconds_of
from timebase.model.cut import By, Cut
from timebase.model.ticks import Trades

TRADES_AT_ONCE = 16_384  # after which it is looked whether that makes bars enough


_MEASURES = {By.TRADES: Measure.TICKS, By.VOLUME: Measure.VOLUME, By.VALUE: Measure.DOLLARS}


@dataclass(frozen=True, slots=True, eq=False)
class TapeBars:
    """Full bars, with what is known from their trades.

    Shape: eight arrays of length n >= 0; `time` ascending, not strictly: several may fill up within a microsecond.
    Units: `time` int64 µs UTC, of the first trade (by time: the opening instant); `vwap` NaN without volume.
    `next_us`: start there for the bars that follow; None: these are all.
    """

    time: NDArray[np.int64]
    open: NDArray[np.float64]
    high: NDArray[np.float64]
    low: NDArray[np.float64]
    close: NDArray[np.float64]
    volume: NDArray[np.float64]
    trades: NDArray[np.int64]
    vwap: NDArray[np.float64]
    next_us: int | None = None

    def __len__(self) -> int:
        return len(self.time)


def tape_bars(trades: Trades, cut: Cut, *, limit: int, until_us: int, is_whole: bool) -> TapeBars:
    """At most `limit` bars (and those that fill up in the microsecond in which the last one does).

    `trades` in any order; copies count once, cancels and corrections are applied. `until_us`: where the tape ends;
    `is_whole`: it has been read to there. Otherwise no bar may come of it, when what was read fills none.
    """
    time, price, size = in_order(trades)
    if not len(time):
        return _some(BuiltBars.of(Rows.empty()), 0, None)
    if cut.by is By.TIME:
        return _timed(time, price, size, cut.period_us, limit, until_us if is_whole else int(time[-1]), is_whole)
    return _measured(time, price, size, cut, limit, is_whole)


def _timed(
    time: NDArray[np.int64],
    price: NDArray[np.float64],
    size: NDArray[np.float64],
    period_us: int,
    limit: int,
    until_us: int,
    is_whole: bool,
) -> TapeBars:
    seconds = seconds_of(time, price, size)
    rows = combine(seconds, seconds.stamp // period_us * period_us)
    over = int(np.searchsorted(rows.stamp, until_us - period_us, side="right"))
    kept = min(over, limit)
    is_all = is_whole and kept == over
    return _some(BuiltBars.of(rows), kept, None if is_all else int(rows.stamp[kept]))


def _measured(
    time: NDArray[np.int64],
    price: NDArray[np.float64],
    size: NDArray[np.float64],
    cut: Cut,
    limit: int,
    is_whole: bool,
) -> TapeBars:
    """What is left is told to begin at an instant, so no bar may end amid the trades of one."""
    maker = MeasuredBars(_MEASURES[cut.by], cut.every)
    parts: list[BuiltBars] = []
    count = ended = 0
    for begin in range(0, len(time), TRADES_AT_ONCE):
        piece = slice(begin, begin + TRADES_AT_ONCE)
        part = maker.take(time[piece], price[piece], size[piece])
        parts.append(part)
        count, ended = count + len(part.bars), ended + int(part.trades.sum())
        if count >= limit and ended < len(time) and time[ended] > time[ended - 1]:
            break
    built = _joined(parts)
    ends = np.cumsum(built.trades)  # the first trade after each bar
    is_clean = np.append(time, time[-1] + is_whole)[ends] > time[ends - 1]
    kept = _kept(is_clean, limit, is_whole)
    used = int(ends[kept - 1]) if kept else 0
    is_all = is_whole and kept == len(ends)
    return _some(built, kept, None if is_all else int(time[used]))


def _kept(is_clean: NDArray[np.bool_], limit: int, is_whole: bool) -> int:
    """The first so many bars, and those up to the next clean end; where there is none, up to the last clean one."""
    if is_whole and len(is_clean) <= limit:
        return len(is_clean)
    later = np.flatnonzero(is_clean[limit - 1 :])
    if len(later):
        return limit + int(later[0])
    before = np.flatnonzero(is_clean)
    if len(before):
        return int(before[-1]) + 1
    return len(is_clean) if is_whole else 0


def _joined(parts: list[BuiltBars]) -> BuiltBars:
    if len(parts) == 1:
        return parts[0]
    return BuiltBars(
        type(parts[0].bars).concat(part.bars for part in parts),
        np.concatenate([part.trades for part in parts]),
        np.concatenate([part.vwap for part in parts]),
    )


def _some(built: BuiltBars, kept: int, next_us: int | None) -> TapeBars:
    bars = built.bars.pick(slice(kept))
    columns = (bars.time, bars.open, bars.high, bars.low, bars.close, bars.volume)
    return TapeBars(*columns, built.trades[:kept], built.vwap[:kept], next_us)
