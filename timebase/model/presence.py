"""Since when one connection of a feed is there: what is old and comes first does not say so."""

from dataclasses import dataclass

from timebase.model.timerange import SECOND_US

NEVER_US = -(1 << 62)
BEHIND_US = 10 * SECOND_US  # no vendor's clock is further behind ours; the validator lets it be as far ahead


@dataclass(slots=True)
class Presence:
    """Whether a connection that was made at `since_us`, by our clock, has brought something of the present.

    Vendors begin with what they have: the last trade of yesterday, or one a year old. Nobody knows what happened
    between that and when they began to send. A tape has nothing but old trades, and is there all the same; it never
    brings what happened after it was asked for. So what is old is believed until something comes that is not: since
    then the connection is there, and of what was old nothing counts. A pulse, which says what time it is for the feed,
    tells a tape for sure. `since_us` is the earliest that it can have been: by a clock that has been put back, what is
    not older than that counts as present. Units: µs UTC.
    """

    since_us: int = 0
    is_now: bool = False
    is_tape: bool = False

    @property
    def is_sure(self) -> bool:
        return self.is_now or self.is_tape

    @property
    def from_us(self) -> int:
        """Nothing older counts."""
        return self.since_us if self.is_now else NEVER_US

    def hear(self, event_us: int, *, is_pulse: bool = False) -> bool:
        """Returns: whether this is the first that happened after the connection was made."""
        self.is_tape |= is_pulse and event_us < self.since_us - BEHIND_US
        if self.is_now or event_us < self.since_us:
            return False
        self.is_now = True
        return True
