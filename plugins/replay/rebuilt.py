"""Trades to bars, offline: what the server's own bars of the same trades must be equal to."""

import numpy as np
from numpy.typing import NDArray
from tapes import Trades

from timebase.sdk import Bars, Interval

MONTH_DTYPE = "datetime64[M]"


def rebuilt(trades: Trades, interval: Interval, start_us: int, end_us: int, played_us: int) -> Bars:
    """Bars that open in [start_us, end_us) and were over when the tape was at `played_us`.

    The period of the first trade is left out: nobody knows what was traded in it before the tape begins.
    """
    if not len(trades):
        return Bars((), (), (), (), (), ())
    opening = openings(trades.time, interval)
    last_us = min(end_us, interval.floor_us(played_us))
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


def openings(time: NDArray[np.int64], interval: Interval) -> NDArray[np.int64]:
    """The opening instant of each one's period."""
    if interval is Interval.MO1:
        return time.astype("datetime64[us]").astype(MONTH_DTYPE).astype("datetime64[us]").astype(np.int64)
    first_us = interval.floor_us(0)  # weeks begin on Monday, the epoch on a Thursday
    return (time - first_us) // interval.us * interval.us + first_us
