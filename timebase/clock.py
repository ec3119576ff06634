"""The only reading of the wall clock, and what may be believed of it: while we run it may step, back and forward.

How long something lasted is never measured with it, but with the scheduler's clock (`trio.current_time`).
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime

# The one that goes on while the machine sleeps; macOS has no CLOCK_BOOTTIME, and its CLOCK_MONOTONIC does that.
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def utc_now() -> datetime:
    return datetime.now(UTC)


def now_us() -> int:
    """Units: µs since 1970-01-01 UTC."""
    return time.time_ns() // 1_000


def elapsed_us() -> int:
    """Units: µs since an instant of the machine's own, without steps."""
    return time.clock_gettime_ns(_STEADY) // 1_000


_NO_STEP_US = 1_000_000  # less is left to the wall clock
_BELIEVED_US = 3_600_000_000


class SteadyClock:
    """Goes on evenly from what the wall clock said at its birth, whatever becomes of that one.

    Nobody here can tell which of the two is right: the wall clock may be put wrong while we run, or was wrong at our
    start and has been put right. So the present is somewhere from `earliest_us` to `latest_us`, which are the same to
    a few ms while nothing steps. A step forward is believed when it has stood for an hour.
    """

    def __init__(self, wall_us: Callable[[], int] = now_us, elapsed_us: Callable[[], int] = elapsed_us) -> None:
        self._wall_us = wall_us
        self._elapsed_us = elapsed_us
        self._lead_us = wall_us() - elapsed_us()
        self._behind_since_us: int | None = None

    def now_us(self) -> int:
        elapsed_us = self._elapsed_us()
        lead_us = self._wall_us() - elapsed_us
        if lead_us < self._lead_us + _NO_STEP_US:
            self._behind_since_us = None
        elif self._behind_since_us is None:
            self._behind_since_us = elapsed_us
        elif elapsed_us >= self._behind_since_us + _BELIEVED_US:
            self._behind_since_us, self._lead_us = None, lead_us
        return elapsed_us + self._lead_us

    def earliest_us(self) -> int:
        """What is before it is over for certain."""
        return min(self._wall_us(), self.now_us())

    def latest_us(self) -> int:
        """What is after it has not happened yet for certain."""
        return max(self._wall_us(), self.now_us())
