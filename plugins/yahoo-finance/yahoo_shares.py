"""What is wanted, divided among those who supply it: a `Stream` tells its changes to one reader only."""

from collections.abc import Mapping

import anyio
import anyio.lowlevel

from timebase.sdk import FeedKind, ProviderError, Stream, Subscription, Unsupported


class Share:
    """Those of the wanted feeds that are of one kind; read and waited for like a `Stream`'s."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._feeds: tuple[Subscription, ...] = ()
        self._read: tuple[Subscription, ...] = ()
        self._changed = anyio.Event()

    def put(self, feeds: tuple[Subscription, ...]) -> None:
        self._feeds = feeds
        self._changed.set()
        self._changed = anyio.Event()

    @property
    def wanted(self) -> tuple[Subscription, ...]:
        self._read = self._feeds
        return self._read

    async def changed(self) -> None:
        """Returns when `wanted` differs from what it was when last read; at once when it does so already."""
        await anyio.lowlevel.checkpoint()
        while self._feeds == self._read:
            await self._changed.wait()

    async def refuse(self, feed: Subscription, error: ProviderError) -> None:
        """It is gone from here at once, whenever `divide` gets its turn."""
        await self._stream.refuse(feed, error)
        self.put(tuple(each for each in self._feeds if each != feed))


async def divide(stream: Stream, shares: Mapping[FeedKind, Share]) -> None:
    """Until cancelled: each feed to the share of its kind; one of another kind is refused."""
    while True:
        wanted = stream.wanted
        for feed in wanted:
            if feed.kind not in shares:
                await stream.refuse(feed, Unsupported(f"Yahoo gives no {feed.kind}, only {' and '.join(shares)}"))
        for kind, share in shares.items():
            share.put(tuple(feed for feed in wanted if feed.kind is kind))
        await stream.changed()
