"""The ledger: what is known about every instant of a series. Pure; `queries/coverage.py` keeps it.

An instant has at most one outcome; the newest word wins, save that a failure takes nothing from what is settled.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from timebase.model.bars import Bars, Batch, Flag, Outcome
from timebase.model.interval import Interval
from timebase.model.timerange import DAY_US, EVER, HOUR_US, Ranges, TimeRange

REFUSED_FOR_US = DAY_US  # what the validator refused is asked for again after this


Mark = tuple[Outcome, int]  # outcome, and for REFUSED the hour it was noted in (else 0)
_NOTHING = Ranges()
_SETTLED = (Outcome.COMPLETE, Outcome.EMPTY, Outcome.REFUSED)


@dataclass(frozen=True)
class Coverage:
    """What a question may rely on, now."""

    complete: Ranges = _NOTHING
    empty: Ranges = _NOTHING
    refused: Ranges = _NOTHING
    partial: Ranges = _NOTHING
    failed: Ranges = _NOTHING
    generation: int = 0

    @cached_property
    def settled(self) -> Ranges:
        """What need not be asked for."""
        return self.complete | self.empty | self.refused


@dataclass(frozen=True, slots=True)
class Claim:
    """What one batch says about a range."""

    outcome: Outcome
    ranges: Ranges
    noted_us: int


@dataclass(frozen=True, slots=True)
class Ledger:
    """Everything noted about one series."""

    marks: Mapping[Mark, Ranges] = field(default_factory=dict)

    def after(self, claims: Sequence[Claim], now_us: int) -> "Ledger":
        """The ledger once `claims` are noted, oldest first; refusals that are too old to matter are left out."""
        marks = {mark: ranges for mark, ranges in self.marks.items() if _is_fresh(mark, now_us)}
        for claim in claims:
            ranges = claim.ranges
            if claim.outcome not in _SETTLED:
                for (outcome, _), held in marks.items():
                    ranges = ranges - held if outcome in _SETTLED else ranges
            marks = {mark: held - ranges for mark, held in marks.items()}
            mark = (claim.outcome, claim.noted_us // HOUR_US * HOUR_US if claim.outcome is Outcome.REFUSED else 0)
            marks[mark] = marks.get(mark, Ranges()) | ranges
        return Ledger({mark: ranges for mark, ranges in marks.items() if ranges})

    def since(self, start_us: int, now_us: int) -> "Ledger":
        """The ledger that has forgotten everything before that instant."""
        return self.without(Ranges((TimeRange(EVER.start_us, start_us),)), now_us)

    def without(self, gone: Ranges, now_us: int) -> "Ledger":
        """The ledger that knows nothing of `gone`."""
        kept = {mark: ranges - gone for mark, ranges in self.marks.items() if _is_fresh(mark, now_us)}
        return Ledger({mark: ranges for mark, ranges in kept.items() if ranges})

    def coverage(self, now_us: int, generation: int) -> Coverage:
        seen = {outcome: Ranges() for outcome in Outcome}
        for mark, ranges in self.marks.items():
            if _is_fresh(mark, now_us):
                seen[mark[0]] |= ranges
        return Coverage(
            seen[Outcome.COMPLETE], seen[Outcome.EMPTY], seen[Outcome.REFUSED],
            seen[Outcome.PARTIAL], seen[Outcome.FAILED], generation,
        )  # fmt: skip


def _is_fresh(mark: Mark, now_us: int) -> bool:
    outcome, noted_us = mark
    return outcome is not Outcome.REFUSED or now_us - noted_us < REFUSED_FOR_US


def final_before(interval: Interval, settled_us: int) -> int:
    """Bars that open before this instant were over at `settled_us`, wherever on the grid they opened.

    Example: of 1h bars at 15:10 the one that opened at 14:00 is over and one that opens at 14:15 is not: 14:15
    """
    if not interval.is_intraday:
        return interval.floor_us(settled_us)
    return (settled_us - interval.us) // interval.grid_us * interval.grid_us + interval.grid_us


def settled_then(ranges: Ranges, interval: Interval, settled: Ranges) -> Ranges:
    """Of the `ranges` that batches had settled by an instant of the past, what a question at that instant relied on.

    A batch's own word on its newest bars is not kept, so it is taken for what it can have been at most: periods that
    were over. And no more than is `settled` today, for what was settled is, save what was forgotten.
    """
    whole = (_whole(part, interval) for part in ranges.parts)
    return Ranges.of(part for part in whole if part is not None) & settled


def _whole(part: TimeRange, interval: Interval) -> TimeRange | None:
    end_us = part.end_us
    is_on_grid = end_us % interval.grid_us == 0 if interval.is_intraday else interval.floor_us(end_us) == end_us
    end_us = end_us if is_on_grid else final_before(interval, end_us)
    return TimeRange(part.start_us, end_us) if part.start_us < end_us else None


def claims(batch: Batch) -> Iterator[Claim]:
    """What `batch` lets us note. Nothing is final that was not over when it was fetched."""
    if batch.outcome in (Outcome.PARTIAL, Outcome.FAILED):
        yield Claim(batch.outcome, Ranges((batch.covers,)), batch.fetched_us)
        return
    final = _final_part(batch)
    if final is None:
        return
    refused = _refused_periods(batch, final)
    known = Ranges((final,)) - refused
    if known:
        yield Claim(batch.outcome, known, batch.fetched_us)
    if refused:
        yield Claim(Outcome.REFUSED, refused, batch.fetched_us)


def _final_part(batch: Batch) -> TimeRange | None:
    settled_us = batch.fetched_us if batch.settled_us is None else min(batch.settled_us, batch.fetched_us)
    end_us = min(batch.covers.end_us, final_before(batch.series.interval, settled_us))
    forming = np.flatnonzero(batch.bars.flags & Flag.FORMING)
    if len(forming):
        end_us = min(end_us, int(batch.bars.time[forming[0]]))
    return TimeRange(batch.covers.start_us, end_us) if batch.covers.start_us < end_us else None


def _refused_periods(batch: Batch, within: TimeRange) -> Ranges:
    """The periods of refused rows for which no good bar came either."""
    if not batch.refused:
        return Ranges()
    times = np.unique(np.concatenate([refused.bars.time for refused in batch.refused]))
    times = times[(times >= within.start_us) & (times < within.end_us)]
    times = times[~np.isin(times, batch.bars.time)]
    interval = batch.series.interval
    periods = (TimeRange(int(at), interval.end_us(int(at))) for at in times)
    return Ranges.of(part for period in periods if (part := period.intersect(within)))


def opening_span(bars: Bars) -> TimeRange | None:
    """From the first opening to just after the last; needs ascending time."""
    return TimeRange(int(bars.time[0]), int(bars.time[-1]) + 1) if len(bars) else None
