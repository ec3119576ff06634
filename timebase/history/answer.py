"""What a question is answered with, before it is rendered."""

from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass, field

from timebase.model.bars import Bars
from timebase.model.demand import Question
from timebase.model.instrument import Instrument
from timebase.model.interval import Interval
from timebase.model.receipt import Attempt
from timebase.model.series import Series
from timebase.model.timerange import TimeRange


@dataclass(frozen=True, slots=True)
class Missing:
    """A range that the answer lacks, and why."""

    range: TimeRange
    why: str


@dataclass(frozen=True, slots=True)
class Freshness:
    """How new the answer is. Units: µs UTC.

    `checked_us`: when the provider was last asked for this series (None: unknown).
    `fresh_until_us`: when the newest part is asked for again (None: every bar of the answer is final).
    `is_stale`: the newest part could not be asked for again, or the database is away.
    """

    checked_us: int | None = None
    fresh_until_us: int | None = None
    is_stale: bool = False

    def is_fresh(self, now_us: int) -> bool:
        """Whether the newest part need not be asked for again; not when the clock has been put back since."""
        if self.fresh_until_us is None:
            return True
        return now_us < self.fresh_until_us and (self.checked_us is None or self.checked_us <= now_us)


@dataclass(frozen=True, slots=True)
class Answer:
    """The receipt of one question, and the way to its bars. `series`: what they were read from.

    `version` names the content: equal versions have equal bars, so rendered bodies may be kept under it.
    `load` reads the bars (from memory while they are there); they are not held here, so that a kept answer stays small.
    """

    question: Question
    instrument: Instrument
    series: Series
    version: Hashable
    source: str  # cache | store | fetched
    load: Callable[[], Awaitable[Bars]]
    attempts: tuple[Attempt, ...] = ()
    missing: tuple[Missing, ...] = ()
    freshness: Freshness = Freshness()
    adjustment: Mapping[str, object] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    next_start_us: int | None = None

    @property
    def resampled_from(self) -> Interval | None:
        """The interval of the bars that these are made of; None: the provider has them as they are."""
        return None if self.series.interval is self.question.interval else self.series.interval

    @property
    def is_complete(self) -> bool:
        return not self.missing


@dataclass(frozen=True, slots=True)
class Completion:
    """What it took to make a range complete without reading it."""

    series: Series
    attempts: tuple[Attempt, ...]
    missing: tuple[Missing, ...]
    new: int
    revised: int
    warnings: tuple[str, ...]
