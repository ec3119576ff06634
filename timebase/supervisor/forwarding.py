"""deliveries of the link -> [forwarding] -> raw: the live side of one provider, from life to life of its process."""

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import replace

import trio

from timebase.errors import ProviderError
from timebase.link.inflow import Delivery, told
from timebase.link.provider_link import ProviderLink
from timebase.model.bars import Batch
from timebase.model.feed import Feed
from timebase.model.live import Arrival, Live

LAST_DELIVERIES_S = 1.0  # for what has arrived, and the end of every feed, when the provider is dismissed
WHY_S = 1.0  # between the end of a connection and the process's, which says more: 10 ms, or its last words

OnFeedEnd = Callable[[Feed, ProviderError], None]


class Forwarding:
    """Sends what the plugin streams into the road, at the road's pace.

    Order: as it came; after the end of a process first all that had come of it, then its feeds go down, each an
    Arrival, and `on_end` is told of each. Both are told what `why` says as soon as it is known why the process fell.
    """

    def __init__(
        self,
        raw_in: trio.MemorySendChannel[Batch | Live],
        mask: Callable[[str], str],
        on_end: OnFeedEnd,
        why: Callable[[], Awaitable[ProviderError | None]],
    ) -> None:
        self._raw_in = raw_in
        self._mask = mask
        self._on_end = on_end
        self._why = why
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
                if delivery.is_last:
                    delivery = await self._explained(link)
                await self._send(delivery)
                link.delivered()
                for feed, error in delivery.ends:
                    self._on_end(feed, error)
            self._links.popleft()

    async def _explained(self, link: ProviderLink) -> Delivery:
        why: ProviderError | None = None
        with trio.move_on_after(WHY_S):
            why = await self._why()
        delivery = await link.next_delivery()  # what was unsubscribed meanwhile is not in it any more
        assert delivery is not None
        return delivery if why is None else told(delivery, why)

    async def _send(self, delivery: Delivery) -> None:
        if delivery.arrivals:
            await self._raw_in.send(Live(tuple(map(self._masked, delivery.arrivals))))

    def _masked(self, arrival: Arrival) -> Arrival:
        return replace(arrival, reason=self._mask(arrival.reason)) if arrival.reason else arrival
