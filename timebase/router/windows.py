"""Sliding windows over one provider's requests. Pure: moments are seconds of any steady clock."""

import math
from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence

from timebase.manifest.manifest import RateWindow

# A window of 1 s is kept 1.005 s: what leaves exactly on its edge is inside it by a vendor's slightly slower clock.
GUARD_S = 0.005


class Spent:
    """When requests reached a provider, as far back as its windows look.

    A request reaches the vendor somewhere between the moment it is allowed and the moment it is answered. Until it is
    answered (or `lands_by` has passed) it therefore counts as happening *now*, afterwards as having happened when the
    answer came: whichever moment was the real one, no window of the vendor's sees more than its limit. Counting from
    the moment of permission instead lets a slow request meet the next second's.
    """

    def __init__(self) -> None:
        self._landed: list[float] = []  # ascending, one entry for each request
        self._flying: dict[int, tuple[float, int]] = {}  # take -> lands_by, requests
        self._takes = 0

    def take(self, n: int, lands_by: float = math.inf) -> int:
        """n requests that may reach the vendor from now until they have landed."""
        self._takes += 1
        self._flying[self._takes] = (lands_by, n)
        return self._takes

    def send(self, take: int, lands_by: float) -> None:
        """They go out now."""
        self._flying[take] = (lands_by, self._flying[take][1])

    def land(self, take: int, at: float) -> None:
        """Answered (or given up) at `at`. May be said again, and late."""
        lands_by, n = self._flying.pop(take, (0.0, 0))
        self.add(min(at, lands_by) for _ in range(n))

    def hurry(self, lands_by: float) -> None:
        """Nothing that has gone out lands later than `lands_by`."""
        for take, (by, n) in self._flying.items():
            if by < math.inf:
                self._flying[take] = (min(by, lands_by), n)

    def add(self, moments: Iterable[float]) -> None:
        for moment in moments:
            insort(self._landed, moment)

    def settle(self, now: float, longest_s: float) -> None:
        """Land what is overdue, and forget what no window sees any more."""
        for take in [take for take, (lands_by, _) in self._flying.items() if lands_by <= now]:
            self.land(take, now)
        del self._landed[: bisect_left(self._landed, now - longest_s - GUARD_S)]

    @property
    def in_flight(self) -> int:
        return sum(n for _, n in self._flying.values())

    def used(self, now: float, window: RateWindow) -> int:
        since = now - window.window_s - GUARD_S
        return len(self._landed) - bisect_left(self._landed, since) + self.in_flight

    def opens_at(self, now: float, windows: Sequence[RateWindow], n: int) -> float:
        """The moment from which n more requests fit into every window, if all that is under way lands now.

        Returns: inf when n never fit.
        """
        at = now
        for window in windows:
            at = max(at, self._opens_at(now, window, n))
        return at

    def _opens_at(self, now: float, window: RateWindow, n: int) -> float:
        too_many = len(self._landed) + self.in_flight + n - window.requests
        if n > window.requests:
            return math.inf
        if too_many <= 0:
            return now
        last = self._landed[too_many - 1] if too_many <= len(self._landed) else now
        return last + window.window_s + GUARD_S

    def forecast(self, now: float, windows: Sequence[RateWindow], n: int, until: float = math.inf) -> float:
        """The moment at which the last of n requests in a row would be allowed, if each is answered at once.

        Returns: some moment after `until` as soon as it is clear that it will be after that.
        """
        if not windows:
            return now
        if min(window.requests for window in windows) < 1:
            return math.inf
        moments = [*self._landed, *([now] * self.in_flight)][-max(window.requests for window in windows) :]
        at = now
        for _ in range(n):
            if at > until:
                break
            for window in windows:
                if len(moments) >= window.requests:
                    at = max(at, moments[-window.requests] + window.window_s + GUARD_S)
            moments.append(at)
        return at
