"""demand -> [handle] -> the plugin -> batches and live data into the road.

One per provider, for as long as its manifest is there.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

import trio

from timebase.clock import now_us
from timebase.errors import AuthFailed, Empty, ProviderError, RateLimited, Unavailable, Unsupported
from timebase.link.provider_link import ProviderLink
from timebase.manifest.manifest import Manifest
from timebase.model.bars import Bars, Batch
from timebase.model.demand import Demand
from timebase.model.feed import Feed
from timebase.model.instrument import AssetClass, Instrument
from timebase.model.live import Live
from timebase.supervisor.cutter import BatchCutter
from timebase.supervisor.forwarding import Forwarding, OnFeedEnd
from timebase.supervisor.masking import Masking
from timebase.supervisor.setup import Setup

STARTING = "starting"
READY = "ready"
BACKING_OFF = "backing_off"  # fell, and will be started again at `next_retry_us`
DISABLED = "disabled"  # by its manifest or by the operator
FAILED_AUTH = "failed_auth"  # its vendor refused our key: not started until something about it changes
WAITING = "waiting"  # for a required option or secret
STOPPING = "stopping"

ENDING = "its process is ending"  # until it is known why


@dataclass(frozen=True, slots=True)
class ProviderState:
    """A provider at one instant, for people, the router and the database.

    `reason` says why it is in `state`; `restarts` counts the starts after the first, for whatever reason; `last_error`
    is the last thing that went wrong, also in one question.
    """

    slug: str
    name: str
    version: str
    manifest: Manifest
    state: str
    reason: str
    since_us: int
    pid: int | None
    restarts: int
    next_retry_us: int | None
    memory_bytes: int
    last_error: str
    in_flight: int


class Asker(Protocol):
    """Who waits for an answer, and may lose patience with a provider that is silent."""

    def heard(self) -> None:
        """The question has gone out, or something came of it: whatever comes next is the provider's to say."""

    def held(self) -> None:
        """What came waits for room on the road: the provider is not to blame for the time that this takes."""


class _Nobody:
    def heard(self) -> None:
        pass

    def held(self) -> None:
        pass


class ProviderHandle:
    """The front of one provider: asked by history, told by its keeper, switched by the operator."""

    def __init__(
        self,
        setup: Setup,
        raw_in: trio.MemorySendChannel[Batch | Live],
        on_change: Callable[[str], None],
        on_feed_end: OnFeedEnd,
        *,
        earliest_us: Callable[[], int] = now_us,
        is_switched_on: bool | None = None,
    ) -> None:
        self._raw_in = raw_in
        self._on_change = on_change
        self._on_feed_end = on_feed_end
        self.earliest_us = earliest_us
        self._forwarding = Forwarding(raw_in, lambda text: self.mask(text), self._end_feed, self._why_fallen)
        self._changed = trio.Event()
        self._poke = trio.Event()
        self._life: trio.CancelScope | None = None
        self._link: ProviderLink | None = None
        self._methods: tuple[str, ...] = ()
        self.listed: tuple[Instrument, ...] = ()  # what the program said it has, at its last start
        self._auth_fault = ""
        self._in_flight = 0
        self.is_switched_on = is_switched_on  # the operator's word over the manifest's; None: has not spoken
        self.state = STARTING
        self.reason = "waits for its turn to start"
        self.since_us = now_us()
        self.pid: int | None = None
        self.lives = 0
        self._is_promising = True
        self.next_retry_us: int | None = None
        self.memory_bytes = 0
        self.last_error = ""
        self.gone = trio.Event()  # its keeper has ended, and with it the process
        self._take(setup)

    @property
    def manifest(self) -> Manifest:
        return self.setup.manifest

    @property
    def slug(self) -> str:
        return self.setup.manifest.slug

    def snapshot(self) -> ProviderState:
        return ProviderState(
            slug=self.slug,
            name=self.manifest.name,
            version=self.manifest.version,
            manifest=self.manifest,
            state=self.state,
            reason=self.reason,
            since_us=self.since_us,
            pid=self.pid,
            restarts=max(0, self.lives - 1),
            next_retry_us=self.next_retry_us,
            memory_bytes=self.memory_bytes,
            last_error=self.last_error,
            in_flight=self._in_flight,
        )

    # --- asked ---

    async def wait_ready(self) -> None:
        """While it is starting, wait; then return or say why not. How long is the caller's word.

        A provider whose last start failed is not waited for.

        Raises: Unavailable, or AuthFailed, with the reason.
        """
        while self.state == STARTING and self._is_promising:
            await self._changed.wait()
        self._check_ready()

    async def history(self, demand: Demand, *, asker: Asker | None = None) -> None:
        """Fetch `demand`; its batches go down the road, the last of them with `is_last`.

        `asker` hears how it goes. Before its question goes out it may have waited for its turn, as no more than the
        manifest's max_concurrent questions are asked at once.
        Raises: ProviderError; when the plugin had been asked, a FAILED or PARTIAL batch has gone down the road before.
        """
        async with self._turn:
            await self.wait_ready()
            with self._counted():
                await self._ask(demand, asker or _Nobody())

    async def symbols(self, query: str, limit: int) -> tuple[Instrument, ...]:
        """Raises: ProviderError; Unsupported when the plugin cannot search."""
        async with self._turn:
            await self.wait_ready()
            if "symbols" not in self._methods:
                raise Unsupported(f"{self.slug} cannot search for symbols")
            with self._counted(), self._masked():
                return await self._live_link().symbols(query, limit)

    def subscribe(self, feed: Feed) -> None:
        """What comes of it goes down the road, from now until `unsubscribe` or until `on_feed_end` is told of it.

        Raises: ProviderError when the provider is not ready or does not stream.
        """
        self._check_ready()
        if "stream" not in self._methods:
            raise Unsupported(f"{self.slug} does not stream")
        self._live_link().subscribe(feed)

    def unsubscribe(self, feed: Feed) -> None:
        """Nothing more of it goes down the road."""
        if self._link is not None:
            self._link.unsubscribe(feed)

    async def run_forwarding(self) -> None:
        """See Forwarding."""
        await self._forwarding.run()

    async def _why_fallen(self) -> ProviderError | None:
        """What whoever asks is told once it is known; None: it has been started anew already."""
        while self.state == READY or self.reason == ENDING:
            await self._changed.wait()
        try:
            self._check_ready()
        except ProviderError as error:
            return error
        return None

    def _end_feed(self, feed: Feed, error: ProviderError) -> None:
        try:
            with self._masked():
                raise error
        except ProviderError as masked:
            self._on_feed_end(feed, masked)
            if isinstance(masked, AuthFailed):
                self.fail_auth(str(masked))

    async def _ask(self, demand: Demand, asker: Asker) -> None:
        cutter = BatchCutter(demand, now_us(), self.manifest.delay_s, self.earliest_us())
        fault: ProviderError | None = None
        asker.heard()
        try:
            with self._masked():
                await self._send(await self._receive(demand, cutter, asker), asker)
        except ProviderError as error:
            fault = error
        if fault is None:
            return
        for batch in cutter.fail(fault):
            await self._send(batch, asker)
        if isinstance(fault, AuthFailed):
            self.fail_auth(str(fault))
        raise fault

    async def _receive(self, demand: Demand, cutter: BatchCutter, asker: Asker) -> Batch:
        """Sends all batches but the last, and returns that."""
        try:
            async with self._live_link().history(demand) as answer:
                async for part in answer:
                    asker.heard()
                    if isinstance(part, Bars):
                        batch = cutter.add(part)
                        if batch is not None:
                            await self._send(batch, asker)
                    else:
                        cutter.add_actions(part)
                return cutter.finish(answer.warnings)
        except Empty:
            return cutter.finish()

    async def _send(self, batch: Batch, asker: Asker) -> None:
        asker.held()
        try:
            await self._raw_in.send(batch)
        except trio.ClosedResourceError:
            raise Unavailable("the server is stopping") from None
        asker.heard()

    def _check_ready(self) -> None:
        if self.state == FAILED_AUTH:
            raise AuthFailed(f"{self.slug}: {self.reason}")
        if self.state != READY:
            raise Unavailable(f"{self.slug} is {self.state.replace('_', ' ')}: {self.reason or self.last_error}")

    def _live_link(self) -> ProviderLink:
        if self._link is None:
            raise Unavailable(f"{self.slug} is {self.state}: {self.reason}")
        return self._link

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1

    @contextmanager
    def _masked(self) -> Iterator[None]:
        """No error leaves with a secret in it: it goes to clients."""
        try:
            yield
        except ProviderError as error:
            said = str(error)
            masked = self.mask(said)
            self.last_error = f"{error.code}: {masked}"
            if masked == said:
                raise
            if isinstance(error, RateLimited):
                raise RateLimited(masked, retry_after_s=error.retry_after_s) from None
            raise type(error)(masked) from None

    # --- told by its keeper ---

    def obstacle(self) -> tuple[str, str] | None:
        """(state, reason) when it is not to be started."""
        if self.is_switched_on is False:
            return DISABLED, "switched off by the operator"
        if not self.manifest.enabled and self.is_switched_on is None:
            return DISABLED, "its manifest, or the configuration, says `enabled: false`"
        if self.setup.faults:
            return WAITING, "; ".join(self.setup.faults)
        if self._auth_fault:
            return FAILED_AUTH, self._auth_fault
        return None

    def become(self, state: str, reason: str = "", *, next_retry_us: int | None = None) -> None:
        if state != self.state:
            self.since_us = now_us()
        self.state, self.reason, self.next_retry_us = state, reason, next_retry_us
        self._tell()

    def begin_life(self, pid: int) -> None:
        self.pid = pid
        self._tell()

    def note_fall(self, reason: str, *, was_ready: bool) -> None:
        self.last_error = reason
        self._is_promising = was_ready

    def open(self, link: ProviderLink, methods: tuple[str, ...], listed: tuple[Instrument, ...]) -> None:
        """Questions may come. `listed`: the symbols that it has, where it knows them."""
        self._link, self._methods = link, methods
        self.listed = tuple(_as_claimed(listed, self.manifest.asset_classes))
        self._forwarding.open(link)
        self.become(READY)

    def close(self) -> None:
        """No more questions: the process is gone, or about to go."""
        self._link = None
        if self.state in {STARTING, READY}:
            self.become(STOPPING, ENDING)

    def end_life(self) -> None:
        self.pid, self.memory_bytes = None, 0

    @contextmanager
    def life(self) -> Iterator[trio.CancelScope]:
        """The scope of one life of the process; an order of the operator, or a new manifest, cancels it."""
        self.lives += 1
        try:
            with trio.CancelScope() as self._life:
                yield self._life
        finally:
            self._life = None

    async def poked(self) -> None:
        """Wait until there is something new to obey."""
        await self._poke.wait()

    def forget_poke(self) -> None:
        self._poke = trio.Event()

    def fail_auth(self, reason: str) -> None:
        self._auth_fault = reason
        self._interrupt(reason)

    # --- ordered by the supervisor and the operator ---

    def change(self, setup: Setup) -> None:
        """A new manifest, or new code: start anew with it."""
        self._take(setup)
        self._forgive()
        self._interrupt("starts anew with its new manifest or code")

    async def switch(self, is_on: bool) -> None:
        """Returns when it is so: the process has ended, or a new one is on its way."""
        self.is_switched_on = is_on
        await self.restart()

    async def restart(self) -> None:
        """Returns when the old process has ended and a new one is on its way (or what is in its way is known)."""
        self._forgive()
        lives = self.lives
        self._interrupt("by order of the operator")
        while self.lives == lives and (self._poke.is_set() or self._life is not None) and not self.gone.is_set():
            await self._changed.wait()

    def retire(self) -> None:
        self.become(STOPPING, "its manifest was removed")

    def _take(self, setup: Setup) -> None:
        self.setup = setup
        self.mask = Masking(setup.secrets.values())
        self._turn = trio.Semaphore(setup.manifest.max_concurrent)

    def _forgive(self) -> None:
        self._auth_fault = ""
        self._is_promising = True

    def _interrupt(self, reason: str) -> None:
        self._poke.set()
        if self._life is not None:
            self.become(STOPPING, reason)
            self._link = None
            self._life.cancel()

    def _tell(self) -> None:
        """Wake who waits for a change, and tell the hooks."""
        self._changed.set()
        self._changed = trio.Event()
        self._on_change(self.slug)

    def end(self) -> None:
        self.gone.set()
        self._tell()


def _as_claimed(listed: Iterable[Instrument], claimed: frozenset[AssetClass]) -> Iterator[Instrument]:
    """Those of the classes that the manifest claims; of one that claims a single class all are of that one.

    A program may know no more of a symbol than how it looks: N225 looks like a stock.
    """
    for each in listed:
        if each.asset_class in claimed:
            yield each
        elif len(claimed) == 1:
            yield replace(each, asset_class=next(iter(claimed)))
