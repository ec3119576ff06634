"""One channel's numbering, what it said last, and who follows it."""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from timebase.model.bars import Bars
from timebase.model.feed import Channel
from timebase.model.live import BarStatus
from timebase.streaming.event import BarRows, Event, ends
from timebase.streaming.follower import Follower
from timebase.streaming.verdicts import Verdicts

VOLUME_ERROR = 1e-9  # the same volume, added up in another order


@dataclass(frozen=True, slots=True)
class Told:
    """What followers know of one period: a row of the last event about it."""

    rows: BarRows
    at: int

    @property
    def revision(self) -> int:
        return int(self.rows.revision[self.at])

    def is_as(self, bars: Bars, at: int) -> bool:
        """Whether a row of `bars` says the same."""
        *mine, my_volume = (float(column[self.at]) for column in self.rows.bars.columns()[1:6])
        *theirs, their_volume = (float(column[at]) for column in bars.columns()[1:6])
        return mine == theirs and math.isclose(my_volume, their_volume, rel_tol=VOLUME_ERROR)


class Topic:
    """`newest` is the number given last. Numbers begin above that of the topic's birth, its unix µs: they ascend across
    restarts, unless the clock was put back in between, and fit a JSON number, for nobody trades a million times a
    second for years.
    """

    def __init__(self, channel: Channel, born: int) -> None:
        self.channel = channel
        self.newest = born
        self.ring: deque[Event] = deque()  # numbered events; `Rings` takes from its left end what is too old
        self.followers: dict[Follower, None] = {}
        self.verdicts = Verdicts()
        self.left_at = 0.0  # when the last follower left; counts only while there is none
        self._latest: Event | None = None  # the forming bar or the quote
        self._oldest = born  # what is numbered above it is in the ring

    def number(self, count: int) -> int:
        """The first of so many new numbers."""
        first = self.newest + 1
        self.newest += count
        return first

    def show(self, event: Event) -> None:
        if event.is_conflated:
            self._latest = event
        elif self._latest is not None and ends(self._latest, event):
            self._latest = None
        for follower in tuple(self.followers):
            follower.push(event)

    def latest(self) -> list[Event]:
        """What a new follower sees at once: how it stands right now."""
        return [] if self._latest is None else [self._latest]

    def since(self, seq: int) -> list[Event] | None:
        """The numbered events after `seq`, or None when they are not all here any more (or never were)."""
        if not self._oldest <= seq <= self.newest:
            return None
        return [part for event in self.ring if (part := event.after(seq)) is not None]

    def told(self) -> Mapping[int, Told]:
        """The periods whose bars were told, as far as is remembered, by time."""
        rows = (event.content for event in self.ring if isinstance(event.content, BarRows))
        real = (each for each in rows if each.status is not BarStatus.MISSING)
        return {time: Told(each, at) for each in real for at, time in enumerate(each.bars.time.tolist())}

    def forget(self, event: Event) -> None:
        """`event`, the oldest in the ring, is not kept any longer."""
        if self.ring and self.ring[0] is event:
            self.ring.popleft()
            self._oldest = event.last_seq
