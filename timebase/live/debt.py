"""What one live series still lacks, what of it was asked for in vain, and what is worth asking for now."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import trio

from timebase.model.calendar import Calendar
from timebase.model.interval import Interval
from timebase.model.series import Series
from timebase.model.timerange import EVER, Ranges, TimeRange


@dataclass(frozen=True, slots=True)
class Rest:
    """What was asked for in vain, so often, and is not asked for again before `until_at` of trio's clock."""

    range: TimeRange
    tries: int
    until_at: float
    why: str


@dataclass(slots=True)
class Debt:
    """What is owed of one series, and how it is going.

    Units: stamps as in `Bars.time`: a date is that of the instrument's own time zone, as the aggregator has it.
    `unknown_from`: where the feed joined, of a series whose last closed bar has still to be looked up. `traded`: the
    periods that must have a bar. `revised`: those whose stored bar is not the newest. `doubts`: those of which history
    had no bar when it was asked so early that this need not be the last word. `event_now_us`: what time it is for the
    feed, since a tape is years behind, and its history knows nothing of what was not played yet.
    """

    series: Series
    calendar: Calendar
    event_now_us: Callable[[], int]
    ranges: Ranges = field(default_factory=Ranges)
    unknown_from: int | None = None
    traded: set[int] = field(default_factory=set)
    revised: set[int] = field(default_factory=set)
    doubts: set[int] = field(default_factory=set)
    paying: Ranges = field(default_factory=Ranges)  # is being asked for right now
    rests: tuple[Rest, ...] = ()
    failures: int = 0  # questions in a row that nobody answered, whatever they were about
    trouble: str = ""  # the last question was not answered
    news: trio.lowlevel.ParkingLot = field(default_factory=trio.lowlevel.ParkingLot)

    def owe(self, ranges: Ranges, *, traded: Iterable[int] = ()) -> None:
        self.ranges |= ranges
        self.traded |= within(traded, ranges)
        self.news.unpark_all()

    @property
    def tries(self) -> int:
        """The most that anything of it was asked for in vain."""
        return max(self.failures, *(rest.tries for rest in self.rests), 0)

    @property
    def why(self) -> str:
        """Why it is not paid yet; "" when nothing went wrong."""
        return self.trouble or next((rest.why for rest in reversed(self.rests)), "")

    def next_due(self, over: int, now_at: float) -> TimeRange | None:
        """The newest that may be asked for now, of what ends by the stamp `over`. What rests holds up nothing else."""
        due = self.ranges & Ranges((TimeRange(EVER.start_us, over),))
        fresh = due - Ranges.of(rest.range for rest in self.rests)
        again = due & Ranges.of(rest.range for rest in self.rests if rest.until_at <= now_at)
        return max((*fresh.parts[-1:], *again.parts[-1:]), default=None)

    def tries_of(self, part: TimeRange) -> int:
        """How often any of it was asked for in vain."""
        return max((rest.tries for rest in self.rests if rest.range.intersect(part)), default=0)

    def rest(self, part: TimeRange, tries: int, until_at: float, why: str) -> None:
        self._wake(part)
        self.rests += (Rest(part, tries, until_at, why),)

    def settle(self, part: TimeRange) -> None:
        """It is had, or given up; what has changed since it was asked for is owed once more."""
        self._wake(part)
        changed_again = Ranges.of(period(self.series.interval, stamp) for stamp in self.revised)
        self.ranges = (self.ranges - Ranges((part,))) | changed_again
        self.traded = within(self.traded, self.ranges)
        self.doubts = within(self.doubts, self.ranges)

    def _wake(self, part: TimeRange) -> None:
        woken = Ranges((part,))
        self.rests = tuple(
            replace(rest, range=left) for rest in self.rests for left in (Ranges((rest.range,)) - woken).parts
        )


def within(stamps: Iterable[int], where: Ranges | TimeRange) -> set[int]:
    ranges = where if isinstance(where, Ranges) else Ranges((where,))
    return {stamp for stamp in stamps if ranges & Ranges((TimeRange(stamp, stamp + 1),))}


def period(interval: Interval, stamp: int) -> TimeRange:
    return TimeRange(stamp, interval.end_us(stamp))
