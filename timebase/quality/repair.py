"""What is put right and said, instead of refused: rows that were not asked for, order, exact copies, missing volume.

Each takes bars and answers new ones and what to tell the client ("" when nothing was done). Inputs are never changed.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from timebase.model.bars import Bars, Flag
from timebase.model.timerange import TimeRange, to_datetime


def drop_unasked(bars: Bars, asked: TimeRange) -> tuple[Bars, str]:
    """Not quarantined: nothing is wrong with them, but the ledger must not hear of periods nobody asked for."""
    asked_for = (bars.time >= asked.start_us) & (bars.time < asked.end_us)
    dropped = len(bars) - int(np.count_nonzero(asked_for))
    if not dropped:
        return bars, ""
    return bars.pick(asked_for), f"{count(dropped)} dropped: outside the asked range"


def sort(bars: Bars) -> tuple[Bars, str]:
    """Stable, so that among equals the first stays first."""
    if (bars.time[1:] >= bars.time[:-1]).all():
        return bars, ""
    return bars.pick(np.argsort(bars.time, kind="stable")), f"{count(len(bars))} came unsorted and were sorted"


def fill_volume(bars: Bars) -> tuple[Bars, str]:
    """A volume that is not stated becomes 0, and the bar says that it was repaired."""
    missing = np.isnan(bars.volume)
    if not missing.any():
        return bars, ""
    filled = replace(
        bars,
        volume=np.where(missing, 0.0, bars.volume),
        flags=np.where(missing, bars.flags | Flag.REPAIRED, bars.flags).astype(np.int16),
    )
    return filled, f"{count(int(np.count_nonzero(missing)))} had no volume; it is given as 0"


def drop_copies(bars: Bars) -> tuple[Bars, str]:
    """Needs ascending time. Rows beside each other that are equal in every column are one bar."""
    if len(bars) < 2 or (bars.time[1:] != bars.time[:-1]).all():
        return bars, ""
    copy = np.zeros(len(bars), np.bool_)
    copy[1:] = np.logical_and.reduce([_repeats(column) for column in bars.columns()])
    dropped = int(np.count_nonzero(copy))
    if not dropped:
        return bars, ""
    return bars.pick(~copy), f"{count(dropped)} dropped: exact copies"


def _repeats(column: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Whether each value but the first equals the one before it; a missing number equals a missing number."""
    now, before = column[1:], column[:-1]
    return np.asarray((now == before) | ((now != now) & (before != before)))


def count(bars: int) -> str:
    return f"{bars} bar" if bars == 1 else f"{bars} bars"


def first(bars: Bars) -> str:
    """When the first of some bars opens, for a warning; years that Python's datetime lacks as a bare number."""
    at_us = int(bars.time[0])
    try:
        return to_datetime(at_us).isoformat().replace("+00:00", "Z")
    except OverflowError:
        return f"{at_us} µs"
