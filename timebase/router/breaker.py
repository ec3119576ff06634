"""The circuit of one provider: after failures in a row it rests, then proves itself again."""

from dataclasses import dataclass, replace
from typing import Self

CLOSED, OPEN, HALF_OPEN = "closed", "open", "half_open"


@dataclass(frozen=True, slots=True)
class Breaker:
    """closed --failures in a row--> open --open_s--> half_open --successes--> closed; a failed probe opens it again.

    Pure: `now` is handed in, seconds of any steady clock. Half-open lets one question through at a time, the probe.
    Answers to questions that were asked before the circuit opened change nothing: only a probe may close it.
    """

    failures_to_open: int = 5
    open_s: float = 60.0
    successes_to_close: int = 2
    failures: int = 0
    successes: int = 0
    opened_at: float | None = None
    is_probing: bool = False

    def state(self, now: float) -> str:
        if self.opened_at is None:
            return CLOSED
        return OPEN if now < self.opened_at + self.open_s else HALF_OPEN

    def admits(self, now: float) -> bool:
        state = self.state(now)
        return state == CLOSED or (state == HALF_OPEN and not self.is_probing)

    def rest_s(self, now: float) -> float:
        """How long until it may be asked again, as far as time alone decides."""
        return 0.0 if self.opened_at is None else max(0.0, self.opened_at + self.open_s - now)

    def asked(self, now: float) -> tuple[Self, bool]:
        """The circuit with a question under way, and whether that is a probe."""
        is_probe = self.state(now) == HALF_OPEN
        return (replace(self, is_probing=True) if is_probe else self), is_probe

    def succeeded(self, *, is_probe: bool) -> Self:
        if self.opened_at is None:
            return replace(self, failures=0)
        if not is_probe:
            return self
        if self.successes + 1 < self.successes_to_close:
            return replace(self, successes=self.successes + 1, is_probing=False)
        return replace(self, failures=0, successes=0, opened_at=None, is_probing=False)

    def failed(self, now: float, *, is_probe: bool) -> Self:
        if self.opened_at is None and self.failures + 1 < self.failures_to_open:
            return replace(self, failures=self.failures + 1)
        if self.opened_at is None or is_probe:
            return replace(self, failures=self.failures + 1, successes=0, opened_at=now, is_probing=False)
        return self

    def released(self, *, is_probe: bool) -> Self:
        """A question that ended without saying anything about the provider: cancelled, or a matter of its own."""
        return replace(self, is_probing=False) if is_probe else self
