"""Rows of one interval that grow at the end, change within, and are forgotten from the front."""

import numpy as np
from numpy.typing import NDArray

from timebase.aggregation.rows import WIDTH, Row, Rows

ROOM = 16  # rows of a new table: a feed of a quiet symbol has nine of them


class Table:
    """Order: stamps ascend. What `within` answers are views, valid until the next change."""

    def __init__(self) -> None:
        self._stamp = np.empty(ROOM, np.int64)
        self._values = np.empty((WIDTH, ROOM))
        self._begin = 0
        self._end = 0

    def __len__(self) -> int:
        return self._end - self._begin

    def last(self) -> tuple[int, Row] | None:
        if self._begin == self._end:
            return None
        return int(self._stamp[self._end - 1]), tuple(self._values[:, self._end - 1].tolist())

    def within(self, start: int, end: int) -> Rows:
        """The rows whose stamp lies in [start, end)."""
        first, last = self._find((start, end))
        return Rows(self._stamp[first:last], self._values[:, first:last])

    def before(self, stamp: int) -> Row | None:
        (at,) = self._find((stamp,))
        return tuple(self._values[:, at - 1].tolist()) if at > self._begin else None

    def extend(self, rows: Rows) -> None:
        """Add newer rows; the first may stand for the last that is here."""
        if not len(rows):
            return
        if self._end > self._begin and self._stamp[self._end - 1] == rows.stamp[0]:
            self._end -= 1
        self._make_room(len(rows))
        self._stamp[self._end : self._end + len(rows)] = rows.stamp
        self._values[:, self._end : self._end + len(rows)] = rows.values
        self._end += len(rows)

    def replace(self, stamps: NDArray[np.int64], rows: Rows) -> None:
        """Put `rows` where those of `stamps` (ascending) are; a stamp without a new row is no more."""
        start = int(stamps[0])
        tail = self.within(start, int(np.iinfo(np.int64).max))
        kept = ~np.isin(tail.stamp, stamps)
        stamp = np.concatenate((tail.stamp[kept], rows.stamp))
        order = np.argsort(stamp, kind="stable")
        values = np.concatenate((tail.values[:, kept], rows.values), axis=1)[:, order]
        self._end -= len(tail)
        self.extend(Rows(stamp[order], values))

    def forget(self, before: int) -> None:
        """Drop the rows whose stamp lies before `before`, but for the last of all."""
        (first,) = self._find((before,))
        self._begin = max(self._begin, min(first, self._end - 1))

    def _find(self, stamps: tuple[int, ...]) -> list[int]:
        found = np.searchsorted(self._stamp[self._begin : self._end], stamps) + self._begin
        positions: list[int] = found.tolist()
        return positions

    def _make_room(self, more: int) -> None:
        if self._end + more <= len(self._stamp):
            return
        kept = len(self)
        room = max(ROOM, 2 * (kept + more))
        stamp, values = np.empty(room, np.int64), np.empty((WIDTH, room))
        stamp[:kept] = self._stamp[self._begin : self._end]
        values[:, :kept] = self._values[:, self._begin : self._end]
        self._stamp, self._values, self._begin, self._end = stamp, values, 0, kept
