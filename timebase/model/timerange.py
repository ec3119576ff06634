"""Half-open ranges of time and their algebra: what is covered, what is missing.

Units: µs since 1970-01-01 UTC everywhere; `datetime` appears only where people read it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_us(at: datetime) -> int:
    """µs since the epoch of an aware datetime, exactly."""
    return (at - EPOCH) // timedelta(microseconds=1)


def to_datetime(at_us: int) -> datetime:
    return EPOCH + timedelta(microseconds=at_us)


@dataclass(frozen=True, slots=True, order=True)
class TimeRange:
    """[start_us, end_us), never empty."""

    start_us: int
    end_us: int

    def __post_init__(self) -> None:
        if self.start_us >= self.end_us:
            raise ValueError(f"a range ends after it starts, not {self.start_us}..{self.end_us}")

    def __str__(self) -> str:
        return f"{to_datetime(self.start_us).isoformat()}..{to_datetime(self.end_us).isoformat()}"

    @property
    def length_us(self) -> int:
        return self.end_us - self.start_us

    def intersect(self, other: "TimeRange") -> "TimeRange | None":
        start_us, end_us = max(self.start_us, other.start_us), min(self.end_us, other.end_us)
        return TimeRange(start_us, end_us) if start_us < end_us else None


EVER = TimeRange(to_us(datetime(1, 1, 1, tzinfo=UTC)), to_us(datetime(9999, 1, 1, tzinfo=UTC)))  # what a date can say


@dataclass(frozen=True, slots=True)
class Ranges:
    """A set of instants as sorted ranges that neither overlap nor touch. Build it with `Ranges.of`."""

    parts: tuple[TimeRange, ...] = ()

    @classmethod
    def of(cls, ranges: Iterable[TimeRange]) -> "Ranges":
        joined: list[TimeRange] = []
        for part in sorted(ranges):
            if joined and part.start_us <= joined[-1].end_us:
                joined[-1] = TimeRange(joined[-1].start_us, max(joined[-1].end_us, part.end_us))
            else:
                joined.append(part)
        return cls(tuple(joined))

    def __bool__(self) -> bool:
        return bool(self.parts)

    def __or__(self, other: "Ranges") -> "Ranges":
        return Ranges.of((*self.parts, *other.parts))

    def __and__(self, other: "Ranges") -> "Ranges":
        return self - (self - other)

    def __sub__(self, other: "Ranges") -> "Ranges":
        left: list[TimeRange] = []
        holes = iter(other.parts)
        hole = next(holes, None)
        for part in self.parts:
            at_us = part.start_us
            while hole is not None and hole.end_us <= at_us:
                hole = next(holes, None)
            while hole is not None and hole.start_us < part.end_us:
                if at_us < hole.start_us:
                    left.append(TimeRange(at_us, hole.start_us))
                at_us = hole.end_us
                if at_us >= part.end_us:
                    break
                hole = next(holes, None)
            if at_us < part.end_us:
                left.append(TimeRange(at_us, part.end_us))
        return Ranges(tuple(left))
