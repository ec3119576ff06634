"""How long a plugin waits before it connects anew: longer each time, cut by chance, so that not all come at once."""

import random
from dataclasses import dataclass

FIRST_S, LONGEST_S = 1.0, 60.0
STEADY_S = 60.0  # a connection that held so long forgives what was before


def wait_s(attempt: int, chance: float) -> float:
    """How long to wait before the `attempt`th try, from 1 on; `chance` in [0, 1)."""
    longest_s = min(LONGEST_S, FIRST_S * float(1 << min(attempt - 1, 10)))
    return longest_s * (0.5 + chance / 2)


@dataclass(slots=True)
class Waits:
    """Of one connection, made again and again. `attempt` counts the tries since one last held."""

    attempt: int = 0

    def next_s(self, problem: Exception, lived_s: float) -> float:
        """The wait after a connection that was lost, or could not be had, for `problem`, `lived_s` after it was begun.

        A vendor's word on when to come again (`RateLimited.retry_after_s`) is kept.
        """
        self.attempt = 1 if lived_s >= STEADY_S else self.attempt + 1
        drawn_s = wait_s(self.attempt, random.random())  # noqa: S311 - spreads requests, guards nothing
        return max(drawn_s, getattr(problem, "retry_after_s", None) or 0.0)
