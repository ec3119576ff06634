"""What a plugin streams, between the receive loop and the road: in order, and bounded by credit."""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import trio

from timebase.clock import now_us
from timebase.errors import Malformed, ProviderError, Unavailable
from timebase.model.feed import Feed
from timebase.model.live import Arrival
from timebase.wire.envelope import Message, Type, parse_error
from timebase.wire.ticks import parse_groups, parse_pulse

WORDS = 10_000
"""Feeds' ups, downs and ends that may wait while the road is jammed; pulses become one, data is bounded by credit."""

_DATA = frozenset({Type.TRADES, Type.QUOTES, Type.STREAM_BARS})
_TYPES = _DATA | {Type.FEED, Type.PULSE}


@dataclass(frozen=True, slots=True)
class Delivery:
    """What one message brought; `ends` are the subscriptions that ended with it, and why.

    `is_last`: no message brought it, the link has ended.
    """

    arrivals: tuple[Arrival, ...]
    ends: tuple[tuple[Feed, ProviderError], ...] = ()
    is_data: bool = False
    is_pulse: bool = False
    is_last: bool = False


class Inflow:
    """The feeds of one link. Putting never waits; who takes grants the credit that a data message has cost.

    `clock` says when something was received.
    """

    def __init__(self, credit: int, clock: Callable[[], int] = now_us) -> None:
        self._credit = credit
        self._clock = clock
        self._feeds: dict[int, Feed] = {}  # by the id of the subscription on the link
        self._waiting: deque[Delivery] = deque()
        self._words = 0
        self._fault: ProviderError | None = None
        self._arrived = trio.Event()

    # --- the link's ---

    def add(self, id_: int, feed: Feed) -> None:
        self._feeds[id_] = feed

    def drop(self, feed: Feed) -> int | None:
        """Forget a feed, and what waits of it. Returns its subscription's id, None when there is none any more."""
        self._waiting = deque(_without(feed, delivery) for delivery in self._waiting)
        id_ = self.id_of(feed)
        if id_ is not None:
            del self._feeds[id_]
        return id_

    def id_of(self, feed: Feed) -> int | None:
        return next((id_ for id_, other in self._feeds.items() if other.id == feed.id), None)

    def takes(self, message: Message) -> bool:
        """Whether it belongs here; an error does when it is that of a subscription."""
        return message.type in _TYPES or (message.type == Type.ERROR and message.id in self._feeds)

    def put(self, message: Message) -> None:
        """Raises: Malformed, also when it came without credit."""
        received_us = self._clock()
        if message.type in _DATA:
            self._put_data(message, received_us)
        elif message.type == Type.PULSE:
            self._put_pulse(message, received_us)
        elif message.type == Type.ERROR:
            feed, error = self._feeds.pop(message.id), parse_error(message)
            self._put_word(Delivery((_down(feed, error, received_us),), ((feed, error),)))
        else:
            feeds, is_up, reason = message.integers("feeds"), message.claim("is_up"), message.text("reason", "")
            said = (Arrival(feed, received_us, is_up=is_up, reason=reason) for feed in self._named(feeds))
            self._put_word(Delivery(tuple(said)))

    def end(self, fault: ProviderError) -> None:
        """Nothing more comes; every feed that is still there goes down when all before has been taken."""
        self._fault = self._fault or fault
        self._arrived.set()

    # --- the pump's ---

    async def next(self) -> Delivery | None:
        """What is to be delivered next; it stays here until `done`.

        After the end comes the end of every feed that is left, and then None.
        """
        await trio.lowlevel.checkpoint()
        while not self._waiting and self._fault is None:
            self._arrived = trio.Event()
            await self._arrived.wait()
        if not self._waiting and self._feeds and self._fault is not None:
            self._put_word(self._last())
        return self._waiting[0] if self._waiting else None

    def done(self) -> Delivery:
        """The delivery that was next has been made."""
        delivery = self._waiting.popleft()
        if delivery.is_data:
            self._credit += 1
        elif not delivery.is_pulse:
            self._words -= 1
        return delivery

    def _last(self) -> Delivery:
        fault = self._fault or Unavailable("the link was closed")
        feeds, self._feeds, at_us = tuple(self._feeds.values()), {}, self._clock()
        return Delivery(
            tuple(_down(feed, fault, at_us) for feed in feeds), tuple((feed, fault) for feed in feeds), is_last=True
        )

    def _put_data(self, message: Message, received_us: int) -> None:
        if self._credit <= 0:
            raise Malformed(f"{message.type} came without credit")
        arrivals = tuple(
            Arrival(self._feeds[group.feed], received_us, group.trades, group.quotes, group.bars)
            for group in parse_groups(message)
            if group.feed in self._feeds
        )
        self._credit -= 1
        self._put(Delivery(arrivals, is_data=True))

    def _put_pulse(self, message: Message, received_us: int) -> None:
        feeds, time_us = parse_pulse(message)
        pulses = tuple(Arrival(feed, received_us, pulse_us=time_us) for feed in self._named(feeds))
        if self._waiting and self._waiting[-1].is_pulse and len(self._waiting) > 1:
            last = self._waiting.pop()
            newest = {arrival.feed.id: arrival for arrival in (*last.arrivals, *pulses)}
            pulses = tuple(newest.values())
        self._put(Delivery(pulses, is_pulse=True))

    def _put_word(self, delivery: Delivery) -> None:
        self._words += 1
        if self._words > WORDS:
            raise Malformed(f"more than {WORDS} words about feeds wait")
        self._put(delivery)

    def _put(self, delivery: Delivery) -> None:
        self._waiting.append(delivery)
        self._arrived.set()

    def _named(self, feeds: Iterable[int]) -> list[Feed]:
        """Those that are known; none named: all."""
        named = list(feeds)
        return [self._feeds[id_] for id_ in named if id_ in self._feeds] if named else list(self._feeds.values())


def _down(feed: Feed, error: ProviderError, now_us: int) -> Arrival:
    return Arrival(feed, now_us, is_up=False, reason=f"{error.code}: {error}")


def told(delivery: Delivery, error: ProviderError) -> Delivery:
    """The same ends, for another reason."""
    arrivals = tuple(_down(arrival.feed, error, arrival.received_us) for arrival in delivery.arrivals)
    return replace(delivery, arrivals=arrivals, ends=tuple((feed, error) for feed, _ in delivery.ends))


def _without(feed: Feed, delivery: Delivery) -> Delivery:
    return replace(
        delivery,
        arrivals=tuple(arrival for arrival in delivery.arrivals if arrival.feed.id != feed.id),
        ends=tuple(end for end in delivery.ends if end[0].id != feed.id),
    )
