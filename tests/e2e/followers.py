"""One who follows a real server's stream and keeps what it was told, also from one connection to the next."""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import trio
from e2e.running import Server, until
from integration.listener import Client, connected

from timebase.model.bars import Bars

Event: TypeAlias = dict[str, Any]
Values: TypeAlias = tuple[float, float, float, float, float]
SETTLING = ("closed", "backfilled", "revised")  # what is told of a bar whose period is over


class Follower:
    """What was told, in turn. `client` is None while there is no connection."""

    def __init__(self) -> None:
        self.told: list[Event] = []
        self.client: Client | None = None

    async def follow(self, server: Server, subscription: Event) -> None:
        """Until the connection ends."""
        async with connected(urlsplit(server.url).port or 0) as client:
            self.client = client
            try:
                await client.say({"action": "subscribe", **subscription})
                with suppress(trio.EndOfChannel):
                    while True:
                        self.told += await client.events()
            finally:
                self.client = None

    async def hears(self, is_it: Callable[[Event], bool], within_s: float = 30.0) -> Event:
        """The first event that is it, now or in a moment."""
        return await until(lambda: next(filter(is_it, self.told), None), within_s)

    def of(self, channel: str, *types: str) -> list[Event]:
        return [event for event in self.told if event.get("channel") == channel and event["type"] in types]

    def bars(self, channel: str, *statuses: str) -> list[Event]:
        return [event for event in self.of(channel, "bar") if event["status"] in statuses]

    def states(self, channel: str) -> list[str]:
        """Of the feed, each once in a row."""
        words = [event["state"] for event in self.of(channel, "feed")]
        return [state for at, state in enumerate(words) if words[at - 1 : at] != [state]]


@asynccontextmanager
async def following(server: Server, subscription: Event) -> AsyncIterator[Follower]:
    follower = Follower()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follower.follow, server, subscription)
        yield follower
        nursery.cancel_scope.cancel()


def values_of(event: Event) -> Values:
    return event["open"], event["high"], event["low"], event["close"], event["volume"]


def by_opening(events: Iterable[Event]) -> dict[int, Values]:
    """The last word about each bar, by its opening instant in µs."""
    return {event["time"] * 1000: values_of(event) for event in events}


def rows_of(bars: Bars) -> dict[int, Values]:
    columns: Sequence[Any] = (bars.open, bars.high, bars.low, bars.close, bars.volume)
    return dict(zip(bars.time.tolist(), zip(*(column.tolist() for column in columns), strict=True), strict=True))
