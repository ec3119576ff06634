"""How long a provider that fell stays down before it is started again. All the numbers are here."""

import random
from dataclasses import dataclass

FIRST_S = 0.25  # so that a killed plugin is ready again within 2 s, start included
FACTOR = 2.0
MAX_S = 60.0
JITTER = 0.2  # of the pause, either way: providers that fell together do not start together
HEALTHY_S = 60.0  # ready for this long: what went wrong before is forgiven


@dataclass(slots=True)
class Backoff:
    """Pauses that grow, for ever. `jitter` is 0..1, drawn anew for each pause."""

    failures: int = 0

    def pause_s(self, ready_s: float, jitter: float | None = None) -> float:
        """The pause after a life of which `ready_s` were spent ready to answer."""
        if ready_s >= HEALTHY_S:
            self.failures = 0
        pause_s = min(MAX_S, FIRST_S * FACTOR ** min(self.failures, 16))
        self.failures += 1
        drawn = random.random() if jitter is None else jitter  # noqa: S311
        return pause_s * (1 + JITTER * (2 * drawn - 1))

    def reset(self) -> None:
        self.failures = 0
