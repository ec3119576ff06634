"""What a plugin that breaks the protocol can do to the core: fail its own questions, or lose its link."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import msgpack
import numpy as np
import pynng
import pytest
import trio
import trio.lowlevel
import trio.testing

from timebase.errors import Malformed, ProviderError, Unavailable, Upstream
from timebase.link.address import RunDirectory, open_run_directory
from timebase.link.inflow import WORDS, Delivery
from timebase.link.provider_link import OUTBOX, ProviderLink, open_link
from timebase.model.bars import Bars
from timebase.model.demand import Demand
from timebase.model.feed import Feed, FeedKind
from timebase.model.instrument import AssetClass, Instrument
from timebase.model.interval import Interval
from timebase.model.series import Series
from timebase.model.timerange import DAY_US, TimeRange
from timebase.wire.codec import MAX_MESSAGE_BYTES
from timebase.wire.streams import STREAM_CREDIT

DEMAND = Demand(
    1,
    Series(1, 1, "AAPL", "rude", Interval.D1),
    Instrument(1, "AAPL", AssetClass.STOCK),
    TimeRange(19_000 * DAY_US, 19_010 * DAY_US),
)


class Peer:
    """The plugin's end, with no manners and no SDK."""

    def __init__(self, socket: pynng.Pair0) -> None:
        self.socket = socket

    async def say(self, type_: str, id_: object = 0, **fields: object) -> None:
        await self.socket.asend(msgpack.packb({"v": 1, "id": id_, "type": type_, **fields}))

    async def hear(self, type_: str) -> dict[str, Any]:
        while True:
            message = msgpack.unpackb(await self.socket.arecv())
            if message["type"] == type_:
                return message


class Core:
    """The core's end: its link, what it logged and what its run loop ended with."""

    def __init__(self, link: ProviderLink) -> None:
        self.link = link
        self.logged: list[str] = []
        self.ended = trio.Event()
        self.fault: ProviderError | None = None
        self.spending = 0

    async def spend(self, n: int) -> None:
        self.spending += 1
        try:
            await trio.sleep_forever()
        finally:
            self.spending -= 1

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        try:
            await self.link.run(self.spend, lambda _, text: self.logged.append(text), task_status=task_status)
        except ProviderError as fault:
            self.fault = fault
        self.ended.set()

    async def ask(self) -> list[object]:
        async with self.link.history(DEMAND) as answer:
            return [part async for part in answer]


@pytest.fixture
def run_directory():
    with open_run_directory() as directory:
        yield directory


@pytest.fixture
def meet(run_directory: RunDirectory) -> Callable[[], AbstractAsyncContextManager[tuple[Core, Peer]]]:
    @asynccontextmanager
    async def met() -> AsyncIterator[tuple[Core, Peer]]:
        address = run_directory.new_address()
        with trio.fail_after(20):
            async with open_link(address) as link, trio.open_nursery() as nursery:
                core = Core(link)
                await nursery.start(core.run)
                with pynng.Pair0() as socket:
                    socket.dial(address, block=False)
                    yield core, Peer(socket)
                nursery.cancel_scope.cancel()

    return met


def columns(n: int = 2, **changed: object) -> dict[str, object]:
    time = np.arange(19_000, 19_000 + n) * DAY_US
    price = np.full(n, 10.0).tobytes()
    return {
        "n": n,
        "time": time.tobytes(),
        **dict.fromkeys(("open", "high", "low", "close", "volume"), price),
    } | changed


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"\xc1",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x93\x01\x02\x03",
        b"\x81" * 5_000,
        b"\xdd\xff\xff\xff\xff",
        b"\xc9\x00\x00\x00\x01\x05x",
        msgpack.packb({"v": 2, "id": 1, "type": "end"}),
        msgpack.packb({"v": 1, "id": "one", "type": "end"}),
        msgpack.packb({"v": 1, "id": 1, "type": 7}),
        msgpack.packb({"v": 1, "id": 1, "type": "spend", "n": -3}),
        msgpack.packb({"v": 1, "id": 1, "type": "log", "message": 3}),
    ],
)
async def test_garbage_ends_the_link_with_a_reason_and_fails_what_waits(meet, garbage: bytes) -> None:
    async with meet() as (core, peer), trio.open_nursery() as nursery:

        async def ask() -> None:
            with pytest.raises(Unavailable, match="does not speak the protocol"):
                await core.ask()

        nursery.start_soon(ask)
        await peer.hear("history")
        await peer.socket.asend(garbage)
        await core.ended.wait()
        assert isinstance(core.fault, Malformed)


@pytest.mark.parametrize(
    "bars",
    [
        columns(n=2, close=b"\0" * 15),
        columns(n=2, volume=b"\0" * 24),
        columns(n=2) | {"n": 3},
        columns(n=2) | {"n": -2},
        columns(n=2) | {"n": 2**62},
        columns(n=2, time="2024-01-01"),
        columns(n=2, open=[1.0, 2.0]),
        columns(n=2, time=np.array([2**62, 2**63 - 1]).tobytes()),
        {"n": 2},
        {},
    ],
)
async def test_bars_that_do_not_fit_fail_their_question_alone(meet, bars: dict[str, object]) -> None:
    async with meet() as (core, peer), trio.open_nursery() as nursery:

        async def ask() -> None:
            with pytest.raises(Malformed):
                await core.ask()

        nursery.start_soon(ask)
        question = await peer.hear("history")
        await peer.say("bars", question["id"], **bars)
        assert (await peer.hear("cancel"))["id"] == question["id"]
        nursery.start_soon(core.link.ping)
        await peer.say("pong", (await peer.hear("ping"))["id"])


@pytest.mark.parametrize(
    "row",
    [
        {"ex_date": 0, "kind": "split", "value": float("nan")},
        {"ex_date": "today", "kind": "split", "value": 2.0},
        {"ex_date": 0, "kind": "party", "value": 2.0},
        {"ex_date": 0, "kind": "dividend", "value": 2.0, "currency": 7},
        3,
    ],
)
async def test_a_corporate_action_that_does_not_fit_fails_its_question(meet, row: object) -> None:
    async with meet() as (core, peer), trio.open_nursery() as nursery:

        async def ask() -> None:
            with pytest.raises(Malformed):
                await core.ask()

        nursery.start_soon(ask)
        await peer.say("actions", (await peer.hear("history"))["id"], rows=[row])


async def test_more_than_the_credit_fails_the_question_and_keeps_memory_bounded(meet) -> None:
    async with meet() as (core, peer):
        async with core.link.history(DEMAND) as answer:
            question = await peer.hear("history")
            for _ in range(50):
                await peer.say("bars", question["id"], **columns())
            await answer.ended.wait()
            with pytest.raises(Malformed, match="credit"):
                async for _ in answer:
                    pass
        assert (await peer.hear("cancel"))["id"] == question["id"]


async def test_an_answer_of_the_wrong_kind_is_malformed(meet) -> None:
    async with meet() as (core, peer), trio.open_nursery() as nursery:

        async def ping() -> None:
            with pytest.raises(Malformed, match="pong wanted, not bars"):
                await core.link.ping()

        async def ask() -> None:
            with pytest.raises(Malformed, match="end wanted, not pong"):
                await core.ask()

        nursery.start_soon(ping)
        await peer.say("bars", (await peer.hear("ping"))["id"], **columns())
        nursery.start_soon(ask)
        await peer.say("pong", (await peer.hear("history"))["id"])


async def test_late_and_unknown_answers_are_dropped(meet) -> None:
    async with meet() as (core, peer), trio.open_nursery() as nursery:
        async with core.link.history(DEMAND):
            question = await peer.hear("history")
        await peer.say("bars", question["id"], **columns())
        await peer.say("end", question["id"])
        await peer.say("error", 4_711, code="upstream", message="nobody asked")
        await peer.say("bars", -1)
        nursery.start_soon(core.ask)
        second = await peer.hear("history")
        await peer.say("end", second["id"])
        await peer.say("end", second["id"])


async def test_a_message_beyond_the_limit_ends_the_link(meet) -> None:
    async with meet() as (core, peer):
        await peer.say("log", level="info", message="x" * (MAX_MESSAGE_BYTES + 1))
        await core.ended.wait()
        assert isinstance(core.fault, Unavailable)
        with pytest.raises(Unavailable, match=str(MAX_MESSAGE_BYTES)):
            await core.ask()


async def test_a_peer_that_never_reads_is_found_out(meet) -> None:
    async with meet() as (core, peer), trio.open_nursery() as nursery:
        await peer.say("hello", sdk="deaf")
        stuck = 0

        async def ping() -> None:
            nonlocal stuck
            try:
                await core.link.ping()
            except Unavailable:
                stuck += 1

        for _ in range(20 * OUTBOX):
            nursery.start_soon(ping)
        while not stuck:
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()


async def test_an_unknown_type_is_said_once(meet) -> None:
    async with meet() as (core, peer), trio.open_nursery() as nursery:
        for _ in range(3):
            await peer.say("telepathy", 1, about="tomorrow")
        nursery.start_soon(core.link.ping)
        await peer.say("pong", (await peer.hear("ping"))["id"])
    assert core.logged == ["messages of the unknown type 'telepathy' are ignored"]


async def test_a_withdrawn_wish_to_spend_is_forgotten(meet) -> None:
    async with meet() as (core, peer), trio.open_nursery() as nursery:
        await peer.say("spend", 5, n=2)
        await peer.say("cancel", 5)
        await peer.say("spend", 6, n=2)
        await peer.say("cancel", 7)
        nursery.start_soon(core.link.ping)
        await peer.say("pong", (await peer.hear("ping"))["id"])
        while core.spending != 1:
            await trio.lowlevel.checkpoint()


async def test_a_flood_of_wishes_to_spend_ends_the_link(meet) -> None:
    async with meet() as (core, peer), trio.open_nursery() as nursery:

        async def flood() -> None:
            for id_ in range(500):
                await peer.say("spend", id_)

        nursery.start_soon(flood)
        await core.ended.wait()
        nursery.cancel_scope.cancel()
        assert isinstance(core.fault, Malformed)
        assert core.spending == 0


async def test_a_second_peer_cannot_cut_in(meet) -> None:
    async with meet() as (core, peer), trio.open_nursery() as nursery:
        await peer.say("hello", sdk="first")
        address = peer.socket.dialers[0].url
        nursery.start_soon(core.link.ping)
        first = await peer.hear("ping")
        with pynng.Pair0() as intruder:
            intruder.dial(address, block=False)
            nursery.start_soon(core.link.ping)
            second = await peer.hear("ping")
            await peer.say("pong", first["id"])
            await peer.say("pong", second["id"])
        assert not core.ended.is_set()


async def test_descending_rows_are_left_to_the_validator(meet) -> None:
    async with meet() as (core, peer), trio.open_nursery() as nursery:
        parts: list[object] = []

        async def ask() -> None:
            parts.extend(await core.ask())

        nursery.start_soon(ask)
        question = await peer.hear("history")
        await peer.say("bars", question["id"], **columns(time=np.array([2, 1]).tobytes()))
        await peer.say("end", question["id"], warnings=["odd"])
    assert isinstance(parts[0], Bars)
    assert list(parts[0].time) == [2, 1]


async def test_an_unknown_error_code_is_an_upstream_fault(meet) -> None:
    async with meet() as (core, peer), trio.open_nursery() as nursery:

        async def ask() -> None:
            with pytest.raises(Upstream, match="it rains"):
                await core.ask()

        nursery.start_soon(ask)
        await peer.say(
            "error", (await peer.hear("history"))["id"], code="weather", message="it rains", retry_after="soon"
        )


async def test_symbols_that_do_not_fit_are_malformed(meet) -> None:
    async with meet() as (core, peer), trio.open_nursery() as nursery:

        async def ask() -> None:
            with pytest.raises(Malformed, match="asset_class"):
                await core.link.symbols("A", 5)

        nursery.start_soon(ask)
        await peer.say("symbols", (await peer.hear("symbols"))["id"], rows=[{"symbol": "A", "asset_class": "tulip"}])


async def test_a_bug_of_the_core_in_spend_is_not_hidden(run_directory: RunDirectory) -> None:
    async def spend(n: int) -> None:
        raise KeyError("a bug")

    address = run_directory.new_address()
    with trio.fail_after(20):
        async with open_link(address) as link:
            with pynng.Pair0() as socket:
                socket.dial(address, block=False)
                await Peer(socket).say("spend", 1, n=1)
                with pytest.RaisesGroup(KeyError):
                    await link.run(spend, lambda *_: None)
            with pytest.raises(Unavailable):
                await link.ping()


# Streams

FEED = Feed(1, FeedKind.TRADES, Instrument(1, "AAPL", AssetClass.STOCK), "rude")


def trades(feed: object, n: int = 2, **changed: object) -> dict[str, object]:
    ints, floats = np.arange(n, dtype=np.int64).tobytes(), np.ones(n).tobytes()
    zeros = bytes(8 * n)
    whole = {"time": ints, "price": floats, "size": floats, "side": zeros, "trade_id": ints}
    return {"feeds": [feed], "counts": [n], **whole} | changed


async def subscribed(core: Core, peer: Peer) -> Any:
    """The number of the subscription on the link."""
    await peer.say("hello")
    core.link.subscribe(FEED)
    return (await peer.hear("subscribe"))["id"]


async def taken(core: Core) -> Delivery:
    delivery = await core.link.next_delivery()
    assert delivery is not None
    core.link.delivered()
    return delivery


@pytest.mark.parametrize(
    ("type_", "fields"),
    [
        ("trades", {"counts": [3]}),
        ("trades", {"feeds": ["x"]}),
        ("trades", {"price": b"\0" * 15}),
        ("trades", {"side": np.array([7, 7]).tobytes()}),
        ("stream_bars", {"time": np.array([2**62, 2**62]).tobytes()}),
        ("quotes", {}),
        ("stream_bars", {}),
        ("feed", {"feeds": []}),
        ("feed", {"feeds": [None], "is_up": True}),
        ("pulse", {"feeds": [], "time": 2**62}),
        ("pulse", {}),
    ],
)
async def test_a_stream_that_makes_no_sense_ends_the_link_and_its_feeds(
    meet, type_: str, fields: dict[str, object]
) -> None:
    async with meet() as (core, peer):
        id_ = await subscribed(core, peer)
        await peer.say(type_, **(trades(id_) | fields if type_ in {"trades", "quotes", "stream_bars"} else fields))
        end = await taken(core)
        ((feed, error),) = end.ends
        assert feed == FEED
        assert "does not speak the protocol" in str(error)
        assert [(a.is_up, a.feed) for a in end.arrivals] == [(False, FEED)]
        assert await core.link.next_delivery() is None
        with pytest.raises(Unavailable):
            core.link.subscribe(FEED)


async def test_a_plugin_that_sends_without_credit_loses_its_link_but_not_what_it_was_welcome_to_send(meet) -> None:
    async with meet() as (core, peer):
        id_ = await subscribed(core, peer)
        for _ in range(STREAM_CREDIT + 1):
            await peer.say("trades", **trades(id_))
        await core.ended.wait()
        assert "without credit" in str(core.fault)
        arrived = [await taken(core) for _ in range(STREAM_CREDIT + 1)]
        assert [len(delivery.ends) for delivery in arrived] == [0] * STREAM_CREDIT + [1]


async def test_credit_is_granted_for_what_was_taken(meet) -> None:
    async with meet() as (core, peer):
        id_ = await subscribed(core, peer)
        for _ in range(3 * STREAM_CREDIT):
            await peer.say("trades", **trades(id_))
            await taken(core)
            credit = await peer.hear("credit")
            assert (credit["id"], credit["n"]) == (0, 1)


async def test_feeds_that_nobody_knows_are_ignored(meet) -> None:
    async with meet() as (core, peer):
        id_ = await subscribed(core, peer)
        await peer.say("trades", **trades(id_ + 7))
        await peer.say("feed", feeds=[id_ + 7], is_up=True)
        await peer.say("pulse", feeds=[id_ + 7], time=1)
        await peer.say("error", id_ + 7, code="auth", message="whose?")
        both = trades(id_, 3) | {"feeds": [id_ + 7, id_], "counts": [1, 2]}
        await peer.say("trades", **both)
        arrivals = [arrival for _ in range(4) for arrival in (await taken(core)).arrivals]
        (only,) = arrivals
        assert only.trades is not None
        assert only.trades.time.tolist() == [1, 2]


async def test_what_is_on_its_way_when_a_feed_is_given_up_is_nobodys(meet) -> None:
    async with meet() as (core, peer):
        first = await subscribed(core, peer)
        await peer.say("trades", **trades(first))
        assert (await core.link.next_delivery()) is not None
        core.link.unsubscribe(FEED)
        assert (await peer.hear("unsubscribe"))["id"] == first
        core.link.subscribe(FEED)
        second = (await peer.hear("subscribe"))["id"]
        assert second != first
        await peer.say("error", first, code="upstream", message="too late")
        await peer.say("feed", feeds=[first], is_up=False)
        await peer.say("trades", **trades(second, 1))
        told = [await taken(core) for _ in range(3)]
        assert [len(delivery.arrivals) for delivery in told] == [0, 0, 1]


async def test_pulses_that_wait_become_one_and_flapping_ends_somewhere(meet) -> None:
    async with meet() as (core, peer):
        id_ = await subscribed(core, peer)
        await peer.say("feed", feeds=[], is_up=True)
        for at in range(1_000):
            await peer.say("pulse", feeds=[], time=at)
        await peer.say("trades", **trades(id_))
        told: list[Delivery] = []
        while not told or not told[-1].is_data:
            delivery = await core.link.next_delivery()
            assert delivery is not None
            if len(told) == 1:
                await trio.testing.wait_all_tasks_blocked(0.05)
            core.link.delivered()
            told.append(delivery)
        pulses = [delivery.arrivals[0].pulse_us for delivery in told if delivery.is_pulse]
        assert pulses[-1] == 999
        assert len(pulses) < 1_000
        for _ in range(WORDS + 1):
            await peer.say("feed", feeds=[id_], is_up=True)
        await core.ended.wait()
        assert "words about feeds" in str(core.fault)
