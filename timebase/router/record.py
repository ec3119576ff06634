"""What is known of a provider from having asked it. Pure: `now` is seconds of any steady clock."""

import math
from dataclasses import dataclass, replace
from typing import Self

NEW_COUNTS = 0.2  # how much the newest answer weighs in a running mean
FORGIVEN_AFTER_S = 600.0  # then half of what is held against a provider is forgotten, or it would never be asked


@dataclass(frozen=True, slots=True)
class Fault:
    """The last thing that went wrong. Units: `at_us` µs UTC."""

    code: str
    message: str
    at_us: int


@dataclass(frozen=True, slots=True)
class Record:
    """`response_s` is the running mean of how long answers took, None before the first."""

    asked: int = 0
    failed: int = 0
    response_s: float | None = None
    unreliability: float = 0.0
    judged_at: float = 0.0
    last_fault: Fault | None = None

    def reliability(self, now: float) -> float:
        """The share of questions that it lately answered, 0..1."""
        return 1.0 - self._held_against(now)

    def answered(self, now: float, took_s: float) -> Self:
        mean = took_s if self.response_s is None else self.response_s + NEW_COUNTS * (took_s - self.response_s)
        held = self._held_against(now) * (1 - NEW_COUNTS)
        return replace(self, asked=self.asked + 1, response_s=mean, unreliability=held, judged_at=now)

    def let_down(self, now: float) -> Self:
        held = self._held_against(now)
        held += NEW_COUNTS * (1 - held)
        return replace(self, asked=self.asked + 1, failed=self.failed + 1, unreliability=held, judged_at=now)

    def noted(self, fault: Fault) -> Self:
        return replace(self, last_fault=fault)

    def _held_against(self, now: float) -> float:
        return self.unreliability * math.exp2(-(now - self.judged_at) / FORGIVEN_AFTER_S)
