"""manifest folders -> [supervisor] -> provider processes -> raw batches and live data.

Every provider has a keeper, a task of its own: what befalls one is nothing to the others.
"""

import logging
from collections.abc import Callable

import trio

from timebase.clock import now_us
from timebase.link.address import RunDirectory, open_run_directory
from timebase.manifest.manifest import Manifest
from timebase.manifest.watch import Broken, Event, Gone, Good, Watch
from timebase.model.bars import Batch
from timebase.model.live import Live
from timebase.supervisor.handle import ProviderHandle
from timebase.supervisor.install import mend
from timebase.supervisor.keeper import keep
from timebase.supervisor.life import Spend
from timebase.supervisor.process import Home
from timebase.supervisor.roster import Roster
from timebase.supervisor.settings import SupervisorSettings
from timebase.supervisor.setup import set_up

logger = logging.getLogger("timebase.supervisor")


async def run_supervisor(
    settings: SupervisorSettings,
    roster: Roster,
    raw_in: trio.MemorySendChannel[Batch | Live],
    spend: Spend,
    *,
    earliest_us: Callable[[], int] = now_us,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Find providers and keep them alive until cancelled; then end their processes, all at once, in bounded time.

    `earliest_us`: the earliest that it can be now, by our clocks; what a provider says of anything later is not final.
    Order: `roster` holds every provider when this has started, their processes follow one by one.
    """
    watch = Watch(settings.manifests)
    await trio.to_thread.run_sync(mend, settings.manifests)
    async with raw_in:
        with open_run_directory() as run_directory:
            async with trio.open_nursery() as keepers:
                staff = _Staff(settings, roster, raw_in, spend, earliest_us, run_directory, keepers)
                for place, event in enumerate(await trio.to_thread.run_sync(watch.look)):
                    staff.heed(event, start_in_s=place * settings.stagger_s)
                task_status.started()
                while True:
                    await trio.sleep(settings.look_s)
                    for event in await trio.to_thread.run_sync(watch.look):
                        staff.heed(event)


class _Staff:
    """Engages, changes and dismisses providers as the manifests say."""

    def __init__(
        self,
        settings: SupervisorSettings,
        roster: Roster,
        raw_in: trio.MemorySendChannel[Batch | Live],
        spend: Spend,
        earliest_us: Callable[[], int],
        run_directory: RunDirectory,
        keepers: trio.Nursery,
    ) -> None:
        self._settings = settings
        self._roster = roster
        self._raw_in = raw_in
        self._spend = spend
        self._earliest_us = earliest_us
        self._run_directory = run_directory
        self._keepers = keepers
        self._contracts: dict[str, trio.CancelScope] = {}
        self._leaving: dict[str, ProviderHandle] = {}

    def heed(self, event: Event, *, start_in_s: float = 0.0) -> None:
        match event:
            case Good(manifest):
                self._roster.drop_broken(manifest.folder)
                self._engage(manifest, start_in_s)
            case Broken(broken):
                self._roster.put_broken(broken)
                for fault in broken.faults:
                    logger.warning("%s", fault)
            case Gone(folder, slug):
                self._roster.drop_broken(folder)
                if slug is not None:
                    self._dismiss(slug)

    def _engage(self, manifest: Manifest, start_in_s: float) -> None:
        setup = set_up(manifest, self._settings.providers.get(manifest.slug, {}), self._settings.environ)
        present = self._roster.get(manifest.slug)
        if present is not None:
            logger.info("%s has changed and is started anew", manifest.slug)
            present.change(setup)
            return
        home = Home.of(self._settings.data_dir, manifest.slug)
        handle = ProviderHandle(
            setup, self._raw_in, self._roster.tell, self._roster.tell_feed_end,
            earliest_us=self._earliest_us, is_switched_on=home.read_switch(),
        )  # fmt: skip
        self._roster.put(handle, home)
        contract = self._contracts[manifest.slug] = trio.CancelScope()
        self._keepers.start_soon(self._keep, handle, home, contract, start_in_s)

    def _dismiss(self, slug: str) -> None:
        handle = self._roster.drop(slug)
        if handle is not None:
            logger.info("%s was removed", slug)
            handle.retire()
            self._leaving[slug] = handle
            self._contracts.pop(slug).cancel()

    async def _keep(self, handle: ProviderHandle, home: Home, contract: trio.CancelScope, start_in_s: float) -> None:
        slug = handle.slug
        predecessor = self._leaving.get(slug)
        try:
            with contract:
                if predecessor is not None:
                    await predecessor.gone.wait()  # it still has the work folder
                await trio.sleep(start_in_s)
                async with trio.open_nursery() as both:
                    both.start_soon(handle.run_forwarding)
                    await keep(handle, home, self._run_directory, self._settings, self._spend)
        finally:
            handle.end()
            if self._leaving.get(slug) is handle:
                del self._leaving[slug]
