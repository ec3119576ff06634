"""What a reply says about how it came to be."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Attempt:
    """One provider considered or asked for one question.

    `outcome` is "ok", "skipped" or a ProviderError's code; `ms` is 0 when nobody was asked.
    """

    provider: str
    outcome: str
    reason: str = ""
    ms: int = 0
