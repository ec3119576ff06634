"""The lines there are: each by its supply, by the channels that it supplies, and by the feed that it has now."""

from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager

from timebase.live.line import Line
from timebase.live.neighbours import Topics
from timebase.live.supply import Supply
from timebase.model.feed import Channel, Feed, FeedState
from timebase.model.instrument import Instrument


class Lines:
    """The hub is told which line supplies a channel, and what becomes of it."""

    def __init__(self, hub: Topics, clock: Callable[[], int]) -> None:
        self._hub = hub
        self._clock = clock
        self._by_supply: dict[Supply, Line] = {}
        self._by_channel: dict[Channel, Line] = {}
        self._by_feed: dict[int, Line] = {}

    def all(self) -> tuple[Line, ...]:
        return tuple(self._by_supply.values())

    def channels(self) -> tuple[Channel, ...]:
        return tuple(self._by_channel)

    def supplies(self) -> Set[Supply]:
        return self._by_supply.keys()

    def of_supply(self, supply: Supply) -> Line | None:
        return self._by_supply.get(supply)

    def of_channel(self, channel: Channel) -> Line | None:
        return self._by_channel.get(channel)

    def of_feed(self, feed: Feed) -> Line | None:
        """None: the feed is of a connection that is over."""
        return self._by_feed.get(feed.id)

    def become(self, line: Line, state: FeedState, reason: str = "") -> None:
        if line.become(state, reason) and line.feed is not None:
            self._hub.tell_state(line.feed, line.state, line.since_us, line.reason)

    # --- how they come and go ---

    def new(self, supply: Supply, instrument: Instrument) -> Line:
        """In the place of one that is ending, if need be."""
        line = self._by_supply[supply] = Line(supply, instrument, self._clock)
        return line

    def remove(self, line: Line) -> None:
        if self._by_supply.get(line.supply) is line:
            del self._by_supply[line.supply]
            if line.feed is not None:
                self._hub.forget(line.feed)

    @contextmanager
    def opened(self, line: Line, feed: Feed) -> Iterator[None]:
        """The line has that feed while the block runs."""
        line.open(feed)
        self._by_feed[feed.id] = line
        try:
            yield
        finally:
            line.is_made = False
            del self._by_feed[feed.id]

    def attach(self, channel: Channel, line: Line) -> None:
        line.channels.add(channel)
        self._by_channel[channel] = line
        if channel.provider is None:
            self._hub.bind(channel, line.supply.provider)
        if line.feed is not None:
            self._hub.tell_state(line.feed, line.state, line.since_us, line.reason)

    def detach(self, channel: Channel) -> None:
        """A line without a channel ends."""
        line = self._by_channel.pop(channel)
        line.channels.discard(channel)
        if channel.provider is None:
            self._hub.bind(channel, None)
        if not line.channels:
            line.scope.cancel()
