"""A plugin's answer -> batches: what each settles of the range that was asked. Pure."""

from dataclasses import dataclass, field, replace

import numpy as np

from timebase.errors import Malformed, ProviderError
from timebase.model.bars import Bars, Batch, Flag, Outcome
from timebase.model.demand import BACKFILL, Demand
from timebase.model.instrument import CorporateAction
from timebase.model.timerange import SECOND_US, TimeRange


@dataclass(slots=True)
class BatchCutter:
    """The batches of one demand, one held back: the last must say that it is the last.

    A plugin promises that no row earlier than the last of a message follows, so a message settles everything up to the
    end of its last bar. `fetched_us` is when the question went out: what formed then may be over when the answer comes.
    `over_us` is the earliest that it can have been then, by our clocks; None: `fetched_us`. Nothing later is final.

    Order: `covers` of the batches follow each other and fill the demand's range.
    """

    demand: Demand
    fetched_us: int
    delay_s: float = 0.0
    over_us: int | None = None
    _held: Bars | None = None
    _last_us: int = 0  # the opening instant of the latest row in _held
    _settled_us: int = field(init=False)  # where the next batch's `covers` begins
    _actions: list[CorporateAction] = field(default_factory=list)
    _strays: int = 0

    def __post_init__(self) -> None:
        self._settled_us = self.demand.range.start_us

    def add(self, bars: Bars) -> Batch | None:
        """One message; returns the one before it, ready to go.

        Rows outside the range are dropped with a warning, those that repeat the last row without one: vendors' pages
        overlap by one.
        Raises: Malformed when time goes back from message to message.
        """
        asked = self.demand.range
        is_inside = (bars.time >= asked.start_us) & (bars.time < asked.end_us)
        self._strays += len(bars) - int(np.count_nonzero(is_inside))
        if self._held is not None:
            if np.any(bars.time[is_inside] < self._last_us):
                raise Malformed("bars of one message are earlier than those of the message before")
            is_inside &= bars.time > self._last_us
        inside = bars if is_inside.all() else bars.pick(is_inside)
        if not len(inside):
            return None
        ready = self._cut(self._held, self._end_us(int(inside.time.min()))) if self._held is not None else None
        self._held, self._last_us = inside, int(inside.time.max())
        return ready

    def add_actions(self, actions: tuple[CorporateAction, ...]) -> None:
        named = self.demand.named
        self._actions += [each for each in actions if named.start_us <= each.ex_date_us < named.end_us]

    def finish(self, warnings: tuple[str, ...] = ()) -> Batch:
        """The last batch: it settles the rest of the range, all of it when no bar came."""
        outcome = Outcome.EMPTY if self._held is None else Outcome.COMPLETE
        bars = Bars.empty() if self._held is None else self._held
        return self._batch(bars, self.demand.range.end_us, outcome, is_last=True, warnings=warnings)

    def fail(self, error: ProviderError) -> tuple[Batch, ...]:
        """What came before the failure, and a last batch that says what is not known."""
        why = f"{error.code}: {error}"
        if self._held is None:
            return (self._batch(Bars.empty(), self.demand.range.end_us, Outcome.FAILED, is_last=True, why=why),)
        held, end_us = self._held, self._end_us(self.demand.range.end_us)
        if end_us == self.demand.range.end_us:
            return (self._batch(held, end_us, Outcome.PARTIAL, is_last=True, why=why),)
        good = self._cut(held, end_us)
        return (good, self._batch(Bars.empty(), self.demand.range.end_us, Outcome.PARTIAL, is_last=True, why=why))

    def _end_us(self, next_us: int) -> int:
        """Up to where the held bars settle: the end of the last, or the next bar where the grid shifts."""
        return min(self.demand.series.interval.end_us(self._last_us), next_us, self.demand.range.end_us)

    def _cut(self, bars: Bars, end_us: int) -> Batch:
        batch = self._batch(bars, end_us, Outcome.COMPLETE)
        self._settled_us = end_us
        return batch

    def _batch(
        self,
        bars: Bars,
        end_us: int,
        outcome: Outcome,
        *,
        is_last: bool = False,
        warnings: tuple[str, ...] = (),
        why: str = "",
    ) -> Batch:
        if is_last and self._strays:
            warnings = (*warnings, f"{self._strays} rows outside the asked range were dropped")
        if self.demand.reason == BACKFILL:
            bars = replace(bars, flags=bars.flags | np.int16(Flag.BACKFILLED))
        actions, self._actions = tuple(self._actions), []
        over_us = self.fetched_us if self.over_us is None else min(self.over_us, self.fetched_us)
        return Batch(
            demand_id=self.demand.id,
            series=self.demand.series,
            covers=TimeRange(self._settled_us, end_us),
            outcome=outcome,
            reason=self.demand.reason,
            fetched_us=self.fetched_us,
            bars=bars,
            is_last=is_last,
            actions=actions,
            warnings=warnings,
            why=why,
            settled_us=over_us - int(self.delay_s * SECOND_US),
        )
