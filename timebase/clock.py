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
    a few ms while nothing steps. A wall clock that has been ahead for an hour is believed.
    """

    def __init__(self, wall_us: Callable[[], int] = now_us, elapsed_us: Callable[[], int] = elapsed_us) -> None:
        self._wall_us = wall_us
        self._elapsed_us = elapsed_us
        self._lead_us = wall_us() - elapsed_us()
        self._late_us = 0  # how far we are behind what is believed
        self._ahead_since_us: int | None = None  # when the wall clock was first seen ahead of that

    def now_us(self) -> int:
        """By this clock alone: without a step, but as wrong as the wall's was at the start."""
        return self._elapsed_us() + self._lead_us

    def earliest_us(self) -> int:
        """What is before it is over for certain."""
        return min(self._wall_us(), self._believed_us())

    def latest_us(self) -> int:
        """What is after it has not happened yet for certain."""
        return max(self._wall_us(), self._believed_us())

    def _believed_us(self) -> int:
        now_us = self.now_us()
        late_us = self._wall_us() - now_us
        if late_us < self._late_us + _NO_STEP_US:
            self._ahead_since_us = None
        elif self._ahead_since_us is None:
            self._ahead_since_us = now_us
        elif now_us - self._ahead_since_us >= _BELIEVED_US:
            self._ahead_since_us, self._late_us = None, late_us
        return now_us + self._late_us
