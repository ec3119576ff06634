"""Whether asking the same provider once more can help, and after which pause."""

import random
from dataclasses import dataclass

import trio

from timebase.errors import ProviderError, RateLimited, Upstream, UpstreamTimeout
from timebase.model.receipt import Attempt
from timebase.router.settings import RouterSettings

RETRYABLE = (Upstream, UpstreamTimeout)


@dataclass(frozen=True, slots=True)
class Tried:
    """How one try ended.

    `took_s` is how long the provider took; None when the question did not get as far as to it.
    """

    attempt: Attempt
    error: ProviderError | None
    took_s: float | None


class Retries:
    """The retries of one demand at one provider."""

    def __init__(self, settings: RouterSettings, identical_window_s: float) -> None:
        self._settings = settings
        self._identical_window_s = identical_window_s
        self._made = 0
        self._has_waited = False

    def pause_s(self, tried: Tried) -> float | None:
        """None: it cannot help, or there is no time for it."""
        if tried.took_s is None:
            return None
        if isinstance(tried.error, RateLimited):
            return self._wait_for_vendor(tried.error)
        return self._back_off(tried.took_s) if isinstance(tried.error, RETRYABLE) else None

    def _wait_for_vendor(self, error: RateLimited) -> float | None:
        """Once, and not long. The budget does the waiting: nobody else is let through meanwhile."""
        is_short = error.retry_after_s is not None and error.retry_after_s <= self._settings.retry_within_s
        if not is_short or self._has_waited:
            return None
        self._has_waited = True
        return 0.0

    def _back_off(self, took_s: float) -> float | None:
        settings = self._settings
        if self._made >= settings.max_retries or max(took_s, self._identical_window_s) > settings.retry_within_s:
            return None
        jitter = 0.5 + random.random() / 2  # noqa: S311 - spreads retries, guards nothing
        pause_s = settings.retry_first_s * 2.0**self._made * jitter
        if trio.current_time() + pause_s + took_s > trio.current_effective_deadline():
            return None
        self._made += 1
        return pause_s
