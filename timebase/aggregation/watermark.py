"""How far event time has come, and since when nothing is missing. The wall clock has no say: old tapes are replayed."""

import numpy as np
from numpy.typing import NDArray

from timebase.model.presence import NEVER_US, Presence


class Watermark:
    """Event time of one feed.

    The feed *joins* with the first thing heard after it was made, or after it was down: since `joined_us` nothing is
    missing. That instant may still move back until the watermark has passed it, for what is late within the lateness
    may come before what is first. What is older than the connection joins nothing, but for a tape: see `Presence`,
    which is asked first. Units: µs UTC.
    """

    def __init__(self, lateness_us: int, since_us: int = 0) -> None:
        self.newest_us = NEVER_US  # trade or pulse
        self.left_us = NEVER_US  # the newest before the feed went down: what came after it may be missing
        self.joined_us: int | None = None
        self.is_joining = True
        self._lateness_us = lateness_us
        self._presence = Presence(since_us)

    @property
    def is_in_doubt(self) -> bool:
        """Whether all that came since the feed was made, or was down, may be what the vendor had lying there."""
        return self.is_joining and not self._presence.is_known

    @property
    def at_us(self) -> int:
        """Nothing older is awaited."""
        return self.newest_us - self._lateness_us

    def leave(self) -> None:
        """The feed went down. What was not whole before is still not whole."""
        if not self.is_joining:
            self.left_us = self.newest_us
        self.joined_us, self.is_joining = None, True

    def come(self, since_us: int) -> None:
        """A connection was made, at an instant of our clock."""
        self._presence = Presence(since_us)

    def hear(self, time: NDArray[np.int64], received_us: int) -> None:
        """Trades came; what is replayed from before the feed went down does not say that it is back."""
        newest_us = int(time.max())
        if self.is_joining:
            if self.is_in_doubt:
                self._presence.hear(int(time.min()), newest_us, received_us)
            self._join(time)
        self.newest_us = max(self.newest_us, newest_us)

    def pulse(self, at_us: int) -> None:
        """Nothing older is to come."""
        if self.is_joining:
            self._presence.pulse(at_us)
            self._join(np.array((at_us,), np.int64))
        self.newest_us = max(self.newest_us, at_us)

    def is_old(self, time: NDArray[np.int64]) -> bool:
        """Whether all of it happened before the connection was made."""
        return int(time.max()) < self._presence.since_us

    def settle(self) -> bool:
        """Whether `joined_us` has just become final."""
        if self.joined_us is None or not self.is_joining or self.is_in_doubt or self.at_us < self.joined_us:
            return False
        self.is_joining = False
        return True

    def _join(self, time: NDArray[np.int64]) -> None:
        from_us = self._presence.from_us
        if self.joined_us is not None and self.joined_us < from_us:
            self.joined_us = None
        since = time[(time > self.left_us) & (time >= max(self.at_us, from_us))]
        if len(since):
            first_us = int(since.min())
            self.joined_us = first_us if self.joined_us is None else min(self.joined_us, first_us)
