"""What of a question the ledger does not hold yet: pure range algebra."""

from dataclasses import dataclass, field

from timebase.model.interval import Interval
from timebase.model.timerange import Ranges, TimeRange

# A question with more holes than this is asked as one range: 16 requests cost a vendor more than a few known bars.
MAX_GAPS = 16


@dataclass(frozen=True, slots=True)
class Head:
    """The newest part of a series, that still changes: nothing since `from_us` was final when asked at `asked_us`."""

    from_us: int
    asked_us: int


@dataclass(frozen=True, slots=True)
class Gaps:
    """What is to be asked for, and what is only too fresh to be final and was asked for a moment ago."""

    ranges: Ranges
    resting: Ranges = field(default_factory=Ranges)

    def __bool__(self) -> bool:
        return bool(self.ranges)


def align(asked: TimeRange, interval: Interval, now_us: int) -> TimeRange | None:
    """The whole periods that `asked` touches, up to now; None when all of it lies in the future."""
    if asked.start_us >= now_us:
        return None
    last_open_us = interval.floor_us(asked.end_us)
    end_us = asked.end_us if last_open_us == asked.end_us else interval.end_us(last_open_us)
    start_us, end_us = interval.floor_us(asked.start_us), min(end_us, now_us)
    return TimeRange(start_us, end_us) if start_us < end_us else None


def find_gaps(
    asked: TimeRange, settled: Ranges, interval: Interval, *, now_us: int, head: Head | None, refresh_us: int
) -> Gaps:
    """The ranges of `asked` that are not settled, oldest first."""
    whole = align(asked, interval, now_us)
    if whole is None:
        return Gaps(Ranges())
    missing = Ranges((whole,)) - settled
    if head is None or now_us - head.asked_us >= refresh_us:
        return Gaps(_few(missing))
    rested = Ranges((TimeRange(head.from_us, now_us),)) if head.from_us < now_us else Ranges()
    return Gaps(_few(missing - rested), missing & rested)


def _few(ranges: Ranges) -> Ranges:
    if len(ranges.parts) <= MAX_GAPS:
        return ranges
    return Ranges((TimeRange(ranges.parts[0].start_us, ranges.parts[-1].end_us),))
