"""hub, API, collector -> [wants] -> feeds: which channels anybody wants, each once however many want it."""

import math
from collections import Counter
from collections.abc import Callable, Iterable

import trio

from timebase.model.feed import Channel


class Wants:
    """The channels that are wanted: by followers, counted, and by the collector's list.

    A channel that its last follower left is wanted for `linger_s` more, so that one who comes right back, a page that
    is loaded anew, costs the vendor nothing. `on_change`: functions that are called when the channels change.
    """

    def __init__(self, linger_s: float) -> None:
        self._linger_s = linger_s
        self._followers: Counter[Channel] = Counter()
        self._left_at: dict[Channel, float] = {}
        self._collected: frozenset[Channel] = frozenset()
        self.on_change: list[Callable[[], None]] = []

    def want(self, channel: Channel) -> None:
        """One more follower."""
        self._followers[channel] += 1
        self._left_at.pop(channel, None)
        if self._followers[channel] == 1:
            self._tell()

    def unwant(self, channel: Channel) -> None:
        """One follower less; who takes it back has wanted it."""
        self._followers[channel] -= 1
        if not self._followers[channel]:
            del self._followers[channel]
            self._left_at[channel] = trio.current_time()
            self._tell()

    def collect(self, channels: Iterable[Channel]) -> None:
        """The collector's list, as it is now."""
        before, self._collected = self._collected, frozenset(channels)
        if self._collected != before:
            self._tell()

    def all(self) -> frozenset[Channel]:
        """Every channel that is wanted now, those that linger among them."""
        now = trio.current_time()
        for channel in [each for each, at in self._left_at.items() if at + self._linger_s <= now]:
            del self._left_at[channel]
        return self._collected | self._followers.keys() | self._left_at.keys()

    def is_collected(self, channel: Channel) -> bool:
        return channel in self._collected

    def next_end(self) -> float:
        """The time of trio's clock at which the next lingering channel ends; inf when none lingers."""
        return min(self._left_at.values(), default=math.inf) + self._linger_s

    def _tell(self) -> None:
        for hook in self.on_change:
            hook()
