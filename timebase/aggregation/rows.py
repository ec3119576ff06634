"""Bars in the making, as columns that can be added up: what a ladder step takes and gives.

Sums run from left to right, in the order of the tape, one number after the other. So a sum that grows with each batch
has the very bits of one made of the whole tape at once, however the tape was cut (numpy's own sums do not: they add in
pairs). `np.bincount` with weights is numpy's left-to-right sum of many groups, `np.cumsum` that of one.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from timebase.model.timerange import SECOND_US

OPEN, HIGH, LOW, CLOSE, VOLUME, NOTIONAL, COUNT = range(7)
SUMS = (VOLUME, NOTIONAL, COUNT)
WIDTH = 7

Row = tuple[float, float, float, float, float, float, float]  # in the order above


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Shape: `stamp` int64 (n,) strictly ascending; `values` float64 (7, n), in the order OPEN … COUNT.

    Units: `stamp` µs UTC as in `Bars.time`; NOTIONAL is the sum of price times size.
    """

    stamp: NDArray[np.int64]
    values: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.stamp)

    def pick(self, which: slice | NDArray[np.bool_]) -> "Rows":
        return Rows(self.stamp[which], self.values[:, which])

    def row(self, at: int) -> Row:
        return tuple(self.values[:, at].tolist())

    @classmethod
    def empty(cls) -> Self:
        return cls(np.empty(0, np.int64), np.empty((WIDTH, 0)))


def seconds_of(
    time: NDArray[np.int64],
    price: NDArray[np.float64],
    size: NDArray[np.float64],
    *,
    onto: tuple[int, Row] | None = None,
) -> Rows:
    """Trades in the order of the tape as one row per second; `onto` is a second that they may continue.

    Order: `time` ascending, at least one trade.
    """
    notional = price * size
    first_us, last_us = int(time[0]) // SECOND_US * SECOND_US, int(time[-1]) // SECOND_US * SECOND_US
    continued = onto[1] if onto is not None and onto[0] == first_us else None
    if continued is not None:
        size = size.copy()
        size[0] += continued[VOLUME]
        notional[0] += continued[NOTIONAL]
    if first_us == last_us:
        rows = _one_second(first_us, price, size, notional)
    else:
        rows = _many_seconds(time, price, size, notional)
    if continued is not None:
        first = rows.values[:, 0]
        first[OPEN] = continued[OPEN]
        first[HIGH] = max(continued[HIGH], first[HIGH])
        first[LOW] = min(continued[LOW], first[LOW])
        first[COUNT] += continued[COUNT]
    return rows


def _one_second(
    stamp: int, price: NDArray[np.float64], size: NDArray[np.float64], notional: NDArray[np.float64]
) -> Rows:
    volume, amount = np.cumsum(size)[-1], np.cumsum(notional)[-1]
    row = (price[0], price.max(), price.min(), price[-1], volume, amount, len(price))
    return Rows(np.array((stamp,), np.int64), np.array(row, np.float64).reshape(WIDTH, 1))


def _many_seconds(
    time: NDArray[np.int64], price: NDArray[np.float64], size: NDArray[np.float64], notional: NDArray[np.float64]
) -> Rows:
    second = time // SECOND_US
    changes = second[1:] != second[:-1]
    begins, ends, group = _groups(changes)
    values = np.empty((WIDTH, len(begins)))
    values[OPEN] = price[begins]
    values[HIGH] = np.maximum.reduceat(price, begins)
    values[LOW] = np.minimum.reduceat(price, begins)
    values[CLOSE] = price[ends]
    values[VOLUME] = np.bincount(group, size)
    values[NOTIONAL] = np.bincount(group, notional)
    values[COUNT] = ends - begins + 1
    return Rows(second[begins] * SECOND_US, values)


def combine(rows: Rows, stamp: NDArray[np.int64]) -> Rows:
    """Rows of a shorter interval as rows of a longer one; `stamp` names the longer period of each, ascending."""
    if not len(rows):
        return Rows.empty()
    begins, ends, group = _groups(stamp[1:] != stamp[:-1])
    values = np.empty((WIDTH, len(begins)))
    values[OPEN] = rows.values[OPEN, begins]
    values[HIGH] = np.maximum.reduceat(rows.values[HIGH], begins)
    values[LOW] = np.minimum.reduceat(rows.values[LOW], begins)
    values[CLOSE] = rows.values[CLOSE, ends]
    for column in SUMS:
        values[column] = np.bincount(group, rows.values[column])
    return Rows(stamp[begins], values)


def _groups(changes: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """First position, last position, and the group of each, where True says that a new group begins after it."""
    last = np.flatnonzero(changes)
    begins, ends = np.empty(len(last) + 1, np.intp), np.empty(len(last) + 1, np.intp)
    begins[0], begins[1:] = 0, last + 1
    ends[:-1], ends[-1] = last, len(changes)
    group = np.zeros(len(changes) + 1, np.intp)
    np.cumsum(changes, out=group[1:])
    return begins, ends, group


def join(earlier: Row, later: Row) -> Row:
    """One row of two, as `combine` would make it."""
    return (
        earlier[OPEN],
        max(earlier[HIGH], later[HIGH]),
        min(earlier[LOW], later[LOW]),
        later[CLOSE],
        earlier[VOLUME] + later[VOLUME],
        earlier[NOTIONAL] + later[NOTIONAL],
        earlier[COUNT] + later[COUNT],
    )
