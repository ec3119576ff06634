"""How far event time has come, and since when nothing is missing. The wall clock has no say: old tapes are replayed."""

import numpy as np
from numpy.typing import NDArray

NEVER_US = -(1 << 62)


class Watermark:
    """Event time of one feed.

    The feed *joins* with the first thing heard after it was made, or after it was down: since `joined_us` nothing is
    missing. That instant may still move back until the watermark has passed it, for what is late within the lateness
    may come before what is first. Units: µs UTC.
    """

    def __init__(self, lateness_us: int) -> None:
        self.newest_us = NEVER_US  # trade or pulse
        self.left_us = NEVER_US  # the newest before the feed went down: what came after it may be missing
        self.joined_us: int | None = None
        self.is_joining = True
        self._lateness_us = lateness_us

    @property
    def at_us(self) -> int:
        """Nothing older is awaited."""
        return self.newest_us - self._lateness_us

    def leave(self) -> None:
        """The feed went down. What was not whole before is still not whole."""
        if not self.is_joining:
            self.left_us = self.newest_us
        self.joined_us, self.is_joining = None, True

    def hear(self, time: NDArray[np.int64]) -> None:
        """Trades or a pulse came; what is replayed from before the feed went down does not say that it is back."""
        if self.is_joining:
            since = time[(time > self.left_us) & (time >= self.at_us)]
            if len(since):
                first_us = int(since.min())
                self.joined_us = first_us if self.joined_us is None else min(self.joined_us, first_us)
        self.newest_us = max(self.newest_us, int(time.max()))

    def settle(self) -> bool:
        """Whether `joined_us` has just become final."""
        if self.is_joining and self.joined_us is not None and self.at_us >= self.joined_us:
            self.is_joining = False
            return True
        return False
