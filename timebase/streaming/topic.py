"""One channel's numbering, what it said last, and who follows it."""

from collections import deque

from timebase.model.feed import Channel
from timebase.model.live import BarStatus
from timebase.streaming.event import BarRows, Event, ends
from timebase.streaming.follower import Follower
from timebase.streaming.verdicts import Verdicts


class Topic:
    """`newest` is the number given last. Numbers begin at the topic's birth in unix µs: they ascend across restarts,
    and fit a JSON number, for nobody trades a million times a second for years.
    """

    def __init__(self, channel: Channel, born_us: int) -> None:
        self.channel = channel
        self.newest = born_us
        self.ring: deque[Event] = deque()  # numbered events; the hub takes from its left end what is too old
        self.followers: dict[Follower, None] = {}
        self.verdicts = Verdicts()
        self.left_at = 0.0  # when the last follower left; counts only while there is none
        self._latest: Event | None = None  # the forming bar or the quote
        self._oldest = born_us  # what is numbered above it is in the ring

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

    def told(self) -> set[int]:
        """The periods whose bars were told, as far as is remembered: the time of each."""
        rows = (event.content for event in self.ring if isinstance(event.content, BarRows))
        return {int(at) for each in rows if each.status is not BarStatus.MISSING for at in each.bars.time}

    def forget(self, event: Event) -> None:
        """`event`, the oldest in the ring, is not kept any longer."""
        if self.ring and self.ring[0] is event:
            self.ring.popleft()
            self._oldest = event.last_seq
