"""What Binance's clock says, as far as its messages tell. Pure: callers bring the time."""

KEEP_US = 60_000_000
DOUBT_US = 2_000_000  # how far our own clock may be off, as long as no message has told


class ExchangeClock:
    """A lower bound of the exchange's time.

    A message was sent before it arrived, so that its event time less its arrival is at most the difference of the two
    clocks; the largest of the last minute or two is nearest. Our own clock may well be wrong: recordings exist in which
    messages arrive more than a second before they were sent.
    """

    def __init__(self) -> None:
        self._older_us: int | None = None
        self._newer_us: int | None = None
        self._since_us = 0

    def hear(self, event_us: int, received_us: int) -> None:
        ahead_us = event_us - received_us
        if received_us - self._since_us >= KEEP_US or received_us < self._since_us:
            self._older_us, self._newer_us, self._since_us = self._newer_us, None, received_us
        self._newer_us = ahead_us if self._newer_us is None else max(ahead_us, self._newer_us)

    def at_us(self, local_us: int) -> int:
        """What the exchange's clock showed when ours showed `local_us`, as near as is known."""
        ahead_us = self._ahead_us()
        return local_us if ahead_us is None else local_us + ahead_us

    def surely_us(self, local_us: int) -> int:
        """What it showed at least."""
        ahead_us = self._ahead_us()
        return local_us + (-DOUBT_US if ahead_us is None else ahead_us)

    def _ahead_us(self) -> int | None:
        return max((ahead_us for ahead_us in (self._older_us, self._newer_us) if ahead_us is not None), default=None)
