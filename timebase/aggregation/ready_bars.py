"""Bars that a provider made itself: closed once each, revised when they change afterwards."""

from dataclasses import dataclass, replace

import numpy as np

from timebase.aggregation.bar_builder import TOLD_AT_MOST
from timebase.aggregation.updates import missing_update
from timebase.model.bars import Bars, Flag
from timebase.model.calendar import Calendar, zone_of
from timebase.model.feed import Feed
from timebase.model.interval import Interval
from timebase.model.live import BarStatus, BarUpdate

KEPT = 1_440  # closed bars that are remembered, to tell a change from a repetition: a day of minutes
UNKNOWN_TRADES = -1


@dataclass(slots=True)
class _Told:
    values: tuple[float, ...]
    revision: int = 0


class ReadyBars:
    """`too_late` counts bars older than what is remembered: whether they change anything nobody can tell."""

    def __init__(self, feed: Feed, interval: Interval) -> None:
        self.feed = feed
        self.too_late = 0
        self._interval = interval
        self._calendar = Calendar(zone_of(feed.instrument))
        self._told: dict[int, _Told] = {}  # by stamp; a missing one has no values
        self._newest: int | None = None  # closed or told missing
        self._forgotten = -(1 << 62)  # what is older is not remembered
        self._was_down = False
        self._forming: BarUpdate | None = None
        self._updates: list[BarUpdate] = []

    def take(self, bars: Bars, *, received_us: int) -> None:
        """Order: in whatever order the provider tells; of one period the last counts."""
        if not len(bars):
            return
        self._miss(bars, received_us)
        for at in np.argsort(bars.time, kind="stable").tolist():
            one = bars.pick(slice(at, at + 1))
            if one.flags[0] & Flag.FORMING:
                self._form(one, received_us)
            else:
                self._close(one, received_us)
        self._forget()

    def leave(self) -> None:
        """The feed is down, or was made anew."""
        self._was_down = True

    def closed(self) -> tuple[BarUpdate, ...]:
        updates, self._updates = tuple(self._updates), []
        return updates

    def forming(self) -> tuple[BarUpdate, ...]:
        """The newest bar that is not over, if one came since this was last asked."""
        update, self._forming = self._forming, None
        return (update,) if update is not None else ()

    def _miss(self, bars: Bars, received_us: int) -> None:
        """The first bars after the feed was down: between the last and these, periods are missing."""
        if self._newest is None:
            self._was_down = False
            return
        since = self._interval.end_us(self._newest)
        later = bars.time[bars.time >= since]
        if not self._was_down or not len(later):
            return
        self._was_down = False
        missing = self._calendar.between(self._interval, since, int(later.min()), at_most=TOLD_AT_MOST)
        if len(missing):
            update = missing_update(self.feed, self._interval, missing, event_us=int(later.min()))
            self._updates.append(replace(update, received_us=received_us))
            self._told |= {stamp: _Told(()) for stamp in missing.tolist()}
            self._newest = int(missing[-1])

    def _close(self, one: Bars, received_us: int) -> None:
        stamp = int(one.time[0])
        values = tuple(float(column[0]) for column in (one.open, one.high, one.low, one.close, one.volume))
        told = self._told.get(stamp)
        if told is None and stamp < self._forgotten:
            self.too_late += 1
        elif told is None:
            self._told[stamp] = _Told(values)
            self._newest = stamp if self._newest is None else max(self._newest, stamp)
            self._updates.append(self._update(BarStatus.CLOSED, one, 0, received_us))
        elif told.values != values:
            told.values, told.revision = values, told.revision + 1
            self._updates.append(self._update(BarStatus.REVISED, one, told.revision, received_us))

    def _form(self, one: Bars, received_us: int) -> None:
        if self._newest is None or int(one.time[0]) > self._newest:
            self._forming = self._update(BarStatus.FORMING, one, 0, received_us)

    def _update(self, status: BarStatus, one: Bars, revision: int, received_us: int) -> BarUpdate:
        is_forming = status is BarStatus.FORMING
        flags = (one.flags | Flag.REVISED) if status is BarStatus.REVISED else one.flags
        bars = Bars(one.time, one.open, one.high, one.low, one.close, one.volume, flags.astype(np.int16))
        return BarUpdate(
            self.feed,
            self.feed.bars[self._interval],
            status,
            bars,
            np.full(1, UNKNOWN_TRADES, np.int64),
            np.full(1, np.nan),
            np.full(1, revision, np.int32),
            received_us if is_forming else self._calendar.ends_us(self._interval, int(one.time[0])),
            received_us,
        )

    def _forget(self) -> None:
        if len(self._told) > 2 * KEPT:
            kept = sorted(self._told)[-KEPT:]
            self._forgotten = kept[0]
            self._told = {stamp: self._told[stamp] for stamp in kept}
