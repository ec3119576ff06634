"""What the router thinks of one provider, from what its questions came to."""

import logging

from timebase.errors import (
    Empty,
    Malformed,
    ProviderError,
    SymbolNotFound,
    Unavailable,
    Upstream,
    UpstreamTimeout,
)
from timebase.router.breaker import Breaker
from timebase.router.record import Fault, Record

log = logging.getLogger(__name__)

# What speaks against the vendor. A process that is down is not here: the supervisor's back-off is its circuit, and one
# crash fails every question under way at once. A rate limit is the budget's matter.
FAILURES = (Upstream, UpstreamTimeout, Malformed)
# What the vendor answered properly, if not with bars.
ANSWERS = (Empty, SymbolNotFound)


class Standing:
    """One provider's record and circuit. Units: `now` seconds of any steady clock, `at_us` µs UTC."""

    def __init__(self, slug: str, breaker: Breaker) -> None:
        self._slug = slug
        self.breaker = breaker
        self.record = Record()

    def closed_for(self, now: float) -> str:
        """Why its circuit lets no question through now; "" when it does."""
        if self.breaker.admits(now):
            return ""
        rest_s = self.breaker.rest_s(now)
        if rest_s:
            return f"its circuit is open after {self.breaker.failures} failures, for {rest_s:.0f} s more"
        return "its circuit is half open, and a first question is under way"

    def asked(self, now: float) -> bool:
        """A question goes out. Returns: whether it is a probe, to be handed in with its outcome."""
        self.breaker, is_probe = self.breaker.asked(now)
        return is_probe

    def answered(self, now: float, took_s: float, *, is_probe: bool) -> None:
        self.record = self.record.answered(now, took_s)
        self._turn(self.breaker.succeeded(is_probe=is_probe))

    def erred(self, now: float, took_s: float, fault: Fault, error: ProviderError, *, is_probe: bool) -> None:
        self.record = self.record.noted(fault)
        if isinstance(error, ANSWERS):
            self.answered(now, took_s, is_probe=is_probe)
        elif isinstance(error, FAILURES):
            self.record = self.record.let_down(now)
            self._turn(self.breaker.failed(now, is_probe=is_probe))
        else:
            if isinstance(error, Unavailable):
                self.record = self.record.let_down(now)
            self.left(is_probe=is_probe)

    def left(self, *, is_probe: bool) -> None:
        """A question ended without a word about the provider."""
        self.breaker = self.breaker.released(is_probe=is_probe)

    def _turn(self, breaker: Breaker) -> None:
        before, self.breaker = self.breaker, breaker
        if breaker.opened_at not in (None, before.opened_at):
            why = self.record.last_fault.message if self.record.last_fault else ""
            log.warning("the circuit of %s is open for %g s: %s", self._slug, breaker.open_s, why)
        if breaker.opened_at is None and before.opened_at is not None:
            log.info("the circuit of %s is closed again", self._slug)
