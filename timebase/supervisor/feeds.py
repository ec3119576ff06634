"""deliveries of the link -> [feeds] -> raw: the live side of one provider, from life to life of its process."""

from collections import deque
from collections.abc import Callable
from dataclasses import replace

import trio

from timebase.errors import ProviderError
from timebase.link.inflow import Delivery
from timebase.link.provider_link import ProviderLink
from timebase.model.bars import Batch
from timebase.model.feed import Feed
from timebase.model.live import Arrival, Live

LAST_DELIVERIES_S = 1.0  # for what has arrived, and the end of every feed, when the provider is dismissed

OnFeedEnd = Callable[[Feed, ProviderError], None]


class Feeds:
    """Sends what the plugin streams into the road, at the road's pace.

    Order: as it came; after the end of a process first all that had come of it, then its feeds go down, each an
    Arrival, and `on_end` is told of each.
    """

    def __init__(
        self, raw_in: trio.MemorySendChannel[Batch | Live], mask: Callable[[str], str], on_end: OnFeedEnd
    ) -> None:
        self._raw_in = raw_in
        self._mask = mask
        self._on_end = on_end
        self._links: deque[ProviderLink] = deque()  # the newest is alive; what others left is still to be sent
        self._opened = trio.Event()

    def open(self, link: ProviderLink) -> None:
        """A new process is ready."""
        self._links.append(link)
        self._opened.set()

    async def run(self) -> None:
        """Send until cancelled, and then for a moment what is left."""
        try:
            while True:
                await self._opened.wait()
                await self._send_all()
                self._opened = trio.Event()
        finally:
            with trio.move_on_after(LAST_DELIVERIES_S, shield=True):
                await self._send_all()

    async def _send_all(self) -> None:
        while self._links:
            link = self._links[0]
            while (delivery := await link.next_delivery()) is not None:
                await self._send(delivery)
                link.delivered()
                for feed, error in delivery.ends:
                    self._on_end(feed, error)
            self._links.popleft()

    async def _send(self, delivery: Delivery) -> None:
        if delivery.arrivals:
            await self._raw_in.send(Live(tuple(map(self._masked, delivery.arrivals))))

    def _masked(self, arrival: Arrival) -> Arrival:
        return replace(arrival, reason=self._mask(arrival.reason)) if arrival.reason else arrival
