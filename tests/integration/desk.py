"""A running writer on a real database, its two ends, and a plug to pull."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio
from integration.plug import Plug, open_plug

from timebase.model.bars import Batch, Durable
from timebase.model.live import DurableLive, LiveBatch
from timebase.storage.spool import Spool, open_spool
from timebase.storage.store import Store, open_store
from timebase.storage.writer import Done, Work, run_writer

MB = 1 << 20


class Desk:
    """A running writer, its two ends, and what lies behind it."""

    def __init__(self, store: Store, spool: Spool, plug: Plug, inlet: trio.MemorySendChannel[Work]) -> None:
        self.store, self.spool, self.plug, self.inlet = store, spool, plug, inlet
        self.done: list[Done] = []

    @property
    def durables(self) -> list[Durable]:
        return [each for each in self.done if isinstance(each, Durable)]

    @property
    def shown(self) -> list[DurableLive]:
        return [each for each in self.done if isinstance(each, DurableLive)]

    async def hand_in(self, *batches: Batch) -> list[Durable]:
        """Send and wait until the writer has reported them."""
        return [each for each in await self._hand_in(batches) if isinstance(each, Durable)]

    async def tell(self, *batches: LiveBatch) -> list[DurableLive]:
        """The same of live ones."""
        return [each for each in await self._hand_in(batches) if isinstance(each, DurableLive)]

    async def _hand_in(self, batches: Sequence[Work]) -> list[Done]:
        until = len(self.done) + len(batches)
        for each in batches:
            await self.inlet.send(each)
        await self.reported(until)
        return self.done[until - len(batches) :]

    async def reported(self, n: int) -> None:
        with trio.fail_after(30):
            while len(self.done) < n:  # noqa: ASYNC110
                await trio.sleep(0.01)

    async def emptied(self) -> None:
        with trio.fail_after(30):
            while len(self.spool):  # noqa: ASYNC110
                await trio.sleep(0.01)


@asynccontextmanager
async def open_desk(url: str, folder: Path, spool_mb: int = 100, waiting: int = 4) -> AsyncIterator[Desk]:
    with open_spool(folder / "spool", spool_mb * MB) as spool:
        async with open_plug(url) as plug, open_store(plug.url, folder) as store, trio.open_nursery() as nursery:
            inlet, inbox = trio.open_memory_channel[Work](waiting)
            outbox, outlet = trio.open_memory_channel[Done](4)
            desk = Desk(store, spool, plug, inlet)

            async def collect() -> None:
                async for durable in outlet:
                    desk.done.append(durable)

            nursery.start_soon(collect)
            await nursery.start(run_writer, inbox, outbox, store, spool)
            async with inlet:
                yield desk
