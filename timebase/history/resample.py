"""Bars of a coarse interval from those of a finer one, when no provider has the coarse ones. Pure.

Only where that is exact. Weeks and months are made of days; intraday bars of finer ones that lie on the multiples of
their interval, which those up to 15m do (an hour may open at :30, and then half of it belongs to the next one); days
never of intraday bars, because a session is not a UTC day.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from timebase.model.bars import Bars, Flag
from timebase.model.demand import Question
from timebase.model.interval import MONDAY_US, Interval
from timebase.model.timerange import TimeRange

PIECE_BARS = 262_144  # finer bars held at once: 15 MB, half a year of minutes


def sources(interval: Interval) -> tuple[Interval, ...]:
    """What bars of `interval` can be made of, the coarsest first: it is the least to fetch."""
    if interval in (Interval.W1, Interval.MO1):
        return (Interval.D1,)
    if not interval.is_intraday:
        return ()
    return tuple(i for i in (Interval.M15, Interval.M5, Interval.M1) if i.us < interval.us)


def finer(question: Question, source: Interval) -> Question:
    """The question for the bars that those of `question` are made of: its whole periods, all of them."""
    if source is question.interval:
        return question
    return Question(
        symbol=question.symbol,
        interval=source,
        range=periods(question.range, question.interval),
        provider=question.provider,
        as_of_us=question.as_of_us,
        refresh=question.refresh,
    )


def periods(asked: TimeRange, interval: Interval) -> TimeRange:
    """The whole periods that `asked` touches."""
    return TimeRange(interval.floor_us(asked.start_us), interval.end_us(interval.floor_us(asked.end_us - 1)))


def resample(bars: Bars, to: Interval, known_us: int) -> Bars:
    """Bars of `to` from ascending finer ones: first open, highest, lowest, last close, sum of volumes, all the flags.

    A bar is FORMING when one that it is made of is, or when its period was not over at `known_us`, the instant that the
    finer ones were known at.
    """
    if not len(bars):
        return bars
    opens = floor(bars.time, to)
    first = np.flatnonzero(np.diff(opens, prepend=opens[0] - 1))
    last = np.append(first[1:], len(opens)) - 1
    time = opens[first]
    flags = np.bitwise_or.reduceat(bars.flags, first)
    flags[time >= to.floor_us(known_us)] |= Flag.FORMING
    return Bars(
        time,
        bars.open[first],
        np.maximum.reduceat(bars.high, first),
        np.minimum.reduceat(bars.low, first),
        bars.close[last],
        np.add.reduceat(bars.volume, first),
        flags,
    )


def floor(time: NDArray[np.int64], interval: Interval) -> NDArray[np.int64]:
    """`Interval.floor_us` of a column."""
    if interval is Interval.MO1:
        return time.view("M8[us]").astype("M8[M]").astype("M8[us]").astype(np.int64)
    phase_us = MONDAY_US if interval is Interval.W1 else 0
    return (time - phase_us) // interval.us * interval.us + phase_us


def pieces(within: TimeRange, interval: Interval, source: Interval, *, newest_first: bool) -> Iterator[TimeRange]:
    """`within`, which consists of whole periods, in parts that do so too and have PIECE_BARS finer bars at most."""
    width_us = PIECE_BARS * source.us
    start_us, end_us = within.start_us, within.end_us
    while start_us < end_us:
        if newest_first:
            cut_us = max(start_us, interval.floor_us(end_us - width_us))
            yield TimeRange(cut_us, end_us)
            end_us = cut_us
        else:
            cut_us = min(end_us, interval.floor_us(start_us + width_us))
            yield TimeRange(start_us, cut_us)
            start_us = cut_us
