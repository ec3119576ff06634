"""Since when one connection of a feed is there: what is old and comes first does not say so."""

from dataclasses import dataclass

from timebase.model.timerange import SECOND_US

NEVER_US = -(1 << 62)
BEHIND_US = 10 * SECOND_US  # a vendor's clock is not further behind ours; the validator lets it be as far ahead
BURST_US = 5 * SECOND_US  # what a vendor says for a start comes within that


@dataclass(slots=True)
class Presence:
    """Whether a connection that was made at `since_us`, by our clock, is known to be there.

    Vendors begin with what they have: the last trade of yesterday, or one a year old. Nobody knows what happened
    between that and the moment at which they began to send, so it is no sign of being there. What happened after the
    connection was made is one, and then only what happened since counts (`from_us`). A tape has nothing but old trades
    and is there all the same. It gives itself away by a pulse, which says what time it is for the feed, or by going on:
    what a vendor says for a start is said at once. Until one of them is known, nothing is believed.

    Once it is known, it stays so for this connection. No clock is read here: the answer depends only on what came, and
    when it was received. Units: µs UTC; `first_us` is the oldest event that counts.
    """

    since_us: int = 0
    from_us: int = NEVER_US
    first_us: int | None = None
    is_known: bool = False
    _heard_us: int | None = None  # when the first was received

    def hear(self, oldest_us: int, newest_us: int, received_us: int) -> None:
        """Trades, quotes or bars came."""
        if self.is_known:
            return
        if newest_us >= self.since_us:
            self._begin_now()
            self.first_us = max(oldest_us, self.since_us)
            return
        self._heard_us = received_us if self._heard_us is None else self._heard_us
        self.first_us = oldest_us if self.first_us is None else min(self.first_us, oldest_us)
        self.is_known = received_us - self._heard_us >= BURST_US

    def pulse(self, at_us: int) -> None:
        if self.is_known:
            return
        if at_us >= self.since_us:
            self._begin_now()
        else:
            self.is_known = at_us < self.since_us - BEHIND_US

    def _begin_now(self) -> None:
        self.is_known, self.from_us, self.first_us = True, self.since_us, None
