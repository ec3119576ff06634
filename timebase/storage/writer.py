"""good (batches and live batches) -> [writer] -> durable ones. The only one who puts anything into the store."""

import logging
import math
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial

import trio

from timebase.clock import now_us
from timebase.errors import StoreUnavailable
from timebase.model.bars import Batch, Durable
from timebase.model.feed import Feed
from timebase.model.instrument import Instrument, classify
from timebase.model.live import Arrival, DurableLive, LiveBatch
from timebase.model.series import Series
from timebase.storage.delivery import Delivery
from timebase.storage.faults import StoreFault
from timebase.storage.gather import first_us, has_to_store, is_word
from timebase.storage.spool import Spool, SpoolFull, Waiting
from timebase.storage.store import Store
from timebase.turn import Turn

logger = logging.getLogger(__name__)

# What one transaction takes at most: enough that its fixed cost (3 ms) does not show, little enough to hold twice.
MAX_BYTES = 16 << 20
MAX_BATCHES = 256
RETRY_S = 0.5  # between attempts to reach a database that is away
PUT_S = 120.0  # a database that takes longer for one transaction hangs; what it did of it, it will be told again
PUT_LIVE_S = 10.0  # the same of live ones, which somebody waits to see

Work = Batch | LiveBatch
Done = Durable | DurableLive


async def run_writer(
    inbox: trio.MemoryReceiveChannel[Work],
    outbox: trio.MemorySendChannel[Done],
    store: Store,
    spool: Spool,
    *,
    turn: Turn | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Put what comes into the store, or into the spool while the database is away.

    Order: batches of one series become durable in the order they came, and live ones in theirs; what was spooled goes
    before anything newer. Of what waits at one time the live ones go first: a bar that is in both is told of live, and
    then what history says of it is compared with that.
    Raises: StoreFault; what the database refuses is not ours to hide. What neither can keep leaves with an `error`.
    """
    road = _Road(store, spool)
    intake = _Intake(inbox, road, turn or Turn())
    async with inbox, outbox:
        task_status.started()
        waiting: list[Work] | None = []  # nothing at first: the last run may have left something in the spool
        while waiting is not None:
            live = [each for each in waiting if isinstance(each, LiveBatch)]
            for shown in await road.keep_live(live) if live else ():
                await outbox.send(shown)
            batches = [each for each in waiting if isinstance(each, Batch)]
            for durable in await road.keep(batches) if batches or not live else ():
                await outbox.send(durable)
            waiting = await intake.next()


class _Intake:
    """Batch while busy: all that waits, as one piece of work. `turn`: those who make it wait for when we are free."""

    def __init__(self, inbox: trio.MemoryReceiveChannel[Work], road: "_Road", turn: Turn) -> None:
        self._inbox = inbox
        self._road = road
        self._turn = turn
        self._held: list[Work] = []  # what was too much for the piece before

    async def next(self) -> list[Work] | None:
        """At least one batch; none, now and then, while the spool waits for its turn; None when the inbox has ended."""
        waiting, self._held = self._held, []
        if not waiting:
            with trio.move_on_after(RETRY_S if self._road.is_behind else math.inf), self._turn.free():
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


def _size(batch: Work) -> int:
    if isinstance(batch, Batch):
        return batch.bars.nbytes + sum(refused.bars.nbytes for refused in batch.refused)
    parts = [*(t.trades for t in batch.ticks), *(t.quotes for t in batch.ticks), *(u.bars for u in batch.updates)]
    return sum(part.nbytes for part in parts if part is not None)


class _Road:
    """The way into the store, and the detour over the spool."""

    def __init__(self, store: Store, spool: Spool) -> None:
        self._store = store
        self._spool = spool
        self._next_try = -math.inf
        self._is_away = False
        self._lost = 0  # since the last one that could be kept
        self._unrecorded = _Unrecorded()
        self._has_recalled = False
        self._marks: list[str] = []  # of files that are stored and still there; the database is to know of them

    @property
    def is_behind(self) -> bool:
        """Whether there is something to do without anything new coming."""
        return bool(len(self._spool) or self._marks or self._unrecorded.words)

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

    async def keep_live(self, batches: Sequence[LiveBatch]) -> tuple[DurableLive, ...]:
        """The same of live batches, all in one delivery. What has nothing to store goes through."""
        stored = [batch for batch in batches if has_to_store(batch)]
        if not stored:
            return tuple(DurableLive(batch, None, now_us()) for batch in batches)
        delivery = self._delivery()
        if trio.current_time() >= self._next_try:
            try:
                await self._replay()
                durables = await self._put_live(batches, delivery)
            except StoreUnavailable as error:
                self._note_away(error)
            else:
                self._note_back(True)
                self._unrecorded.end()
                return durables
        why = await self._detour_live(stored, delivery)
        return tuple(DurableLive(batch, None, now_us(), why if has_to_store(batch) else "") for batch in batches)

    async def _put(self, batches: Sequence[Batch]) -> tuple[Durable, ...]:
        with _bounded(PUT_S):
            return await self._store.put(batches)

    async def _put_live(self, batches: Sequence[LiveBatch], delivery: Delivery) -> tuple[DurableLive, ...]:
        with _bounded(PUT_LIVE_S):
            return await self._store.put_live(batches, delivery)

    async def _replay(self) -> None:
        """Raises: StoreUnavailable; what was replayed until then is done with."""
        if not self._has_recalled:
            await self._spool.forget(await self._store.replayed(self._spool.writer) if len(self._spool) else set())
            self._has_recalled = True
        await self._note_replayed()
        while (waiting := await self._spool.oldest()) is not None:
            try:
                await self._put_again(waiting)
            except StoreFault as error:
                await self._spool.set_aside(waiting.path, str(error))
            else:
                self._marks += filter(None, [await self._spool.remove(waiting.path)])
                await self._note_replayed()
                self._note_back(True)
        if self._unrecorded.words:
            await self._put_live([LiveBatch(words=self._unrecorded.words)], self._delivery())
            self._unrecorded.told()
            self._note_back(True)

    async def _note_replayed(self) -> None:
        """Before anything newer is stored, for the next server would replay such a file over that."""
        while self._marks:
            await self._store.note_replayed(self._spool.writer, self._marks[0])
            del self._marks[0]

    async def _put_again(self, waiting: Waiting) -> None:
        if waiting.live is not None:
            with _bounded(PUT_LIVE_S):  # these are questions, and others may hold up theirs
                batch = await self._readdressed_live(waiting.live.batch)
            await self._put_live([batch], waiting.live.delivery)
        else:
            with _bounded(PUT_LIVE_S):
                series = [await self._known_here(batch.series) for batch in waiting.batches]
            await self._put([replace(b, series=s) for b, s in zip(waiting.batches, series, strict=True)])

    async def _readdressed_live(self, batch: LiveBatch) -> LiveBatch:
        return LiveBatch(
            tuple([replace(ticks, feed=await self._feed_here(ticks.feed)) for ticks in batch.ticks]),
            tuple([replace(update, series=await self._known_here(update.series)) for update in batch.updates]),
            tuple([replace(word, feed=await self._feed_here(word.feed)) for word in batch.words]),
        )

    async def _known_here(self, series: Series) -> Series:
        """`series` with its number in this database, which need not be the one that it was spooled for."""
        instrument = await self._instrument(Instrument(0, series.symbol, classify(series.symbol)))
        return await self._store.series(instrument, series.provider, series.interval)

    async def _feed_here(self, feed: Feed) -> Feed:
        """The same of a feed's ticks."""
        if feed.ticks is None:
            return feed
        instrument = await self._instrument(replace(feed.instrument, id=0))
        return replace(feed, ticks=await self._store.tick_series(instrument, feed.provider, feed.ticks.kind))

    async def _instrument(self, unknown: Instrument) -> Instrument:
        found = await self._store.instrument(unknown.symbol)
        if found is None:
            (found,) = await self._store.upsert_instruments([unknown])
        return found

    def _note_away(self, error: StoreUnavailable) -> None:
        self._next_try = trio.current_time() + RETRY_S
        if not self._is_away:
            self._is_away = True
            logger.warning("batches go to the spool: %s", error)

    def _note_back(self, is_proven: bool) -> None:
        if self._is_away and is_proven:
            self._is_away = False
            self._spool.refusal = ""
            self._note_kept()
            logger.warning("batches reach the database again")

    async def _detour(self, batches: Sequence[Batch]) -> tuple[Durable, ...]:
        if not batches:
            return ()
        error = await self._spooled(partial(self._spool.append, batches), len(batches))
        return tuple(Durable(batch, is_spooled=not error, error=error) for batch in batches)

    async def _detour_live(self, stored: Sequence[LiveBatch], delivery: Delivery) -> str:
        words = self._unrecorded.words
        before = [LiveBatch(words=words)] if words else []
        why = await self._spooled(partial(self._spool.append_live, [*before, *stored], delivery), len(stored))
        if not why:
            self._unrecorded.end()
            return ""
        self._unrecorded.note(stored, why)
        with suppress(SpoolFull):
            if self._unrecorded.words:
                await self._spool.append_words(LiveBatch(words=self._unrecorded.words), self._delivery())
                self._unrecorded.told()
        return why

    def _delivery(self) -> Delivery:
        return Delivery(self._spool.writer, life=self._spool.life)

    async def _spooled(self, append: Callable[[], Awaitable[None]], n: int) -> str:
        """Returns: why `n` batches could not be kept there; empty: they are."""
        try:
            await append()
        except SpoolFull as error:
            why = f"the database is away, and {error}"
            self._note_lost(n, why)
            return why
        self._note_kept()
        return ""

    def _note_lost(self, n: int, why: str) -> None:
        """One line when it begins and one when it is over: live batches come by the hundred."""
        if not self._lost:
            logger.warning("batches are being lost: %s. Bring the database back, free the disk or raise spool_mb", why)
        self._lost += n

    def _note_kept(self) -> None:
        if self._lost:
            logger.warning("batches are kept again; %d were lost, and are asked for anew where they can be", self._lost)
            self._lost = 0


@contextmanager
def _bounded(seconds: float) -> Iterator[None]:
    try:
        with trio.fail_after(seconds):
            yield
    except trio.TooSlowError:
        raise StoreUnavailable(f"the database did not finish within {seconds:g} s") from None


class _Unrecorded:
    """Since when the ticks of which feeds could not be kept. `words`: what has still to be stored of that, in order."""

    def __init__(self) -> None:
        self.words: tuple[Arrival, ...] = ()
        self._feeds: set[int] = set()

    def note(self, batches: Sequence[LiveBatch], why: str) -> None:
        for batch in batches:
            for ticks in batch.ticks:
                if ticks.feed.id not in self._feeds and ticks.feed.ticks is not None:
                    self._feeds.add(ticks.feed.id)
                    self.words += (Arrival(ticks.feed, first_us(ticks), is_up=False, reason=why),)
            for word in filter(is_word, batch.words):
                self.words += (word,)
                (self._feeds.discard if word.is_up else self._feeds.add)(word.feed.id)

    def told(self) -> None:
        """The words are durable; those feeds are still not recorded."""
        self.words = ()

    def end(self) -> None:
        """What comes now is kept, the words before it."""
        self.words = ()
        self._feeds.clear()
