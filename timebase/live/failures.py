"""What each supply has been through, and how long it rests for that: pauses that grow, for ever."""

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import trio

from timebase.errors import (
    AuthFailed,
    ProviderError,
    RateLimited,
    StoreUnavailable,
    SymbolNotFound,
    Unavailable,
    Unsupported,
)
from timebase.live.settings import LiveSettings
from timebase.live.supply import Supply
from timebase.supervisor.backoff import HEALTHY_S, Backoff

HOPELESS = (Unsupported, SymbolNotFound, AuthFailed)  # asking the same provider again soon cannot help
SPARE_S = 30.0  # a process that is new ends the rests of its feeds, but not more often
FORGET_S = 600.0  # a failure that is so long past says nothing any more


@dataclass(slots=True)
class Failures:
    """Of one supply. Units: seconds of trio's clock."""

    backoff: Backoff = field(default_factory=Backoff)
    in_a_row: int = 0
    until: float = -math.inf
    is_hopeless: bool = False
    is_unavailable: bool = False
    spared_at: float = -math.inf  # when a rest was last ended early

    def rests_s(self) -> float:
        return self.until - trio.current_time()

    def gives_way(self, settings: LiveSettings) -> bool:
        """Whether its channels had better go to another provider, if one can supply them."""
        return self.is_hopeless or self.in_a_row >= settings.give_way_after

    def note(self, error: ProviderError | StoreUnavailable, healthy_s: float, settings: LiveSettings) -> float:
        """One more, of a connection that brought something for `healthy_s`. Returns: the pause before the next try."""
        self.in_a_row = 1 if healthy_s >= HEALTHY_S else self.in_a_row + 1
        self.is_hopeless = isinstance(error, HOPELESS)
        self.is_unavailable = isinstance(error, Unavailable)
        pause_s = self.backoff.pause_s(healthy_s)
        if self.is_hopeless:
            pause_s = max(pause_s, settings.hopeless_s)
        if isinstance(error, RateLimited):
            pause_s = max(pause_s, error.retry_after_s or 0.0)
        self.until = trio.current_time() + pause_s
        return pause_s

    def spare(self) -> bool:
        """Its provider has another process, perhaps with other code or another key: what was hopeless may not be now.

        Returns: whether the rest is over for that.
        """
        now = trio.current_time()
        if not (self.is_hopeless or self.is_unavailable) or now < self.spared_at + SPARE_S:
            return False
        self.until = self.spared_at = now
        self.is_hopeless = False
        return True


class FailureBook:
    """Of every supply that has failed lately; who is not in it has nothing against it."""

    def __init__(self, settings: LiveSettings) -> None:
        self._settings = settings
        self._all: dict[Supply, Failures] = {}
        self._failed: Counter[str] = Counter()

    def of(self, supply: Supply) -> Failures:
        return self._all.get(supply, Failures())

    def note(self, supply: Supply, error: ProviderError | StoreUnavailable, healthy_s: float) -> float:
        """Returns: the pause before it is tried again."""
        self._failed[supply.provider] += 1
        return self._all.setdefault(supply, Failures()).note(error, healthy_s, self._settings)

    def gives_way(self, supply: Supply) -> bool:
        return self.of(supply).gives_way(self._settings)

    def avoided_s(self, supply: Supply) -> float:
        """How long another supply is to be preferred to it."""
        return self.of(supply).rests_s() if self.gives_way(supply) else 0.0

    def spare(self, provider: str) -> Sequence[Supply]:
        """The provider's process is new. Returns: the supplies whose rest is over for that."""
        return [supply for supply, each in self._all.items() if supply.provider == provider and each.spare()]

    def forget_old(self, kept: Collection[Supply]) -> None:
        """All but those of the supplies that are in use."""
        now = trio.current_time()
        for supply in [each for each, failures in self._all.items() if failures.until + FORGET_S < now]:
            if supply not in kept:
                del self._all[supply]

    def failed(self) -> Mapping[str, int]:
        """How many attempts to have a feed of each provider have failed or ended."""
        return self._failed
