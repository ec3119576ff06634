"""Every number of the router, in one place."""

from dataclasses import dataclass, field

from timebase.router.rules import RoutingRule


@dataclass(frozen=True, slots=True)
class Weights:
    """What each factor counts for among providers that no rule and no priority tells apart. Zero leaves one out."""

    reliability: float = 4.0
    freshness: float = 3.0
    quota: float = 2.0
    response: float = 2.0
    cost: float = 2.0


@dataclass(frozen=True, slots=True)
class RouterSettings:
    """Units: `_s` seconds. `rules` are the operator's, first match wins."""

    rules: tuple[RoutingRule, ...] = ()
    weights: Weights = field(default_factory=Weights)
    breaker_failures: int = 5
    breaker_open_s: float = 60.0
    breaker_successes: int = 2
    max_budget_wait_s: float = 30.0  # a longer wait for the budget is answered with rate_limited at once
    # The same for one more page of a question under way. Whoever waits for the bars hears nothing meanwhile, and takes
    # longer silence for a fault of the provider.
    max_page_wait_s: float = 10.0
    max_retries: int = 2
    retry_first_s: float = 0.25  # doubles with each retry, and a random part of it is left out
    retry_within_s: float = 5.0  # a try that took longer is not repeated: whoever asks the next provider is sooner done
    ready_wait_s: float = 5.0  # for a provider that is just starting, or about to start again
    look_again_s: float = 0.05  # whether it has begun to
    slow_s: float = 10.0  # a provider whose asker gave up after so long has failed
    limited_pause_s: float = 15.0  # after a vendor's rate_limited that says no time; doubles while it goes on
    limited_pause_max_s: float = 900.0
    # How long a request may be on its way: until it is answered, but no longer than this, it may still reach the
    # vendor.
    flight_s: float = 5.0
    # The same for a provider that asks for further requests while one question is under way: it sends at once.
    paging_flight_s: float = 1.0
