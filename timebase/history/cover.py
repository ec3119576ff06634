"""What of a question the ledger does not hold yet: pure range algebra."""

from dataclasses import dataclass

from timebase.model.interval import Interval
from timebase.model.timerange import DAY_US, Ranges, TimeRange

# A question with more holes than this is asked as one range: 16 requests cost a vendor more than a few known bars.
MAX_GAPS = 16
FAR_US = 100_000 * DAY_US  # after everything that can be asked


@dataclass(frozen=True, slots=True)
class Head:
    """The part of a series that still changes, as it was asked for at `asked_us`: [from_us, until_us) was not final.

    `until_us` None: it reached to the present of then, and goes on with the time.
    """

    asked_us: int
    from_us: int
    until_us: int | None = None

    def is_fresh(self, now_us: int, refresh_us: int) -> bool:
        """Whether it need not be asked for again; not when it was asked for by a clock that has been put back since."""
        return 0 <= now_us - self.asked_us < refresh_us

    def rested(self, now_us: int) -> Ranges:
        """What was asked for; who asks for it again too soon learns nothing new."""
        until_us = max(now_us, self.asked_us) if self.until_us is None else self.until_us
        return Ranges((TimeRange(self.from_us, until_us),)) if self.from_us < until_us else Ranges()


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
) -> Ranges:
    """The ranges of `asked` that are not settled, oldest first, but for a head that was asked for a moment ago."""
    whole = align(asked, interval, now_us)
    if whole is None:
        return Ranges()
    missing = Ranges((whole,)) - settled
    if head is not None and head.is_fresh(now_us, refresh_us):
        missing -= head.rested(now_us)
    return _few(missing)


def _few(ranges: Ranges) -> Ranges:
    if len(ranges.parts) <= MAX_GAPS:
        return ranges
    return Ranges((TimeRange(ranges.parts[0].start_us, ranges.parts[-1].end_us),))
