"""Nine intervals over one tape: seconds are made of trades, minutes of seconds, and each longer bar of shorter ones."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from timebase.aggregation.holes import Holes
from timebase.aggregation.rows import CLOSE, COUNT, OPEN, Row, Rows, combine, join
from timebase.aggregation.table import Table
from timebase.model.calendar import MADE_OF, Calendar
from timebase.model.interval import Interval
from timebase.model.presence import NEVER_US


@dataclass(slots=True)
class Step:
    """One interval. Its periods before `open_stamp` are closed and in `table`; later ones are made when asked for.

    `next_us` is the instant at which the first open period ends; `revisions` counts the changes of closed bars.
    """

    interval: Interval
    parts: Table
    table: Table = field(default_factory=Table)
    holes: Holes = field(default_factory=Holes)
    open_stamp: int = NEVER_US
    next_us: int = NEVER_US
    revisions: dict[int, int] = field(default_factory=dict)
    kept: "_Kept | None" = None


@dataclass(frozen=True, slots=True)
class _Kept:
    """The forming bar but for its newest part, so that each batch does not add up the whole period anew."""

    part: int
    stamp: int
    before: Row | None


class Ladder:
    def __init__(self, intervals: Collection[Interval], calendar: Calendar) -> None:
        self.seconds = Table()
        self.calendar = calendar
        self._steps: dict[Interval, Step] = {}
        for interval in MADE_OF:
            if interval in _with_parts(intervals):
                self._steps[interval] = Step(interval, self._table(MADE_OF[interval]))
        tables = [self.seconds, *(step.table for step in self)]
        grouped = [(table, [step for step in self if step.parts is table]) for table in tables]
        self._made_of = [(table, steps) for table, steps in grouped if steps]
        self._tops = [step for step in self if all(step.table is not table for table, _ in self._made_of)]

    def __iter__(self) -> Iterator[Step]:
        """Shorter ones before those that are made of them."""
        return iter(self._steps.values())

    def open_at(self, at_us: int) -> None:
        """Begin with the period that holds an instant."""
        for step in self:
            self._open(step, self.calendar.stamp_at(step.interval, at_us))

    def close(self, step: Step, at_us: int) -> tuple[int, int, Rows]:
        """Make the bars that are over at an instant. Returns: the stamps [from, to) that are closed now, their bars."""
        since, until = step.open_stamp, self.calendar.stamp_at(step.interval, at_us)
        rows = self._made(step, step.parts.within(self._first_part(step, since), self._first_part(step, until)))
        step.table.extend(rows)
        self._open(step, until)
        return since, until, rows

    def repair(self, step: Step, changed: NDArray[np.int64]) -> Rows:
        """Make closed bars anew of which parts have changed. Returns: those that differ now.

        One that has lost all its trades lies flat at the close before it, without volume, and is part of nothing.
        """
        step.kept = None
        if not len(changed) or self.calendar.of_part(step.interval, int(changed[0])) >= step.open_stamp:
            return Rows.empty()
        stamps = np.unique(self.calendar.of_parts(step.interval, changed))
        differing = [row for stamp in stamps[stamps < step.open_stamp].tolist() if (row := self._remade(step, stamp))]
        if not differing:
            return Rows.empty()
        rows = Rows(np.array([stamp for stamp, _ in differing], np.int64), np.array([row for _, row in differing]).T)
        step.table.replace(rows.stamp, rows.pick(rows.values[COUNT] > 0))
        return rows

    def forming(self, wanted: Collection[Interval]) -> dict[Interval, tuple[int, Row]]:
        """The bars of the newest trade's periods, as they stand, of these intervals."""
        last = self.seconds.last()
        if last is None:
            return {}
        newest: dict[Interval | None, tuple[int, Row]] = {None: last}
        return {step.interval: self._newest(step.interval, newest) for step in self if step.interval in wanted}

    def forget(self, before_us: int) -> None:
        """Drop all that no change of a trade at or after an instant can touch."""
        stamps = {step.interval: self.calendar.stamp_at(step.interval, before_us) for step in self}
        for parts, steps in self._made_of:
            parts.forget(min(self._first_part(step, stamps[step.interval]) for step in steps))
        for step in self._tops:
            step.table.forget(stamps[step.interval])
        for step in self:
            step.holes.forget(stamps[step.interval])
            if step.revisions:
                step.revisions = {at: n for at, n in step.revisions.items() if at >= stamps[step.interval]}

    def _table(self, interval: Interval | None) -> Table:
        return self.seconds if interval is None else self._steps[interval].table

    def _open(self, step: Step, stamp: int) -> None:
        step.open_stamp, step.next_us = stamp, self.calendar.ends_us(step.interval, stamp)

    def _first_part(self, step: Step, stamp: int) -> int:
        return self.calendar.first_part(step.interval, stamp)

    def _made(self, step: Step, parts: Rows) -> Rows:
        return combine(parts, self.calendar.of_parts(step.interval, parts.stamp)) if len(parts) else parts

    def _remade(self, step: Step, stamp: int) -> tuple[int, Row] | None:
        """A closed bar as its parts are now, if that is not as it was."""
        parts = step.parts.within(self._first_part(step, stamp), self._first_part(step, step.interval.end_us(stamp)))
        new, old = self._made(step, parts), step.table.within(stamp, stamp + 1)
        if len(new) == len(old) and np.array_equal(new.values, old.values):
            return None
        if len(new):
            return stamp, new.row(0)
        before = step.table.before(stamp)
        price = before[CLOSE] if before is not None else old.row(0)[OPEN]
        return stamp, (price, price, price, price, 0.0, 0.0, 0.0)

    def _newest(self, interval: Interval | None, known: dict[Interval | None, tuple[int, Row]]) -> tuple[int, Row]:
        if interval not in known:
            assert interval is not None
            known[interval] = self._forming(self._steps[interval], *self._newest(MADE_OF[interval], known))
        return known[interval]

    def _forming(self, step: Step, part: int, row: Row) -> tuple[int, Row]:
        if step.kept is None or step.kept.part != part:
            stamp = self.calendar.of_part(step.interval, part)
            rows = self._standing(MADE_OF[step.interval], self._first_part(step, stamp), part)
            step.kept = _Kept(part, stamp, self._made(step, rows).row(0) if len(rows) else None)
        return step.kept.stamp, row if step.kept.before is None else join(step.kept.before, row)

    def _standing(self, interval: Interval | None, start: int, end: int) -> Rows:
        """The bars of an interval in [start, end), closed or not."""
        if interval is None:
            return self.seconds.within(start, end)
        step = self._steps[interval]
        closed = step.table.within(start, end)
        if end <= step.open_stamp:
            return closed
        since = max(start, step.open_stamp)
        parts = self._standing(MADE_OF[interval], self._first_part(step, since), self._first_part(step, end))
        made = self._made(step, parts)
        if not len(closed):
            return made
        return Rows(np.concatenate((closed.stamp, made.stamp)), np.concatenate((closed.values, made.values), axis=1))


def _with_parts(intervals: Collection[Interval]) -> set[Interval]:
    """These intervals and all that they are made of."""
    needed: set[Interval] = set()
    for interval in intervals:
        step: Interval | None = interval
        while step is not None:
            needed.add(step)
            step = MADE_OF[step]
    return needed
