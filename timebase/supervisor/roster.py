"""Who there is and how they are: the supervisor writes it, everybody else reads it and gives orders through it."""

from collections.abc import Callable
from pathlib import Path

import trio

from timebase.errors import ProviderError, UnknownProvider
from timebase.manifest.load import BrokenManifest
from timebase.model.feed import Feed
from timebase.model.instrument import Instrument
from timebase.supervisor.forwarding import OnFeedEnd
from timebase.supervisor.handle import ProviderHandle, ProviderState
from timebase.supervisor.process import Home


class Roster:
    """Every provider with a good manifest, and every manifest that is not.

    `on_change`: functions that are called with a slug whenever its state, or whether it is here, has changed.
    `on_feed_end`: functions that are called with a feed that its provider does not supply any more, and why.
    """

    def __init__(self) -> None:
        self.on_change: list[Callable[[str], None]] = []
        self.on_feed_end: list[OnFeedEnd] = []
        self._handles: dict[str, ProviderHandle] = {}
        self._homes: dict[str, Home] = {}
        self._broken: dict[Path, BrokenManifest] = {}
        self._told = trio.Event()

    def all(self) -> tuple[ProviderState, ...]:
        """By slug."""
        return tuple(handle.snapshot() for _, handle in sorted(self._handles.items()))

    def get(self, slug: str) -> ProviderHandle | None:
        return self._handles.get(slug)

    def broken(self) -> tuple[BrokenManifest, ...]:
        """Manifests that cannot be used; a provider may still run from the last good state of one."""
        return tuple(broken for _, broken in sorted(self._broken.items()))

    def symbols(self) -> tuple[Instrument, ...]:
        """The instruments that manifests list, and those that providers said they have, each symbol once."""
        handles = [handle for _, handle in sorted(self._handles.items())]
        found: dict[str, Instrument] = {}
        for listed in (*(handle.manifest.symbols for handle in handles), *(handle.listed for handle in handles)):
            for instrument in listed:
                found.setdefault(instrument.symbol, instrument)
        return tuple(found.values())

    async def enable(self, slug: str) -> ProviderState:
        """Start it, whatever its manifest says, also after restarts of the server. Raises: UnknownProvider."""
        return await self._switch(slug, True)

    async def disable(self, slug: str) -> ProviderState:
        """Stop it; returns when its process has ended. It stays off after restarts of the server too.

        Raises: UnknownProvider.
        """
        return await self._switch(slug, False)

    async def restart(self, slug: str) -> ProviderState:
        """Start it anew, now, also when it backs off or its key was refused. Raises: UnknownProvider."""
        handle = self.known(slug)
        await handle.restart()
        return handle.snapshot()

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Wait for changes until it is so."""
        while not is_so():
            await self._told.wait()

    # --- the supervisor's side ---

    def put(self, handle: ProviderHandle, home: Home) -> None:
        self._handles[handle.slug] = handle
        self._homes[handle.slug] = home
        self.tell(handle.slug)

    def drop(self, slug: str) -> ProviderHandle | None:
        handle = self._handles.pop(slug, None)
        self.tell(slug)
        return handle

    def put_broken(self, broken: BrokenManifest) -> None:
        self._broken[broken.folder] = broken

    def drop_broken(self, folder: Path) -> None:
        self._broken.pop(folder, None)

    def tell(self, slug: str) -> None:
        for hook in self.on_change:
            hook(slug)
        self._told.set()
        self._told = trio.Event()

    def tell_feed_end(self, feed: Feed, error: ProviderError) -> None:
        for hook in self.on_feed_end:
            hook(feed, error)

    def known(self, slug: str) -> ProviderHandle:
        """Raises: UnknownProvider."""
        handle = self._handles.get(slug)
        if handle is None:
            raise UnknownProvider(slug, sorted(self._handles))
        return handle

    async def _switch(self, slug: str, is_on: bool) -> ProviderState:
        handle = self.known(slug)
        await trio.to_thread.run_sync(self._homes[slug].write_switch, is_on)
        await handle.switch(is_on)
        return handle.snapshot()
