"""How far event time has come, and since when nothing is missing. The wall clock has no say: old tapes are replayed."""

import numpy as np
from numpy.typing import NDArray

from timebase.model.presence import NEVER_US, Presence


class Watermark:
    """Event time of one feed.

    The feed *joins* with the first thing heard after it was made, or after it was down: since `joined_us` nothing is
    missing. That instant may still move back until the watermark has passed it, for what is late within the lateness
    may come before what is first. With the first thing that happened after the connection was made the feed joins
    anew: what is older was the vendor's to begin with (see `Presence`). So that it does not matter how old and new are
    mixed within the lateness, what is older than the connection by no more than that joins nothing. Units: µs UTC.
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
        """Whether all that came since the feed was made, or was down, may be what the vendor had to begin with."""
        return self.is_joining and not self._presence.is_now

    @property
    def is_unknown(self) -> bool:
        """Whether the feed has not joined for the first time: nothing is missing then, and nothing whole."""
        return self.is_joining and self.left_us == NEVER_US

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

    def parts(self, time: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
        """The same as it has to be heard: what may be the vendor's to begin with by itself, and before the rest."""
        since_us = self._presence.since_us
        old_us = since_us - self._lateness_us
        if self._presence.is_now or int(time.min()) >= since_us or int(time.max()) < old_us:
            return (time,)
        return tuple(part for part in (time[time < old_us], time[time >= since_us]) if len(part))

    def hear(self, time: NDArray[np.int64]) -> None:
        """Trades or a pulse came; what is replayed from before the feed went down does not say that it is back."""
        newest_us = int(time.max())
        if self._presence.hear(newest_us):
            self._join_anew()
        if self.is_joining:
            since = time[(time > self.left_us) & (time >= max(self.at_us, self._presence.from_us))]
            if len(since):
                first_us = int(since.min())
                self.joined_us = first_us if self.joined_us is None else min(self.joined_us, first_us)
        self.newest_us = max(self.newest_us, newest_us)

    def _join_anew(self) -> None:
        if self.left_us == NEVER_US:
            self.joined_us, self.is_joining = None, True
        else:
            self.leave()

    def settle(self) -> bool:
        """Whether `joined_us` has just become final."""
        if self.is_joining and self.joined_us is not None and self.at_us >= self.joined_us:
            self.is_joining = False
            return True
        return False
