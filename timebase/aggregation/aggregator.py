"""good -> [aggregator] -> ready: ticks become ticks and bars; history passes."""

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import trio

from timebase.aggregation.bar_builder import BarBuilder, Building
from timebase.aggregation.ready_bars import ReadyBars
from timebase.model.bars import Batch
from timebase.model.feed import Feed, FeedKind
from timebase.model.live import Arrival, BarUpdate, Live, LiveBatch, Ticks
from timebase.model.series import Series
from timebase.model.ticks import Quotes, Trades
from timebase.turn import Turn

log = logging.getLogger(__name__)

# What one live batch takes at most: enough that its fixed cost does not show, and 5 ms of work at most.
MAX_TICKS = 65_536
# What a message costs beside its rows, and each arrival in it: where small ones never cease, some 100 are a batch.
MESSAGE_TICKS, ARRIVAL_TICKS = 512, 16
# Of trio's scheduler. Four pass between two items of a stage that waits for room: it is woken, takes one, sends it.
IDLE_ROUNDS = 5
# One that is quiet costs 24 kB; one that is forgotten joins anew when it is heard again.
REMEMBERED_FEEDS = 16_384


def everything(_: Series) -> bool:
    return True


async def run_aggregator(
    inbox: trio.MemoryReceiveChannel[Batch | Live],
    outbox: trio.MemorySendChannel[Batch | LiveBatch],
    *,
    building: Building,
    is_followed: Callable[[Series], bool] = everything,
    turn: Turn | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Batch while busy: all that waits becomes one live batch, so that bars form as often as there is time to show it.

    `turn` says when the next stage is free for it; without one, it always is. `is_followed` says whether anybody looks
    at the forming bars of a series; closed ones are always made.
    Order: as it came; batches of history leave untouched, between the live ones before and after them.
    """
    aggregator = Aggregator(building, is_followed)
    async with inbox, outbox:
        task_status.started()
        async for first in inbox:
            if turn is not None:
                await turn.come()
            waiting: list[Live] = []
            for item in await _everything_waiting(first, inbox):
                if isinstance(item, Live):
                    waiting.append(item)
                    continue
                await _send(outbox, aggregator.take(waiting))
                waiting = []
                await outbox.send(item)
            await _send(outbox, aggregator.take(waiting))


async def _send(outbox: trio.MemorySendChannel[Batch | LiveBatch], batch: LiveBatch) -> None:
    if batch.ticks or batch.updates or batch.words:
        await outbox.send(batch)


async def _everything_waiting(
    first: Batch | Live, inbox: trio.MemoryReceiveChannel[Batch | Live]
) -> list[Batch | Live]:
    """With what the stages before hold: once there is room they pass it on, each when its turn comes."""
    found, cost, idle = [first], _cost(first), 0
    while cost < MAX_TICKS and idle < IDLE_ROUNDS:
        try:
            item = inbox.receive_nowait()
        except trio.WouldBlock:
            idle += 1
            await trio.lowlevel.checkpoint()
        except trio.EndOfChannel:
            break
        else:
            found.append(item)
            cost, idle = cost + _cost(item), 0
    return found


def _cost(item: Batch | Live) -> int:
    """In rows."""
    if isinstance(item, Batch):
        return MESSAGE_TICKS + len(item.bars)
    rows = sum(len(data) for a in item.arrivals for data in (a.trades, a.quotes, a.bars) if data is not None)
    return MESSAGE_TICKS + ARRIVAL_TICKS * len(item.arrivals) + rows


@dataclass(slots=True)
class _Open:
    """What is collected of one feed until it has to be built: at a word about the feed, or at the end of the batch."""

    feed: Feed
    builder: BarBuilder | None
    ready: ReadyBars | None
    received_us: int = 0
    trades: list[Trades] = field(default_factory=list)
    quotes: list[Quotes] = field(default_factory=list)
    said: int = 0  # of what was too late


class Aggregator:
    """Pure: what the actor does between its channels."""

    def __init__(self, building: Building, is_followed: Callable[[Series], bool] = everything) -> None:
        self._building = building
        self._is_followed = is_followed
        self._feeds: OrderedDict[tuple[str, ...], _Open] = OrderedDict()
        self._ticks: list[Ticks] = []
        self._updates: list[BarUpdate] = []

    def take(self, lives: Iterable[Live]) -> LiveBatch:
        words: list[Arrival] = []
        touched: dict[int, _Open] = {}
        for live in lives:
            for arrival in live.arrivals:
                feed = self._feed(arrival.feed)
                touched[id(feed)] = feed
                self._collect(feed, arrival)
                if arrival.pulse_us is not None or arrival.is_up is not None:
                    self._build(feed)
                    self._heed(feed, arrival)
                    words.append(replace(arrival, trades=None, quotes=None, bars=None))
        for feed in touched.values():
            self._build(feed)
            self._form(feed)
        ticks, updates = tuple(self._ticks), tuple(self._updates)
        self._ticks, self._updates = [], []
        while len(self._feeds) > REMEMBERED_FEEDS:
            self._feeds.popitem(last=False)
        return LiveBatch(ticks, updates, tuple(words))

    def _feed(self, feed: Feed) -> _Open:
        """By what it supplies, not by its number: one that was made anew goes on where the old one left."""
        key = (feed.kind.value, feed.provider, feed.instrument.symbol, feed.interval or "")
        known = self._feeds.get(key)
        if known is None or known.feed.bars.keys() != feed.bars.keys():
            known = self._feeds[key] = self._opened(feed)
        elif known.feed.id != feed.id:
            self._build(known)
            self._adopt(known, feed)
        self._feeds.move_to_end(key)
        return known

    def _opened(self, feed: Feed) -> _Open:
        if feed.kind is FeedKind.TRADES:
            return _Open(feed, BarBuilder(feed, self._building), None)
        if feed.kind is FeedKind.BARS and feed.interval is not None:
            return _Open(feed, None, ReadyBars(feed, feed.interval))
        return _Open(feed, None, None)

    def _adopt(self, known: _Open, feed: Feed) -> None:
        known.feed = feed
        for part in (known.builder, known.ready):
            if part is not None:
                part.feed = feed
                part.leave()
        if known.builder is not None:
            known.builder.come(feed.since_us)

    def _collect(self, feed: _Open, arrival: Arrival) -> None:
        feed.received_us = feed.received_us or arrival.received_us
        if arrival.trades is not None:
            feed.trades.append(arrival.trades)
        if arrival.quotes is not None:
            feed.quotes.append(arrival.quotes)
        if arrival.bars is not None and feed.ready is not None:
            feed.ready.take(arrival.bars, received_us=arrival.received_us)

    def _build(self, feed: _Open) -> None:
        """Make of what was collected what is stored and shown."""
        if feed.trades:
            trades = feed.trades[0] if len(feed.trades) == 1 else Trades.concat(feed.trades)
            if feed.builder is not None:
                trades = feed.builder.take(trades)
            if len(trades):
                self._ticks.append(Ticks(feed.feed, feed.received_us, trades=trades))
            feed.trades = []
        if feed.quotes:
            self._ticks.append(Ticks(feed.feed, feed.received_us, quotes=Quotes.concat(feed.quotes)))
            feed.quotes = []
        self._tell(feed)
        feed.received_us = 0

    def _heed(self, feed: _Open, word: Arrival) -> None:
        if word.pulse_us is not None and feed.builder is not None:
            feed.builder.pulse(word.pulse_us)
        if word.is_up is not None:
            for part in (feed.builder, feed.ready):
                if part is not None:
                    part.leave()
        if word.is_up and feed.builder is not None:
            feed.builder.come(word.received_us)
        self._tell(feed)

    def _tell(self, feed: _Open) -> None:
        for part in (feed.builder, feed.ready):
            if part is not None:
                self._updates += part.closed()
                if part.too_late > feed.said:
                    _warn(feed, part.too_late)

    def _form(self, feed: _Open) -> None:
        if feed.builder is not None:
            followed = {interval for interval, series in feed.feed.bars.items() if self._is_followed(series)}
            if followed:
                self._updates += feed.builder.forming(followed)
        if feed.ready is not None:
            self._updates += feed.ready.forming()


def _warn(feed: _Open, too_late: int) -> None:
    """The first, and then each time that there is a digit more."""
    if len(str(too_late)) > len(str(feed.said)) or feed.said == 0:
        log.warning(
            "%s:%s of %s: %d came too late to revise a bar, which stands as it was told",
            feed.feed.kind.value, feed.feed.instrument.symbol, feed.feed.provider, too_late,
        )  # fmt: skip
    feed.said = too_late
