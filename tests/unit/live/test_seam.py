"""History and then live on one subscription: whatever happens between, no hole and no duplicate."""

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock
from unit.live.tape import FakeClocks, FakePast, FakeTape
from unit.streaming.happenings import BARS, NOW_US, TRADES, bar, shown, tape, trades

from timebase.errors import NotSupported, StoreUnavailable
from timebase.live.seam import Seam
from timebase.model.feed import Channel, FeedKind
from timebase.model.instrument import AssetClass
from timebase.model.interval import Interval
from timebase.model.live import BarStatus
from timebase.model.timerange import DAY_US, HOUR_US, MINUTE_US, SECOND_US, TimeRange
from timebase.streaming.follower import Follower
from timebase.streaming.hub import Hub

LATER_US = NOW_US + HOUR_US


class House:
    """What is live becomes durable first, and is shown after that."""

    def __init__(self) -> None:
        self.hub, self.past, self.tape = Hub(lambda: NOW_US), FakePast(), FakeTape()
        self.clocks = FakeClocks()
        self.seam = Seam(self.hub, self.past, self.tape, self.clocks, lambda: LATER_US)
        self.hub.bind(BARS, "binance")
        self.hub.bind(TRADES, "binance")
        self.commit_id = 0
        self.next_trade = 1
        self._unshown: list[Callable[[], None]] = []

    def store_trades(self, count: int) -> None:
        self.commit_id += 1
        batch = trades(self.next_trade, count, commit_id=self.commit_id)
        self.tape.commit(self.commit_id, tape(self.next_trade, count))
        self.next_trade += count
        self._unshown.append(lambda: self.hub.publish(batch))

    def store_bar(self, minute: int, close: float, status: BarStatus = BarStatus.CLOSED) -> None:
        self.commit_id += 1
        batch = bar(minute, close, status, commit_id=self.commit_id)
        if status is not BarStatus.MISSING:
            self.past.put([NOW_US + minute * MINUTE_US], [close])
        self._unshown.append(lambda: self.hub.publish(batch))

    def show(self) -> None:
        for publish in self._unshown:
            publish()
        self._unshown.clear()

    async def join(self, follower: Follower, channel: Channel, from_us: int = NOW_US) -> None:
        joined = self.hub.join(follower, channel, is_held=True)
        await self.seam.bridge(follower, channel, joined.seq, from_us)


async def read(follower: Follower) -> list[dict[str, Any]]:
    seen: list[dict[str, Any]] = []
    while follower.depth:
        seen += shown(await follower.next())
    return seen


async def test_bars_of_the_past_come_first_and_the_last_has_the_number_of_the_newest() -> None:
    house = House()
    with house.hub.follow(BARS), house.hub.follow() as follower:
        for minute in range(3):
            house.store_bar(minute, float(minute))
        house.show()
        await house.join(follower, BARS)
        house.store_bar(3, 3.0)
        house.show()
        events = await read(follower)
    told = [(e["type"], e.get("seq", 0) - NOW_US, e.get("close")) for e in events]
    assert told == [("bar", 1, 0.0), ("bar", 2, 1.0), ("bar", 3, 2.0), ("history_end", 3, None), ("bar", 4, 3.0)]


async def test_the_past_is_asked_of_the_provider_that_is_live() -> None:
    house = House()
    with house.hub.follow() as follower:
        await house.join(follower, BARS)
    assert [q.provider for q in house.past.asked] == ["binance"]


async def test_the_past_ends_with_the_last_day_that_is_over_where_it_is_traded() -> None:
    house = House()
    house.tape.kind, house.tape.timezone = AssetClass.STOCK, "America/New_York"
    days = Channel(FeedKind.BARS, "AAPL", Interval.D1, "binance")
    today = NOW_US // DAY_US * DAY_US
    seam = Seam(house.hub, house.past, house.tape, house.clocks, lambda: today + HOUR_US)
    with house.hub.follow() as follower:
        joined = house.hub.join(follower, days, is_held=True)
        await seam.bridge(follower, days, joined.seq, today - 5 * DAY_US)
    assert house.past.asked[-1].range.end_us == today - DAY_US


async def test_without_a_feed_anybodys_past_will_do(autojump_clock: MockClock) -> None:
    house = House()
    house.hub.bind(BARS, None)
    with house.hub.follow() as follower:
        await house.join(follower, BARS)
    assert [q.provider for q in house.past.asked] == [None]


async def test_a_past_that_cannot_be_had_is_told_and_live_goes_on() -> None:
    house = House()
    house.past.error = NotSupported("nobody has bars of it")
    house.tape.error = StoreUnavailable("the database is away")
    with house.hub.follow() as follower:
        for channel in (BARS, TRADES):
            await house.join(follower, channel)
        house.store_bar(1, 1.0)
        house.store_trades(1)
        house.show()
        events = await read(follower)
    assert [(e["type"], e.get("code")) for e in events] == [
        ("error", "not_supported"), ("history_end", None), ("error", "store_unavailable"), ("history_end", None),
        ("bar", None), ("trade", None),
    ]  # fmt: skip


@pytest.mark.parametrize("ago_us", [10 * SECOND_US, 70 * SECOND_US])
async def test_less_than_a_whole_period_that_nobody_has_is_no_error(ago_us: int) -> None:
    """A moment before or after the minute has turned: live begins with what there is."""
    house = House()
    house.past.error = NotSupported("nobody has bars of it")
    now_us = LATER_US // MINUTE_US * MINUTE_US + 30 * SECOND_US
    seam = Seam(house.hub, house.past, house.tape, house.clocks, lambda: now_us)
    with house.hub.follow() as follower:
        joined = house.hub.join(follower, BARS, is_held=True)
        await seam.bridge(follower, BARS, joined.seq, now_us - ago_us)
        house.store_bar(1, 1.0)
        house.show()
        events = await read(follower)
    assert [e["type"] for e in events] == ["history_end", "bar"]


async def test_a_whole_period_that_nobody_has_is_told() -> None:
    house = House()
    house.past.error = NotSupported("nobody has bars of it")
    now_us = LATER_US // MINUTE_US * MINUTE_US + 30 * SECOND_US
    seam = Seam(house.hub, house.past, house.tape, house.clocks, lambda: now_us)
    with house.hub.follow() as follower:
        joined = house.hub.join(follower, BARS, is_held=True)
        await seam.bridge(follower, BARS, joined.seq, now_us - 90 * SECOND_US)
        events = await read(follower)
    assert [e["type"] for e in events] == ["error", "history_end"]


async def test_the_past_of_a_tape_ends_where_it_has_been_played_to() -> None:
    house = House()
    house.clocks.now_us = NOW_US + 3 * MINUTE_US + SECOND_US
    with house.hub.follow() as follower:
        await house.join(follower, BARS, NOW_US)
        await house.join(follower, BARS, NOW_US + 3 * MINUTE_US)
        await house.join(follower, BARS, LATER_US - 10 * SECOND_US)
    assert [q.range for q in house.past.asked] == [
        TimeRange(NOW_US // MINUTE_US * MINUTE_US, house.clocks.now_us // MINUTE_US * MINUTE_US)
    ]


async def test_a_bar_that_is_closed_live_after_it_was_fetched_is_told_once() -> None:
    house = House()
    house.past.put([NOW_US], [5.0])
    with house.hub.follow() as follower:
        await house.join(follower, BARS)
        house.store_bar(0, 5.0)
        house.store_bar(1, 6.0)
        house.store_bar(0, 7.0, BarStatus.REVISED)
        house.store_bar(0, 5.0, BarStatus.REVISED)
        house.show()
        events = [e for e in await read(follower) if e["type"] == "bar"]
    assert [(e["status"], e["close"]) for e in events] == [
        ("closed", 5.0), ("closed", 6.0), ("revised", 7.0), ("revised", 5.0)
    ]  # fmt: skip


async def test_a_bar_that_differs_from_the_one_fetched_is_told() -> None:
    house = House()
    house.past.put([NOW_US], [5.0])
    with house.hub.follow() as follower:
        await house.join(follower, BARS)
        house.hub.publish(bar(0, 5.5))
        events = [e for e in await read(follower) if e["type"] == "bar"]
    assert [e["close"] for e in events] == [5.0, 5.5]


async def test_a_forming_bar_waits_until_the_past_is_told() -> None:
    house = House()
    house.past.put([NOW_US], [5.0])
    with house.hub.follow(BARS), house.hub.follow() as follower:
        house.hub.publish(bar(60, 1.0, BarStatus.FORMING))
        joined = house.hub.join(follower, BARS, is_held=True)
        for event in joined.standing:
            follower.push(event)
        await house.seam.bridge(follower, BARS, joined.seq, NOW_US)
        events = await read(follower)
    assert [e.get("status", e["type"]) for e in events] == ["closed", "history_end", "forming"]


async def test_trades_that_are_stored_but_not_shown_yet_are_told_once(autojump_clock: MockClock) -> None:
    house = House()
    with house.hub.follow() as follower:
        house.store_trades(3)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(house.join, follower, TRADES)
            await trio.sleep(1)
            house.show()
        house.store_trades(2)
        house.show()
        events = [e for e in await read(follower) if e["type"] == "trade"]
    assert [e["id"] for e in events] == [1, 2, 3, 4, 5]
    assert [e["seq"] - NOW_US for e in events] == [1, 2, 3, 4, 5]


async def test_who_leaves_while_the_past_is_read_is_told_nothing_more() -> None:
    house = House()
    with house.hub.follow() as follower:
        joined = house.hub.join(follower, TRADES, is_held=True)
        house.hub.leave(follower, TRADES)
        await house.seam.bridge(follower, TRADES, joined.seq, NOW_US)
        house.store_trades(1)
        house.show()
        assert [e["type"] for e in await read(follower)] == ["history_end"]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("trades"), st.integers(1, 5)),
        st.tuples(st.just("close"), st.integers(0, 3)),
        st.tuples(st.just("revise"), st.integers(0, 3)),
        st.tuples(st.just("missing"), st.just(0)),
        st.tuples(st.just("show"), st.just(0)),
        st.tuples(st.just("join"), st.just(0)),
        st.tuples(st.just("wait"), st.integers(1, 4)),
    ),
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_whatever_happens_at_the_seam_there_is_no_hole_and_no_duplicate(steps: list[tuple[str, int]]) -> None:
    trio.run(_interleave, steps, clock=MockClock(autojump_threshold=0))


class _Story:
    """Drives a house step by step, and knows what should be seen in the end."""

    def __init__(self, follower: Follower, house: House, nursery: trio.Nursery) -> None:
        self.closes: dict[int, float] = {}
        self._follower, self._house, self._nursery = follower, house, nursery
        self._minute = 0
        self._is_joined = False

    async def step(self, what: str, n: int) -> None:
        match what:
            case "trades":
                self._house.store_trades(n)
            case "close":
                self._close(float(n))
            case "revise" if self.closes:
                self._revise(list(self.closes)[-1 - n % len(self.closes)], 1.0 if n % 2 else -1.0)
            case "missing":
                self._house.store_bar(self._minute, float("nan"), BarStatus.MISSING)
                self._minute += 1
            case "show":
                self._house.show()
            case "join":
                self._join()
            case "wait":
                for _ in range(n):
                    await trio.lowlevel.checkpoint()

    def _close(self, close: float) -> None:
        self.closes[self._minute] = close
        self._house.store_bar(self._minute, close)
        self._minute += 1

    def _revise(self, minute: int, by: float) -> None:
        self.closes[minute] += by
        self._house.store_bar(minute, self.closes[minute], BarStatus.REVISED)

    def _join(self) -> None:
        if not self._is_joined:
            self._is_joined = True
            for channel in (BARS, TRADES):
                self._nursery.start_soon(self._house.join, self._follower, channel)


async def _interleave(steps: list[tuple[str, int]]) -> None:
    """`wait` lets the readers of the past go on a little, so that everything may fall between any two of its steps."""
    house = House()
    with house.hub.follow(BARS, TRADES), house.hub.follow() as follower:
        async with trio.open_nursery() as nursery:
            story = _Story(follower, house, nursery)
            for what, n in [*steps, ("join", 0), ("show", 0), ("wait", 4)]:
                await story.step(what, n)
        events = await read(follower)
    told = [e for e in events if e["type"] == "trade"]
    assert [e["id"] for e in told] == list(range(1, house.next_trade))
    assert all(after["seq"] - before["seq"] == 1 for before, after in pairwise(told))
    bars = [e for e in events if e["type"] == "bar"]
    seen = {int(e["time"] * 1000 - NOW_US) // MINUTE_US: e["close"] for e in bars if e["close"] is not None}
    assert seen == story.closes
    assert all(count == 1 for count in Counter(e["time"] for e in bars if e["status"] == "closed").values())
    assert all(before["seq"] < after["seq"] for before, after in pairwise(bars))
