"""How long things take, counted: from the event to whoever follows it."""

from bisect import bisect_left
from dataclasses import dataclass, field

BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


@dataclass(slots=True)
class Lag:
    """A histogram: `counts` has one more than BOUNDS_S, for what took longer than all of them."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    sum_s: float = 0.0

    def note(self, us: int) -> None:
        """One more. A vendor's clock may be ahead of ours: that is no time at all."""
        seconds = max(us, 0) / 1e6
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.sum_s += seconds

    def cumulative(self) -> list[int]:
        """How many took at most each bound, and all of them."""
        total, counts = 0, []
        for count in self.counts:
            total += count
            counts.append(total)
        return counts


@dataclass(slots=True)
class Lags:
    """Per stage: event -> received -> durable -> sent."""

    received: Lag = field(default_factory=Lag)
    durable: Lag = field(default_factory=Lag)
    sent: Lag = field(default_factory=Lag)
