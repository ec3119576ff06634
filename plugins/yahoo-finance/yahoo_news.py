"""What a poll of bars has brought that was not known. Pure."""

from dataclasses import dataclass, field

from timebase.sdk import Bars, Interval

OVERLAP = 5  # closed bars that are looked at again: Yahoo goes on correcting the last ones
Row = tuple[int, float, float, float, float, float]


@dataclass(frozen=True, slots=True)
class News:
    """Bars to be told, ascending, and for each whether its period is over."""

    bars: Bars
    is_closed: list[bool]


@dataclass(slots=True)
class Known:
    """One feed's newest bars. Units: µs UTC.

    A bar is closed when a later one has begun, or when its period has been over for longer than Yahoo is late. It is
    told as closed once, and once more whenever Yahoo changes it; the one that forms, whenever it has changed.
    """

    interval: Interval
    late_us: int
    closed: dict[int, Row] = field(default_factory=dict)
    forming: Row | None = None

    def since_us(self, now_us: int) -> int:
        """From where to ask: a few closed bars again, or at first what may be late."""
        if self.closed:
            return min(list(self.closed)[-OVERLAP:])
        return self.interval.floor_us(now_us - self.late_us - OVERLAP * self.interval.us)

    def news(self, bars: Bars, now_us: int) -> News:
        """At first nothing older than the newest closed bar: what came before is history, and can be asked for."""
        rows: list[Row] = list(zip(*(getattr(bars, name) for name in Bars.__slots__), strict=True))
        closed = [row for at, row in enumerate(rows) if self._is_over(row[0], at + 1 < len(rows), now_us)]
        if not self.closed:
            closed = closed[-1:]
        told = [(row, True) for row in closed if self.closed.get(row[0]) != row]
        self.closed |= {row[0]: row for row in closed}
        self.closed = {at: self.closed[at] for at in sorted(self.closed)[-2 * OVERLAP :]}
        if rows and rows[-1][0] not in self.closed and rows[-1] != self.forming:
            self.forming = rows[-1]
            told.append((rows[-1], False))
        return News(Bars.from_rows(row for row, _ in told), [is_closed for _, is_closed in told])

    def known_until_us(self, now_us: int) -> int:
        """What the last poll settles: up to the end of the newest closed bar, and what is too old to be late."""
        newest_us = self.interval.end_us(max(self.closed)) if self.closed else 0
        return max(newest_us, now_us - self.late_us - self.interval.us)

    def _is_over(self, open_us: int, has_later: bool, now_us: int) -> bool:
        return has_later or now_us >= self.interval.end_us(open_us) + self.late_us
