"""The clock of a tape: what time it is there. Pure: callers bring the time."""

from collections import deque

OVERLAP_S = 5.0  # what was sent in the last seconds may still be on its way, and is sent again after a kill


class TapeClock:
    """Units: `now_s` is any clock that only goes forward; positions are µs UTC in tape time."""

    def __init__(self, position_us: int, speed: float, is_running: bool, now_s: float) -> None:
        self.speed = speed
        self.is_running = is_running
        self._at_us = position_us
        self._at_s = now_s
        self._past: deque[tuple[float, int]] = deque([(now_s, position_us)])

    def now_us(self, now_s: float) -> int:
        if not self.is_running:
            return self._at_us
        return self._at_us + round((now_s - self._at_s) * self.speed * 1e6)

    def arrive(self, position_us: int, now_s: float) -> None:
        """Everything up to there has been handed on; where that takes longer than the clock, the clock waits."""
        self._at_us, self._at_s = position_us, now_s
        self._past.append((now_s, position_us))
        while len(self._past) > 1 and self._past[1][0] <= now_s - OVERLAP_S:
            self._past.popleft()

    @property
    def position_us(self) -> int:
        """Up to where everything has been handed on."""
        return self._past[-1][1]

    def turn(self, speed: float, is_running: bool, now_s: float) -> None:
        """Another speed, or a pause, from here on."""
        self._at_us, self._at_s = self.now_us(now_s), now_s
        self.speed, self.is_running = speed, is_running

    @property
    def resume_us(self) -> int:
        """Where to go on after a kill."""
        return self._past[0][1]
