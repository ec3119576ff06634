"""durable batches -> [hub] -> followers; batches of history go on to the tickets.

What a client follows is a channel; which feed supplies it, `live/feeds.py` says with `bind`. The first follower of a
channel makes it wanted, the last one leaving takes that back: those two words go up the road, nothing else does.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import trio

from timebase.model.bars import Bars, Durable, Flag
from timebase.model.feed import Channel, Feed, FeedKind, FeedState
from timebase.model.interval import Interval
from timebase.model.live import BarStatus, BarUpdate, DurableLive, Ticks
from timebase.model.series import Series
from timebase.model.ticks import Quotes, Trades
from timebase.streaming.event import BarRows, Content, Event, FeedWord
from timebase.streaming.faults import Faults
from timebase.streaming.follower import BUFFER_EVENTS, Follower
from timebase.streaming.lags import Lags
from timebase.streaming.neighbours import Demands, FeedWatch, Nobody
from timebase.streaming.outlet import Round
from timebase.streaming.rings import RING_BYTES, Rings
from timebase.streaming.topic import Told, Topic

HEALING = "backfill"  # the reason of history that was fetched to fill a gap of the live stream
NOT_WORKING = frozenset({FeedState.DOWN, FeedState.CONNECTING, FeedState.MUTE})
POLLED = "live"  # and of what was fetched because its period is just over, and no stream brings it

LINGER_S = 120.0  # a channel without followers is kept so long for those who reconnect
EVENT_ROWS = 1_024  # of one event at most: half a frame, and what a slow follower loses at once
_SHOWN_ONLY = (BarStatus.FORMING, BarStatus.MISSING)  # never stored


@dataclass(frozen=True, slots=True)
class Joined:
    """How a follower came to a channel. `seq` is the newest number before it.

    `missed`: what came since the number it named, if that `is_resumed`. `standing`: how the channel stands now.
    """

    channel: Channel
    seq: int
    missed: tuple[Event, ...] = ()
    standing: tuple[Event, ...] = ()
    is_resumed: bool = False


class Hub:
    """`clock` is µs since the epoch."""

    def __init__(self, clock: Callable[[], int], *, ring_bytes: int = RING_BYTES) -> None:
        self._clock = clock
        self._demands: Demands = Nobody()
        self._watch: FeedWatch = Nobody()
        self._topics: dict[Channel, Topic] = {}
        self._bound: dict[Channel, str] = {}
        self._numbers_from = 0  # above all that was given on channels that are forgotten: the clock may step back
        self._is_bound = trio.lowlevel.ParkingLot()
        self._commit_id = -1
        self._is_shown = trio.lowlevel.ParkingLot()
        self._words: dict[Channel, Event] = {}  # how each feed is, by the channel that is pinned to it
        self._faults = Faults()
        self._routes: dict[tuple[int, Interval | None], tuple[Topic, ...]] = {}  # of feeds, until something changes
        self._followed: dict[int, bool] = {}  # series by number, until something changes
        self._rings = Rings(ring_bytes)
        self._followers: set[Follower] = set()
        self._round = Round()
        self._dropped_before = 0  # by followers that have left
        self.lags = Lags()
        self.events = 0  # published, by rows
        self.ticks: Counter[str] = Counter()  # stored rows by kind, whether anybody follows them or not

    def attach(self, demands: Demands, watch: FeedWatch) -> None:
        """To whom the hub's own words go. Once, before anybody follows."""
        self._demands, self._watch = demands, watch

    # --- followers ---

    @contextmanager
    def follow(self, *channels: Channel, buffer_events: int | None = None) -> Iterator[Follower]:
        """A follower for as long as the block runs."""
        follower = Follower(self._round, buffer_events=buffer_events or BUFFER_EVENTS)
        self._followers.add(follower)
        try:
            for channel in channels:
                for event in self.join(follower, channel).standing:
                    follower.tell(event)
            yield follower
        finally:
            for channel in follower.channels:
                self.leave(follower, channel)
            self._followers.remove(follower)
            self._dropped_before += follower.dropped

    def join(
        self,
        follower: Follower,
        channel: Channel,
        *,
        throttle_s: float = 0.0,
        resume: int | None = None,
        is_held: bool = False,
    ) -> Joined:
        """From now on `follower` gets what happens on `channel`; held, once it is released (see `Follower.release`).

        Before anything else is awaited, what is told to the follower comes before the channel's events. Joining again
        begins again, with the new throttle.
        """
        self._sweep()
        topic = self._topics.get(channel)
        if topic is None:
            topic = self._topics[channel] = Topic(channel, max(self._clock(), self._numbers_from))
            self._routes.clear()
        self._followed.clear()
        missed = None if resume is None else topic.since(resume)
        is_first = not topic.followers
        topic.followers[follower] = None
        follower.add(topic.channel, throttle_s, is_held=is_held)  # the very object: events are found by it faster
        if is_first:
            self._faults.forget(channel)  # somebody tries anew, and says so again if it is in vain
            self._demands.want(channel)
        standing = (*self._faults.of(channel), *self._state_of(channel), *topic.latest())
        return Joined(channel, topic.newest, tuple(missed or ()), standing, missed is not None)

    def leave(self, follower: Follower, channel: Channel) -> None:
        """What waits for the follower of that channel is not given to it any more."""
        follower.remove(channel)
        topic = self._topics.get(channel)
        if topic is None or follower not in topic.followers:
            return
        del topic.followers[follower]
        self._followed.clear()
        if not topic.followers:
            topic.left_at = trio.current_time()
            self._demands.unwant(channel)

    def newest(self, channel: Channel) -> int:
        """The newest number given on a channel that is followed."""
        return self._topics[channel].newest

    def followers(self, channel: Channel) -> int:
        """How many follow a channel."""
        topic = self._topics.get(channel)
        return 0 if topic is None else len(topic.followers)

    def close(self, code: int, message: str) -> None:
        """The server stops."""
        for follower in tuple(self._followers):
            follower.say_goodbye(code, message)

    # --- feeds ---

    def is_followed(self, series: Series) -> bool:
        """Whether anybody looks at the bars of a series: asked for each batch, so it is remembered."""
        known = self._followed.get(series.id)
        if known is None:
            topics = self._topics_of(FeedKind.BARS, series.symbol, series.interval, series.provider)
            known = self._followed[series.id] = any(topic.followers for topic in topics)
        return known

    def bind(self, channel: Channel, provider: str | None) -> None:
        """Whose feed supplies a channel that names no provider; None: nobody's for now."""
        self._routes.clear()
        self._followed.clear()
        if provider is None:
            self._bound.pop(channel, None)
        else:
            self._bound[channel] = provider
            self._faults.end_refusal(channel)
            self._is_bound.unpark_all()

    def provider_of(self, channel: Channel) -> str | None:
        """Who supplies it, if anybody."""
        return channel.provider or self._bound.get(channel)

    async def supplier(self, channel: Channel) -> str:
        """Who supplies it, once somebody does."""
        await trio.lowlevel.checkpoint()
        while (provider := self.provider_of(channel)) is None:
            await self._is_bound.park()
        return provider

    def tell_state(self, feed: Feed, state: FeedState, since_us: int, reason: str = "") -> None:
        """How a feed is; all who follow what it supplies hear it, and who comes later hears the newest."""
        word = FeedWord(state, since_us, reason)
        for interval in _intervals(feed):
            pinned = _pinned(feed, interval)
            self._words[pinned] = Event(word, pinned, provider=feed.provider)
            self._faults.end_refusal(pinned)
            for topic in self._route(feed, interval):
                topic.show(Event(word, topic.channel, topic.newest, feed.provider))

    def forget(self, feed: Feed) -> None:
        """The feed is over, and not to be made anew: nothing is known any more of how it is."""
        for interval in _intervals(feed):
            self._words.pop(_pinned(feed, interval), None)

    def refuse(self, channel: Channel, code: str, message: str) -> None:
        """Nobody can supply a wanted channel, for now: its followers hear why, each once, and stay."""
        topic = self._topics.get(channel)
        if topic is not None:
            self._faults.refuse(topic, code, message)

    # --- what happens ---

    def publish(self, durable: DurableLive) -> None:
        """Show a live batch. Of what is not durable after all no value is shown, but of what is forming anyway."""
        with self._round:
            self._publish(durable)
        if durable.commit_id is not None and durable.is_last:
            self._commit_id = max(self._commit_id, durable.commit_id)
            self._is_shown.unpark_all()

    def _publish(self, durable: DurableLive) -> None:
        batch, is_kept = durable.batch, not durable.error
        if is_kept and (batch.ticks or any(update.status not in _SHOWN_ONLY for update in batch.updates)):
            self._faults.end_losses()
        for ticks in batch.ticks:
            self._publish_ticks(ticks, durable)
        for update in batch.updates:
            if is_kept or update.status in _SHOWN_ONLY:
                self._publish_bars(update, durable)
            elif len(update.bars):
                self._miss_bars(update, durable)
        for word in batch.words:
            self._watch.hear(word)

    def publish_healed(self, durable: Durable) -> None:
        """Show bars that were fetched to fill a gap, on the channels of their provider.

        A period that was told before is told again only if its bar has changed: the revision had got lost.
        """
        series, bars = durable.batch.series, durable.batch.bars
        if durable.error:
            return
        self._faults.end_losses()
        for topic in self._topics_of(FeedKind.BARS, series.symbol, series.interval, series.provider):
            told = topic.told()
            is_told = np.isin(bars.time, list(told))
            for rows in (BarRows.bare(BarStatus.BACKFILLED, bars.pick(~is_told)), _revised(bars.pick(is_told), told)):
                if len(rows):
                    self._show(topic, rows, series.provider, None, self._clock())

    def publish_polled(self, durable: Durable) -> None:
        """Show closed bars of a collected series where no feed brings them; each once, in order."""
        series, bars = durable.batch.series, durable.batch.bars
        if durable.error:
            return
        for topic in self._unsupplied(series):
            newest = max(topic.told(), default=-1)
            fresh = bars.pick((bars.time > newest) & ((bars.flags & Flag.FORMING) == 0))
            if len(fresh):
                self._show_bars(topic, BarRows.bare(BarStatus.CLOSED, fresh), series.provider, None, self._clock())

    def make_up(self, series: Series, bars: Bars) -> None:
        """Show closed bars of a gap that are stored by now, whoever fetched them, where they were not told yet."""
        for topic in self._topics_of(FeedKind.BARS, series.symbol, series.interval, series.provider):
            owed = bars.pick(~np.isin(bars.time, list(topic.told())))
            if len(owed):
                self._show(topic, BarRows.bare(BarStatus.BACKFILLED, owed), series.provider, None, self._clock())

    def _publish_ticks(self, ticks: Ticks, durable: DurableLive) -> None:
        rows = ticks.quotes if ticks.trades is None else ticks.trades
        if rows is None or not len(rows):
            return
        self._note(ticks.feed, ticks.received_us, rows, durable)
        if durable.error:
            for topic in self._route(ticks.feed, None):
                self._faults.lose(topic, len(rows), ticks.feed.provider, durable.error)
            return
        if ticks.quotes is not None:
            rows = ticks.quotes.pick(slice(len(rows) - 1, None))
        for topic in self._route(ticks.feed, None):
            self._show(topic, rows, ticks.feed.provider, durable.commit_id, durable.durable_us)

    def _publish_bars(self, update: BarUpdate, durable: DurableLive) -> None:
        if not len(update.bars):
            return
        rows = BarRows.of(update)
        if update.feed.kind is FeedKind.BARS:
            self._note_ready(update, durable)
        if update.status is BarStatus.FORMING:
            rows = rows.pick(slice(len(rows) - 1, None))
        for topic in self._route(update.feed, update.series.interval):
            self._show_bars(topic, rows, update.feed.provider, durable.commit_id, durable.durable_us)

    def _show_bars(self, topic: Topic, rows: BarRows, provider: str, commit_id: int | None, durable_us: int) -> None:
        for part in topic.verdicts.agreed(rows):
            self._show(topic, part, provider, commit_id, durable_us)

    def _miss_bars(self, update: BarUpdate, durable: DurableLive) -> None:
        """What would have been closed is missing until it is fetched; what has changed stays as it was told."""
        if update.feed.kind is FeedKind.BARS:
            self._note_ready(update, durable)
        self._watch.unkept(update)
        for topic in self._route(update.feed, update.series.interval):
            self._faults.lose(topic, len(update.bars), update.feed.provider, durable.error)
            if update.status is BarStatus.CLOSED:
                missing = BarRows.missing(update.bars.time)
                self._show_bars(topic, missing, update.feed.provider, None, durable.durable_us)

    def _show(self, topic: Topic, rows: Content, provider: str, commit_id: int | None, durable_us: int) -> None:
        event = Event(rows, topic.channel, topic.newest, provider, False, commit_id, durable_us)
        self.events += len(event)
        if event.is_conflated:
            topic.show(event)
            return
        first, count = topic.number(len(event)), len(event)
        event = Event(rows, topic.channel, first, provider, True, commit_id, durable_us)
        for start in range(0, count, EVENT_ROWS):
            part = event if count <= EVENT_ROWS else event.pick(slice(start, start + EVENT_ROWS))
            self._rings.remember(topic, part)
            topic.show(part)

    def _note(self, feed: Feed, received_us: int, rows: Trades | Quotes, durable: DurableLive) -> None:
        event_us = int(rows.time.max())
        self.lags.received.note(received_us - event_us)
        if not durable.error:
            self.lags.durable.note(durable.durable_us - received_us)
            self.ticks[feed.kind.value] += len(rows)
        self._watch.note(feed, received_us, event_us, len(rows), oldest_us=int(rows.time.min()))

    def _note_ready(self, update: BarUpdate, durable: DurableLive) -> None:
        """How late a ready-made bar came is known when it closes: from the end of its period on."""
        received_us = update.received_us or durable.durable_us
        if update.status is BarStatus.CLOSED:
            self.lags.received.note(received_us - update.event_us)
            if not durable.error:
                self.lags.durable.note(durable.durable_us - received_us)
        oldest_us = min(update.event_us, int(update.bars.time[0]))
        self._watch.note(update.feed, received_us, update.event_us, len(update.bars), oldest_us=oldest_us)

    async def shown(self, commit_id: int) -> None:
        """Wait until everything that was committed up to `commit_id` has been shown."""
        await trio.lowlevel.checkpoint()
        while self._commit_id < commit_id:
            await self._is_shown.park()

    # --- which topics ---

    def _route(self, feed: Feed, interval: Interval | None) -> tuple[Topic, ...]:
        key = (feed.id, interval)
        route = self._routes.get(key)
        if route is None:
            kind = feed.kind if interval is None else FeedKind.BARS
            route = self._topics_of(kind, feed.instrument.symbol, interval, feed.provider)
            self._routes[key] = route
        return route

    def _topics_of(self, kind: FeedKind, symbol: str, interval: Interval | None, provider: str) -> tuple[Topic, ...]:
        open_to_all, pinned = Channel(kind, symbol, interval), Channel(kind, symbol, interval, provider)
        channels = [pinned, open_to_all] if self._bound.get(open_to_all) == provider else [pinned]
        return tuple(self._topics[channel] for channel in channels if channel in self._topics)

    def _unsupplied(self, series: Series) -> list[Topic]:
        """The topics of its bars that no feed supplies, or none that works: another provider's may, or heals itself."""
        open_to_all = Channel(FeedKind.BARS, series.symbol, series.interval)
        pinned = Channel(FeedKind.BARS, series.symbol, series.interval, series.provider)
        word = self._words.get(pinned)
        is_idle = word is not None and isinstance(word.content, FeedWord) and word.content.state in NOT_WORKING
        bound = self._bound.get(open_to_all)
        channels = [pinned] if word is None or is_idle else []
        channels += [open_to_all] if bound is None or (bound == series.provider and is_idle) else []
        return [self._topics[channel] for channel in channels if channel in self._topics]

    def _state_of(self, channel: Channel) -> list[Event]:
        """The newest word about the feed behind a channel, as the channel's own."""
        provider = self.provider_of(channel)
        word = self._words.get(Channel(channel.kind, channel.symbol, channel.interval, provider))
        return [] if word is None else [Event(word.content, channel, self.newest(channel), word.provider)]

    def _sweep(self) -> None:
        """Forget the channels that nobody came back to."""
        before = trio.current_time() - LINGER_S
        gone = [channel for channel, topic in self._topics.items() if not topic.followers and topic.left_at < before]
        for channel in gone:
            topic = self._topics.pop(channel)
            self._numbers_from = max(self._numbers_from, topic.newest + 1)
            self._faults.forget(channel)
        if gone:
            self._routes.clear()

    # --- figures ---

    def figures(self) -> Mapping[str, int]:
        """For /metrics: how many there are, how much waits, how much was lost."""
        depths = [follower.depth for follower in self._followers]
        return {
            "followers": len(depths),
            "channels": sum(bool(topic.followers) for topic in self._topics.values()),
            "waiting": sum(depths),
            "deepest": max(depths, default=0),
            "dropped": self._dropped_before + sum(follower.dropped for follower in self._followers),
            "events": self.events,
            "ring_bytes": self._rings.nbytes,
        }


def _revised(bars: Bars, told: Mapping[int, Told]) -> BarRows:
    """Those of `bars` that are not as they were told."""
    before = [told[at] for at in bars.time.tolist()]
    changed = np.asarray([not each.is_as(bars, n) for n, each in enumerate(before)], np.bool_)
    revision = np.asarray([each.revision + 1 for each in before], np.int32)
    return replace(BarRows.bare(BarStatus.REVISED, bars.pick(changed)), revision=revision[changed])


def _intervals(feed: Feed) -> tuple[Interval | None, ...]:
    """What a feed supplies: itself (None, but for ready-made bars) and the bars of its intervals."""
    own = () if feed.kind is FeedKind.BARS else (None,)
    return (*own, *(feed.bars if feed.interval is None else {feed.interval: None}))


def _pinned(feed: Feed, interval: Interval | None) -> Channel:
    kind = feed.kind if interval is None else FeedKind.BARS
    return Channel(kind, feed.instrument.symbol, interval, feed.provider)


async def run_hub(
    inbox: trio.MemoryReceiveChannel[Durable | DurableLive],
    outbox: trio.MemorySendChannel[Durable],
    hub: Hub,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """durable -> [hub] -> followers; batches of history go on to the tickets.

    Order: what one channel's followers see is in the order in which it became durable.
    """
    async with inbox, outbox:
        task_status.started()
        async for durable in inbox:
            if isinstance(durable, DurableLive):
                hub.publish(durable)
            else:
                if durable.batch.reason == HEALING:
                    hub.publish_healed(durable)
                elif durable.batch.reason == POLLED:
                    hub.publish_polled(durable)
                await outbox.send(durable)
