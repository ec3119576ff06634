"""Periods of one interval that cannot be whole, because the feed was down in them."""

from bisect import bisect_right

import numpy as np
from numpy.typing import NDArray

from timebase.model.presence import NEVER_US

FOR_EVER = 1 << 62


class Holes:
    """Ranges [first stamp, stamp after the last), ascending, that neither overlap nor touch."""

    def __init__(self) -> None:
        self._ranges: list[tuple[int, int]] = []

    def add(self, start: int, end: int) -> None:
        """Needs holes to be added in ascending order; one may begin inside the last."""
        if self._ranges and start <= self._ranges[-1][1]:
            last_start, last_end = self._ranges.pop()
            start, end = min(start, last_start), max(end, last_end)
        self._ranges.append((start, end))

    def among(self, stamps: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of these periods are not whole."""
        inside = np.zeros(len(stamps), np.bool_)
        for start, end in self._ranges:
            inside |= (stamps >= start) & (stamps < end)
        return inside

    def within(self, start: int, end: int) -> list[tuple[int, int]]:
        cut = [(max(start, a), min(end, b)) for a, b in self._ranges]
        return [(a, b) for a, b in cut if a < b]

    def forget(self, before: int) -> None:
        keep = bisect_right([end for _, end in self._ranges], before)
        del self._ranges[:keep]

    def copy_with_open_end(self, start: int) -> "Holes":
        """These, and everything from `start` on: while the feed has not joined again."""
        copy = Holes()
        copy._ranges = list(self._ranges)
        copy.add(max(start, NEVER_US), FOR_EVER)
        return copy
