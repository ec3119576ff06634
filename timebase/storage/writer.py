"""good batches -> [writer] -> durable batches. The only one who puts bars into the store."""

import logging
import math
from collections.abc import Sequence
from dataclasses import replace

import trio

from timebase.errors import StoreUnavailable
from timebase.model.bars import Batch, Durable
from timebase.model.instrument import Instrument, classify
from timebase.storage.faults import StoreFault
from timebase.storage.spool import Spool, SpoolFull
from timebase.storage.store import Store

logger = logging.getLogger(__name__)

# What one transaction takes at most: enough that its fixed cost (3 ms) does not show, little enough to hold twice.
MAX_BYTES = 16 << 20
MAX_BATCHES = 256
RETRY_S = 0.5  # between attempts to reach a database that is away
PUT_S = 120.0  # a database that takes longer for one transaction hangs; what it did of it, it will be told again


async def run_writer(
    inbox: trio.MemoryReceiveChannel[Batch],
    outbox: trio.MemorySendChannel[Durable],
    store: Store,
    spool: Spool,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Put what comes into the store, or into the spool while the database is away.

    Order: batches of one series become durable in the order they came; what was spooled goes before anything newer.
    Raises: StoreFault; what the database refuses is not ours to hide. What neither can keep leaves with an `error`.
    """
    road, intake = _Road(store, spool), _Intake(inbox, spool)
    async with inbox, outbox:
        task_status.started()
        waiting: list[Batch] | None = []  # nothing at first: the last run may have left something in the spool
        while waiting is not None:
            for durable in await road.keep(waiting):
                await outbox.send(durable)
            waiting = await intake.next()


class _Intake:
    """Batch while busy: all that waits, as one piece of work."""

    def __init__(self, inbox: trio.MemoryReceiveChannel[Batch], spool: Spool) -> None:
        self._inbox = inbox
        self._spool = spool
        self._held: list[Batch] = []  # what was too much for the piece before

    async def next(self) -> list[Batch] | None:
        """At least one batch; none, now and then, while the spool waits for its turn; None when the inbox has ended."""
        waiting, self._held = self._held, []
        if not waiting:
            with trio.move_on_after(RETRY_S if len(self._spool) else math.inf):
                try:
                    waiting = [await self._inbox.receive()]
                except trio.EndOfChannel:
                    return None
        nbytes = sum(_size(batch) for batch in waiting)
        while waiting and len(waiting) < MAX_BATCHES:
            try:
                batch = self._inbox.receive_nowait()
            except (trio.WouldBlock, trio.EndOfChannel):
                break
            nbytes += _size(batch)
            if nbytes > MAX_BYTES:
                self._held = [batch]
                break
            waiting.append(batch)
        return waiting


def _size(batch: Batch) -> int:
    return batch.bars.nbytes + sum(refused.bars.nbytes for refused in batch.refused)


class _Road:
    """The way into the store, and the detour over the spool."""

    def __init__(self, store: Store, spool: Spool) -> None:
        self._store = store
        self._spool = spool
        self._next_try = -math.inf
        self._is_away = False

    async def keep(self, batches: Sequence[Batch]) -> tuple[Durable, ...]:
        """Make `batches` durable, here or there; without any, replay what was spooled."""
        if trio.current_time() >= self._next_try:
            try:
                await self._replay()
                durables = await self._put(batches)
            except StoreUnavailable as error:
                self._note_away(error)
            else:
                self._note_back(bool(batches))
                return durables
        return await self._detour(batches)

    async def _put(self, batches: Sequence[Batch]) -> tuple[Durable, ...]:
        try:
            with trio.fail_after(PUT_S):
                return await self._store.put(batches)
        except trio.TooSlowError:
            raise StoreUnavailable(f"the database did not finish within {PUT_S:g} s") from None

    async def _replay(self) -> None:
        """Raises: StoreUnavailable; what was replayed until then is done with."""
        while (waiting := await self._spool.oldest()) is not None:
            try:
                await self._put([await self._readdressed(batch) for batch in waiting.batches])
            except StoreFault as error:
                await self._spool.set_aside(waiting.path, str(error))
            else:
                await self._spool.remove(waiting.path)
                self._note_back(True)

    async def _readdressed(self, batch: Batch) -> Batch:
        """`batch` with the series' number in this database, which need not be the one that it was spooled for."""
        series = batch.series
        instrument = await self._store.instrument(series.symbol)
        if instrument is None:
            unknown = Instrument(0, series.symbol, classify(series.symbol))
            (instrument,) = await self._store.upsert_instruments([unknown])
        return replace(batch, series=await self._store.series(instrument, series.provider, series.interval))

    def _note_away(self, error: StoreUnavailable) -> None:
        self._next_try = trio.current_time() + RETRY_S
        if not self._is_away:
            self._is_away = True
            logger.warning("batches go to the spool: %s", error)

    def _note_back(self, is_proven: bool) -> None:
        if self._is_away and is_proven:
            self._is_away = False
            logger.warning("batches reach the database again")

    async def _detour(self, batches: Sequence[Batch]) -> tuple[Durable, ...]:
        if not batches:
            return ()
        try:
            await self._spool.append(batches)
        except SpoolFull as error:
            why = f"the database is away, and {error}"
            logger.warning("%d batches could not be kept: %s", len(batches), why)
            return tuple(Durable(batch, error=why) for batch in batches)
        return tuple(Durable(batch, is_spooled=True) for batch in batches)
