"""Trades to bars, offline: what the server's own bars of the same trades must be equal to."""

import numpy as np
from numpy.typing import NDArray
from tapes import Trades

from timebase.model.calendar import Calendar
from timebase.sdk import Bars, Interval


def rebuilt(trades: Trades, interval: Interval, start_us: int, end_us: int, played_us: int, calendar: Calendar) -> Bars:
    """Bars that open in [start_us, end_us) and were over when the tape was at `played_us`.

    The period of the first trade is left out: nobody knows what was traded in it before the tape begins.
    """
    if not len(trades):
        return Bars((), (), (), (), (), ())
    opening = openings(trades.time, interval, calendar)
    last_us = min(end_us, calendar.stamp_at(interval, played_us))
    rows = slice(*np.searchsorted(opening, (max(start_us, interval.end_us(int(opening[0]))), max(last_us, 0))))
    time = opening[rows]
    if not len(time):
        return Bars((), (), (), (), (), ())
    first = np.flatnonzero(np.concatenate(([True], time[1:] != time[:-1])))
    price, size = trades.price[rows], trades.size[rows]
    last = np.concatenate((first[1:], [len(time)])) - 1
    return Bars(
        time[first],
        price[first],
        np.maximum.reduceat(price, first),
        np.minimum.reduceat(price, first),
        price[last],
        np.add.reduceat(size, first),
    )


def openings(time: NDArray[np.int64], interval: Interval, calendar: Calendar) -> NDArray[np.int64]:
    """The stamp of each one's period. `time` ascends, and is not empty."""
    if interval.is_intraday:
        return time // interval.us * interval.us
    days = calendar.of_parts(Interval.D1, time)
    return days if interval is Interval.D1 else calendar.of_parts(interval, days)
