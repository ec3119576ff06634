"""Since when one connection of a feed is there: what is old and comes first does not say so."""

from dataclasses import dataclass

NEVER_US = -(1 << 62)


@dataclass(slots=True)
class Presence:
    """Whether a connection that was made at `since_us`, by our clock, has brought something of the present.

    Vendors begin with what they have: the last trade of yesterday, or one a year old. Nobody knows what happened
    between that and when they began to send. A tape has nothing but old trades, and is there all the same; it never
    brings what happened after it was asked for. So what is old is believed until something comes that is not: since
    then the connection is there, and of what was old nothing counts. Units: µs UTC.
    """

    since_us: int = 0
    is_now: bool = False

    @property
    def from_us(self) -> int:
        """Nothing older counts."""
        return self.since_us if self.is_now else NEVER_US

    def hear(self, event_us: int) -> bool:
        """Returns: whether this is the first that happened after the connection was made."""
        if self.is_now or event_us < self.since_us:
            return False
        self.is_now = True
        return True
