"""What the hub needs of those up the road, each as small as it is used here."""

from typing import Protocol

from timebase.model.feed import Channel, Feed
from timebase.model.live import Arrival, BarUpdate


class Demands(Protocol):
    """Who makes a wanted channel live; see live/wants.py. Neither word waits nor fails."""

    def want(self, channel: Channel) -> None: ...
    def unwant(self, channel: Channel) -> None: ...


class FeedWatch(Protocol):
    """Who judges whether a feed is alive; see live/feeds.py."""

    def note(self, feed: Feed, received_us: int, event_us: int, n: int, *, oldest_us: int) -> None:
        """So many rows of it came, whether they could be kept or not; `event_us` is the newest one's."""
        ...

    def hear(self, word: Arrival) -> None:
        """What the plugin said of the feed itself, after the data before it."""
        ...

    def unkept(self, update: BarUpdate) -> None:
        """Bars that closed or changed, and that neither the database nor the spool could take."""
        ...


class Nobody:
    """Wants nothing, watches nothing."""

    def want(self, channel: Channel) -> None: ...
    def unwant(self, channel: Channel) -> None: ...
    def note(self, feed: Feed, received_us: int, event_us: int, n: int, *, oldest_us: int) -> None: ...
    def hear(self, word: Arrival) -> None: ...
    def unkept(self, update: BarUpdate) -> None: ...
