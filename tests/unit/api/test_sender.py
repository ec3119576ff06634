"""What reaches a client's socket in the hub's own turn, and what its task sends."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
import trio
import trio.testing
from unit.streaming.happenings import BARS, NOW_US, TRADES, bar, shown, trades

from timebase.api.sender import Sender
from timebase.api.websocket import Gone, WebSocket
from timebase.model.live import BarStatus
from timebase.streaming.event import Event, Goodbye
from timebase.streaming.follower import TOO_SLOW
from timebase.streaming.hub import Hub
from timebase.streaming.lags import Lag


class FakeSocket:
    """Takes frames whole until `room` is used up, then one in part."""

    def __init__(self, room: int = 1_000) -> None:
        self.room = room
        self.is_free = True
        self.frames: list[bytes] = []
        self.by: list[str] = []

    def send_now(self, frame: bytes) -> bool:
        self._note(frame, "hub")
        self.room -= 1
        self.is_free = self.room > 0
        return self.is_free

    async def send(self, frame: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self._note(frame, "task")

    async def finish(self) -> None:
        await trio.sleep(0.01)
        self.room, self.is_free = 1_000, True
        self.by.append("finished")

    def _note(self, frame: bytes, who: str) -> None:
        self.frames.append(frame)
        self.by.append(who)


def ids(events: list[Event]) -> bytes:
    return b" ".join(str(e.get("id", e["type"])).encode() for e in shown(events))


@asynccontextmanager
async def sending(
    socket: FakeSocket, frame_of: Callable[[list[Event]], bytes] = ids, ends: list[Goodbye] | None = None
) -> AsyncIterator[tuple[Hub, Lag]]:
    hub = Hub(lambda: NOW_US)
    hub.bind(TRADES, "binance")
    hub.bind(BARS, "binance")
    with hub.follow(TRADES, BARS) as follower:
        async with trio.open_nursery() as nursery:
            lag = Lag()
            sender = Sender(follower, cast(WebSocket, socket), frame_of, lag, nursery)

            async def run() -> None:
                goodbye = await sender.run()
                (ends if ends is not None else []).append(goodbye)

            nursery.start_soon(run)
            await trio.testing.wait_all_tasks_blocked()
            yield hub, lag
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()


async def test_what_a_batch_brings_is_at_the_socket_when_it_has_been_shown() -> None:
    socket = FakeSocket()
    async with sending(socket) as (hub, lag):
        hub.publish(trades(1, 3))
        hub.publish(trades(4, 1))
        assert socket.frames == [b"1 2 3", b"4"]
    assert socket.by == ["hub", "hub"]
    assert lag.cumulative()[-1] == 2


async def test_a_frame_that_went_out_in_part_is_finished_and_what_comes_meanwhile_is_sent_by_the_task() -> None:
    socket = FakeSocket(room=1)
    async with sending(socket) as (hub, _):
        hub.publish(trades(1, 1))
        hub.publish(trades(2, 1))
        assert socket.frames == [b"1"]
        await trio.sleep(0.05)
        assert socket.frames == [b"1", b"2"]
        hub.publish(trades(3, 1))
        assert socket.frames == [b"1", b"2", b"3"]
    assert sorted(socket.by) == ["finished", "hub", "hub", "task"]


async def test_what_the_task_has_taken_and_not_sent_yet_is_not_overtaken() -> None:
    socket = FakeSocket()
    async with sending(socket) as (hub, _):
        socket.is_free = False
        hub.publish(trades(1, 1))
        socket.is_free = True
        hub.publish(trades(2, 1))
        assert socket.frames == []
        await trio.testing.wait_all_tasks_blocked()
        assert socket.frames == [b"1 2"]


async def test_what_this_client_is_shown_nothing_of_sends_nothing() -> None:
    socket = FakeSocket()
    async with sending(socket, lambda _: b"") as (hub, lag):
        hub.publish(trades(1, 1))
    assert socket.frames == []
    assert lag.cumulative()[-1] == 0


async def test_a_throttled_channel_is_shown_at_its_date(autojump_clock: trio.testing.MockClock) -> None:
    socket = FakeSocket()
    hub = Hub(lambda: NOW_US)
    hub.bind(BARS, "binance")
    with hub.follow() as follower:
        hub.join(follower, BARS, throttle_s=1.0)
        async with trio.open_nursery() as nursery:
            sender = Sender(follower, cast(WebSocket, socket), ids, Lag(), nursery)
            nursery.start_soon(sender.run)
            await trio.testing.wait_all_tasks_blocked()
            for price in (1.0, 2.0, 3.0):
                hub.publish(bar(0, price, BarStatus.FORMING))
            assert socket.by == ["hub"]
            await trio.sleep(1.5)
            assert socket.by == ["hub", "task"]
            nursery.cancel_scope.cancel()


async def test_goodbye_is_the_tasks_to_say() -> None:
    socket, ends = FakeSocket(), list[Goodbye]()
    async with sending(socket, ends=ends) as (hub, _):
        hub.publish(trades(1, 1))
        hub.close(TOO_SLOW, "enough")
        hub.publish(trades(2, 1))
    assert socket.frames == [b"1", b"goodbye"]
    assert ends == [Goodbye(TOO_SLOW, "enough")]


@pytest.mark.parametrize("error", [Gone(), ValueError("no such encoding")])
async def test_a_client_that_cannot_be_sent_to_is_not_felt_in_the_hub(error: Exception) -> None:
    """Its own task meets a bug, and only its own conversation ends; that a client has gone its reader hears."""
    well = FakeSocket()

    def fails(events: list[Event]) -> Any:
        raise error

    async with sending(well) as (hub, _):
        with hub.follow(TRADES) as ill:
            caught: BaseException | None = None
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(Sender(ill, cast(WebSocket, FakeSocket()), fails, Lag(), nursery).run)
                    await trio.testing.wait_all_tasks_blocked()
                    hub.publish(trades(1, 1))
                    await trio.testing.wait_all_tasks_blocked()
                    nursery.cancel_scope.cancel()
            except* ValueError as group:
                caught = group.exceptions[0]
    assert caught is (error if isinstance(error, ValueError) else None)
    assert well.frames == [b"1"]
