"""One client's place at the hub: what it follows, and what waits for it.

Nothing that a slow follower does is felt by others: what waits is bounded, and shared with them anyway. Forming bars
and quotes are conflated to the newest, trades drop oldest first with a count, and who still does not read is let go.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import trio

from timebase.model.feed import Channel
from timebase.model.ticks import Trades
from timebase.streaming.event import Dropped, Event, Goodbye, ends
from timebase.streaming.outlet import Outlet, Round

# What may wait for one follower. As JSON some 3 MB: the fastest market's trades of ten seconds, and with a thousand
# followers who all stall, no more than the events themselves, which they share.
BUFFER_EVENTS = 16_384
BUFFER_BYTES = 4 << 20
# One frame: a client gets through it in a few milliseconds, and meanwhile others get theirs.
FRAME_EVENTS = 2_048
OFFER_BELOW = BUFFER_EVENTS // 4  # history waits while more than this waits: live events need the room
EMPTY_SLOTS = 1_024  # beside as many as hold something: so seldom that it costs nothing
PATIENCE_S = 20.0  # after the first drop; a reader who took nothing for so long is not slow but gone
Sift = Callable[[Event], Sequence[Event]]  # what is left of an event
TOO_SLOW = 4008  # of the codes that RFC 6455 leaves to applications, after HTTP's 408


@dataclass(slots=True)
class _Slot:
    """A place in the order; empty when what stood there has been taken, conflated or dropped."""

    event: Event | None


@dataclass(slots=True)
class _Subscription:
    """`held`: what came while its history is being read; `sift` takes out what that has told already. `waiting`: the
    newest event of a throttled one, until `due`.
    """

    throttle_s: float = 0.0
    due: float = -math.inf
    waiting: Event | None = None
    held: deque[Event] | None = None
    held_rows: int = 0
    sift: Sift | None = None


@dataclass(slots=True)
class Follower:
    """Made by `Hub.follow`. What it is given comes out of `next`, in order for each channel."""

    round: Round
    buffer_events: int = BUFFER_EVENTS
    buffer_bytes: int = BUFFER_BYTES
    dropped: int = 0  # trades, all in all
    outlet: Outlet | None = None
    _subscriptions: dict[Channel, _Subscription] = field(default_factory=dict)
    _slots: deque[_Slot] = field(default_factory=deque)
    _trades: deque[_Slot] = field(default_factory=deque)  # those of the slots that hold trades
    _newest: dict[Channel, _Slot] = field(default_factory=dict)  # those that hold what is conflated
    _drops: dict[Channel, Event] = field(default_factory=dict)  # not told yet
    _goodbye: Event | None = None
    _rows: int = 0
    _bytes: int = 0
    _throttled: int = 0  # how many subscriptions have something that waits for its date
    _first_drop_at: float = math.inf
    _arrived: trio.lowlevel.ParkingLot = field(default_factory=trio.lowlevel.ParkingLot)
    _room: trio.lowlevel.ParkingLot = field(default_factory=trio.lowlevel.ParkingLot)

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other

    @property
    def channels(self) -> Sequence[Channel]:
        return tuple(self._subscriptions)

    @property
    def depth(self) -> int:
        """How many events wait."""
        return self._rows

    async def next(self) -> list[Event]:
        """All that waits, up to one frame of it; at least one event. A `Goodbye` is the last.

        Cancelled, it has taken nothing.
        """
        self._release_due()
        if self._has_some():
            await trio.lowlevel.checkpoint()
        while not self._has_some():
            if self._throttled:
                with trio.CancelScope(deadline=self._next_due()):
                    await self._arrived.park()
                self._release_due()
            else:
                await self._arrived.park()
        return self._take()

    def tell(self, event: Event) -> None:
        """Something for this follower alone, behind what waits already."""
        self._put(event)

    async def offer(self, event: Event) -> None:
        """The same for much at once: waits until there is room beside what comes live."""
        await trio.lowlevel.checkpoint()
        while self._rows >= OFFER_BELOW and self._goodbye is None:
            await self._room.park()
        self._put(event)

    def say_goodbye(self, code: int, message: str) -> None:
        """Nothing comes after it; what waits is given out before."""
        if self._goodbye is None:
            self._goodbye = Event(Goodbye(code, message))
            self._wake()

    # --- for the hub ---

    def add(self, channel: Channel, throttle_s: float, *, is_held: bool) -> None:
        held: deque[Event] | None = deque() if is_held else None
        self.remove(channel)
        self._subscriptions[channel] = _Subscription(throttle_s=throttle_s, held=held)

    def remove(self, channel: Channel) -> None:
        known = self._subscriptions.pop(channel, None)
        if known is None:
            return
        self._wait_for(known, None)
        self._newest.pop(channel, None)
        for slot in self._slots:
            if slot.event is not None and slot.event.channel == channel:
                self._empty(slot)

    def serve(self) -> None:
        """What came by now goes out where it can; else who awaits it is woken."""
        if self._arrived and self._goodbye is None and self.outlet is not None:
            while self._has_some() and self.outlet.is_free:
                self.outlet.send(self._take())
        if self._has_some():
            self._arrived.unpark_all()

    def push(self, event: Event) -> None:
        """One event of a channel that it follows."""
        assert event.channel is not None
        subscription = self._subscriptions[event.channel]
        if subscription.held is not None:
            self._hold(subscription, subscription.held, event)
            return
        for rest in (event,) if subscription.sift is None else subscription.sift(event):
            self._give(subscription, rest)

    # --- for who reads its history ---

    def held(self, channel: Channel) -> Sequence[Event]:
        """What has come on a held channel so far."""
        subscription = self._subscriptions.get(channel)
        return tuple(subscription.held or ()) if subscription else ()

    def release(self, channel: Channel, after_seq: int, sift: Sift | None = None) -> None:
        """The channel is live from now on: what was held comes first, but for what is numbered up to `after_seq`.

        `sift` is given each event from then on, and returns what is left of it.
        """
        subscription = self._subscriptions.get(channel)
        if subscription is None or subscription.held is None:
            return
        held, subscription.held, subscription.held_rows = subscription.held, None, 0
        subscription.sift = sift
        for event in held:
            rest = event.after(after_seq) if event.is_numbered else event
            if rest is not None:
                self.push(rest)

    # --- the buffer ---

    def _give(self, subscription: _Subscription, event: Event) -> None:
        if subscription.throttle_s and (event.is_conflated or isinstance(event.content, Trades)):
            self._throttle(subscription, event)
            return
        if subscription.waiting is not None and ends(subscription.waiting, event):
            self._wait_for(subscription, None)
        self._put(event)

    def _hold(self, subscription: _Subscription, held: deque[Event], event: Event) -> None:
        if event.is_conflated and held and held[-1].is_conflated:
            held[-1] = event
            return
        held.append(event)
        subscription.held_rows += len(event)
        while subscription.held_rows > self.buffer_events and len(held) > 1:
            oldest = held.popleft()
            subscription.held_rows -= len(oldest)
            if oldest.is_numbered:
                self._note_drop(oldest)

    def _throttle(self, subscription: _Subscription, event: Event) -> None:
        """The newest state once in a period: the first at once, then the last of each."""
        newest = event if len(event) == 1 else event.pick(slice(len(event) - 1, None))
        if trio.current_time() >= subscription.due:
            subscription.due = trio.current_time() + subscription.throttle_s
            self._put(newest)
        else:
            self._wait_for(subscription, newest)
            self._arrived.unpark_all()  # whoever waits, does not know of that date yet

    def _wait_for(self, subscription: _Subscription, event: Event | None) -> None:
        self._throttled += (event is not None) - (subscription.waiting is not None)
        subscription.waiting = event

    def _next_due(self) -> float:
        if not self._throttled:
            return math.inf
        return min(each.due for each in self._subscriptions.values() if each.waiting is not None)

    def _release_due(self) -> None:
        if not self._throttled:
            return
        now = trio.current_time()
        for subscription in self._subscriptions.values():
            waiting = subscription.waiting
            if waiting is not None and subscription.due <= now:
                self._wait_for(subscription, None)
                subscription.due = now + subscription.throttle_s
                self._put(waiting)

    def _put(self, event: Event) -> None:
        if self._goodbye is not None:
            return
        slot = _Slot(event)
        if event.channel is not None:
            self._conflate(event.channel, event, slot)
        self._slots.append(slot)
        if isinstance(event.content, Trades):
            self._trades.append(slot)
        self._rows += len(event)
        self._bytes += event.nbytes
        if self._is_full():
            self._make_room()
        if len(self._slots) > 2 * self._rows + EMPTY_SLOTS:
            self._close_ranks()
        self._wake()

    def _close_ranks(self) -> None:
        """Nobody takes from a follower that does not read, and each quote leaves the place of the one before empty."""
        self._slots = deque(slot for slot in self._slots if slot.event is not None)
        self._trades = deque(slot for slot in self._trades if slot.event is not None)

    def _conflate(self, channel: Channel, event: Event, slot: _Slot) -> None:
        known = self._newest.get(channel)
        if known is not None and known.event is not None and (event.is_conflated or ends(known.event, event)):
            self._empty(known)
        if event.is_conflated:
            self._newest[channel] = slot

    def _empty(self, slot: _Slot) -> None:
        assert slot.event is not None
        self._rows -= len(slot.event)
        self._bytes -= slot.event.nbytes
        slot.event = None

    def _is_full(self) -> bool:
        return self._rows > self.buffer_events or self._bytes > self.buffer_bytes

    def _make_room(self) -> None:
        while self._is_full() and self._trades:
            slot = self._trades.popleft()
            if slot.event is not None:
                self._note_drop(slot.event)
                self._empty(slot)
        now = trio.current_time()
        self._first_drop_at = min(self._first_drop_at, now)
        if self._is_full() or now - self._first_drop_at > PATIENCE_S:
            self._let_go()

    def _note_drop(self, event: Event) -> None:
        assert event.channel is not None
        self.dropped += len(event)
        told = self._drops.get(event.channel)
        if told is None:
            self._drops[event.channel] = replace(event, content=Dropped(len(event), event.last_seq), _encoded={})
            return
        assert isinstance(told.content, Dropped)
        content = Dropped(told.content.count + len(event), max(told.content.to_seq, event.last_seq))
        self._drops[event.channel] = replace(told, content=content, _encoded={})

    def _let_go(self) -> None:
        """What waits is not given out any more; the trades of it are dropped as those before them were."""
        for slot in self._trades:
            if slot.event is not None:
                self._note_drop(slot.event)
        self._slots.clear()
        self._trades.clear()
        self._newest.clear()
        self._rows = self._bytes = 0
        self.say_goodbye(TOO_SLOW, "you read too slowly: more waits than is kept for one client")

    def _has_some(self) -> bool:
        return self._rows > 0 or bool(self._drops) or self._goodbye is not None

    def _take(self) -> list[Event]:
        taken, self._drops = list(self._drops.values()), {}
        room = FRAME_EVENTS
        while self._slots and room > 0:
            slot = self._slots.popleft()
            if self._trades and self._trades[0] is slot:
                self._trades.popleft()
            if slot.event is not None:
                room -= len(slot.event)
                taken.append(slot.event)
                self._empty(slot)
        if self._goodbye is not None and not self._rows:
            taken.append(self._goodbye)
        self._first_drop_at = math.inf
        if self._room:
            self._room.unpark_all()
        return taken

    def _wake(self) -> None:
        if self.outlet is not None and self.round.is_open:
            self.round.add(self)
        elif self._arrived:
            self._arrived.unpark_all()
