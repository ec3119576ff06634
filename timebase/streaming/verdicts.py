"""What a channel was told of its periods: closed or missing, one of the two, once, whoever supplies it.

A feed says so itself. But one that comes back calls missing what another one, or history, has closed meanwhile.
"""

from dataclasses import replace

import numpy as np

from timebase.model.live import BarStatus
from timebase.streaming.event import BarRows

REMEMBERED = 128  # the newest periods; what is older has been decided, one way or the other


class Verdicts:
    def __init__(self) -> None:
        self._is_closed: dict[int, bool] = {}  # by period, ascending but for the few that came late
        self._forgotten = -(1 << 62)  # and all before it

    def agreed(self, rows: BarRows) -> list[BarRows]:
        """What is left to be told of `rows`, and as what.

        What is closed once more is revised, what was missing before is backfilled, and what was closed is not missing.
        """
        if rows.status is not BarStatus.CLOSED and rows.status is not BarStatus.MISSING:
            return [rows]
        times = rows.bars.time
        known = np.isin(times, list(self._is_closed)) | (times <= self._forgotten)
        closed = known & np.isin(times, [at for at, is_closed in self._is_closed.items() if is_closed])
        is_closing = rows.status is BarStatus.CLOSED
        self._remember(times[~known].tolist(), is_closing)
        if not known.any():
            return [rows]
        parts = [rows.pick(~known)]
        if is_closing:
            self._is_closed.update(dict.fromkeys(times[known & (times > self._forgotten)].tolist(), True))
            parts.append(replace(rows.pick(known & ~closed), status=BarStatus.BACKFILLED))
            parts.append(_revised(rows.pick(closed)))
        return [part for part in parts if len(part)]

    def _remember(self, periods: list[int], is_closed: bool) -> None:
        self._is_closed.update(dict.fromkeys(periods, is_closed))
        if len(self._is_closed) > 2 * REMEMBERED:
            kept = sorted(self._is_closed)[-REMEMBERED:]
            self._forgotten = kept[0] - 1
            self._is_closed = {at: self._is_closed[at] for at in kept}


def _revised(rows: BarRows) -> BarRows:
    return replace(rows, status=BarStatus.REVISED, revision=np.maximum(rows.revision, 1).astype(np.int32))
