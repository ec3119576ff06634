"""What an answer changes in what is stored. Pure."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from timebase.model.bars import Bars, Flag

_PRICES = ("open", "high", "low", "close")
SAME_VOLUME = 1e-9  # relative: the same trades added up in another order differ by less, and no size is told so exactly


@dataclass(frozen=True, slots=True)
class Difference:
    """Masks over the incoming rows; a row in neither is stored already.

    `changed` rows replace the stored ones; those of them in `revised` replace bars that were closed.
    """

    new: NDArray[np.bool_]
    changed: NDArray[np.bool_]
    revised: NDArray[np.bool_]


def difference(stored: Bars, incoming: Bars) -> Difference:
    """Compare by time; both ascending.

    A closed bar is never replaced by a forming one: that answer is older than what we have.
    """
    if len(stored) == 0:
        nothing = np.zeros(len(incoming), np.bool_)
        return Difference(np.ones(len(incoming), np.bool_), nothing, nothing)
    where, is_stored = _matched(stored.time, incoming.time)
    was_forming = (stored.flags[where] & Flag.FORMING) != 0
    is_forming = (incoming.flags & Flag.FORMING) != 0
    differs = was_forming & ~is_forming
    for name in _PRICES:
        differs |= getattr(stored, name)[where] != getattr(incoming, name)
    differs |= _volume_differs(stored.volume[where], incoming.volume)
    changed = is_stored & differs & ~(is_forming & ~was_forming)
    return Difference(~is_stored, changed, changed & ~was_forming)


def _volume_differs(stored: NDArray[np.float64], incoming: NDArray[np.float64]) -> NDArray[np.bool_]:
    differs: NDArray[np.bool_] = stored != incoming
    if differs.any():
        differs &= np.abs(stored - incoming) > SAME_VOLUME * np.abs(incoming)
    return differs


def _matched(stored: NDArray[np.int64], incoming: NDArray[np.int64]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """For each incoming time a position in `stored`, and whether that is the same time."""
    if np.array_equal(stored, incoming):
        return np.arange(len(stored)), np.ones(len(stored), np.bool_)
    where = np.minimum(np.searchsorted(stored, incoming), len(stored) - 1)
    return where, stored[where] == incoming
