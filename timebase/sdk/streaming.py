"""Runs `Provider.stream` while something is wanted: subscriptions come in, what it puts goes out."""

import random

import anyio

from timebase.errors import ProviderError, Unavailable
from timebase.model.feed import FeedKind
from timebase.model.instrument import AssetClass
from timebase.model.interval import Interval
from timebase.sdk.answering import call, told
from timebase.sdk.carrier import Carrier, Send
from timebase.sdk.provider import Provider
from timebase.sdk.stream import Stream, Subscription, Wanted
from timebase.sdk.threads import Soon
from timebase.wire.envelope import Message, pack_error

# Between two runs of a stream that fails, however many feeds ask for it: each may cost the vendor a connection.
FIRST_PAUSE_S = 0.25
LAST_PAUSE_S = 60.0
JITTER = 0.2  # of the pause, either way
HEALTHY_S = 60.0  # a run of this length: what went wrong before is forgiven


class Streaming:
    """One provider's stream, from its first subscription to the end of the process.

    `soon` hands the event loop something to do from another thread.
    """

    def __init__(
        self,
        provider: Provider,
        send: Send,
        credit: int,
        batch_rows: int,
        soon: Soon,
    ) -> None:
        self._provider = provider
        self._carrier = Carrier(send, credit, batch_rows, soon)
        self._wanted = Wanted()
        self._stream = Stream(self._carrier, self._wanted, self.refuse)
        self._scope: anyio.CancelScope | None = None  # of the stream, while it runs
        self._ended = anyio.Event()
        self._leaving = anyio.Event()
        self._failures = 0  # runs in a row that failed

    @property
    def strays(self) -> int:
        """Rows that were put for feeds that were not wanted."""
        return self._carrier.strays

    async def run(self) -> None:
        """Until cancelled, or `leave`."""
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._carrier.run)
                while not self._leaving.is_set():
                    if self._wanted.feeds:
                        await self._stream_once()
                    else:
                        await self._wanted.change()
                tasks.cancel_scope.cancel()
        finally:
            self._ended.set()

    def subscribe(self, subscription: Subscription) -> None:
        self._wanted.put(subscription)
        self._carrier.want(self._wanted.feeds)

    def unsubscribe(self, id_: int) -> None:
        self._forget(id_)
        self._carrier.drop(id_)

    def grant(self, n: int) -> None:
        self._carrier.grant(n)

    def refuse(self, subscription: Subscription, error: ProviderError) -> None:
        """Its data that waits still goes out, and then the error."""
        if subscription.id in self._wanted.feeds:
            self._carrier.put_last_words([pack_error(subscription.id, error)])
            self._forget(subscription.id)

    async def leave(self) -> None:
        """End the stream, and return when it has ended."""
        self._leaving.set()
        self._forget(*self._wanted.feeds)
        await self._ended.wait()

    def _forget(self, *ids: int) -> None:
        if self._scope is not None and self._wanted.feeds.keys() <= set(ids):
            self._scope.cancel()  # before it hears of the change: a stream never sees that nothing is wanted
            self._stream.end()
        self._wanted.drop(*ids)
        self._carrier.want(self._wanted.feeds)

    async def _stream_once(self) -> None:
        """One run of the provider's stream; how it ends, unless we end it, is told to every feed it leaves behind."""
        self._stream = Stream(self._carrier, self._wanted, self.refuse)
        problem: Exception = Unavailable("the provider's stream ended by itself")
        began_s = anyio.current_time()
        with anyio.CancelScope() as self._scope:
            try:
                await call(self._provider.stream, self._stream)
            except Exception as error:  # noqa: BLE001 - a provider may raise anything; the core shall hear of it
                problem = error
        is_ours, self._scope = self._scope.cancel_called, None
        if anyio.current_time() - began_s >= HEALTHY_S:
            self._failures = 0
        if not is_ours:
            self._fail_all(told(problem))
            await self._pause()

    async def _pause(self) -> None:
        """After a failure. What is wanted meanwhile is wanted together, of one run."""
        pause_s = min(LAST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(self._failures, 16))
        self._failures += 1
        with anyio.move_on_after(pause_s * (1 + JITTER * random.uniform(-1, 1))):  # noqa: S311
            await self._leaving.wait()

    def _fail_all(self, error: ProviderError) -> None:
        for subscription in self._wanted.feeds.values():
            self.refuse(subscription, error)


def parse_subscription(message: Message) -> Subscription:
    """Raises: Malformed, or ValueError when a word in it is none that this version knows."""
    interval = message.text("interval", "")
    return Subscription(
        message.id,
        FeedKind(message.text("kind")),
        message.text("symbol"),
        AssetClass(message.text("asset_class")),
        Interval(interval) if interval else None,
    )
