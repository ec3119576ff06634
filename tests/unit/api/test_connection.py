"""What goes into the socket, and for how long it may stand still."""

from collections.abc import Awaitable, Callable
from math import inf

import pytest
import trio
from trio.testing import MockClock

from timebase.api.connection import CHUNK, TOGETHER, Connection

HEAD = b"HTTP/1.1 200 \r\ncontent-length: 1\r\n\r\n"


class FakeSocket:
    def __init__(self) -> None:
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True


class FakeStream:
    """Remembers what it is sent; `then` is awaited after each piece. Says something after a while."""

    def __init__(
        self, then: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint, said_after_s: float = 0.0
    ) -> None:
        self.said_after_s = said_after_s
        self.sent: list[bytes] = []
        self.socket = FakeSocket()
        self.then = then

    async def send_all(self, data: memoryview) -> None:
        self.sent.append(bytes(data))
        await self.then()

    async def receive_some(self, max_bytes: int) -> bytes:
        await trio.sleep(self.said_after_s)
        return b"x"


def connection_over(stream: FakeStream, stalled_s: float = 60.0) -> Connection:
    return Connection(stream, idle_s=75.0, stalled_s=stalled_s)  # type: ignore[arg-type]


async def test_a_head_leaves_with_the_body_that_follows() -> None:
    stream = FakeStream()
    connection = connection_over(stream)
    await connection.send_all(HEAD)
    assert stream.sent == []
    await connection.send_all(b"x")
    await connection.send_all(HEAD)
    await connection.send_all(b"")  # a reply without a body ends too
    assert stream.sent == [HEAD + b"x", HEAD]


async def test_a_long_body_is_not_copied_to_its_head() -> None:
    stream = FakeStream()
    connection = connection_over(stream)
    body = b"x" * (TOGETHER + 1)
    await connection.send_all(HEAD)
    await connection.send_all(body)
    assert stream.sent == [HEAD, body]


@pytest.mark.parametrize("interim", [b"HTTP/1.1 100 \r\n\r\n", b"HTTP/1.1 101 \r\nupgrade: websocket\r\n\r\n"])
async def test_an_interim_head_is_awaited_by_the_client_and_leaves_at_once(interim: bytes) -> None:
    stream = FakeStream()
    await connection_over(stream).send_all(interim)
    assert stream.sent == [interim]


async def test_a_client_that_takes_nothing_is_cut_off(autojump_clock: MockClock) -> None:
    stream = FakeStream(trio.sleep_forever)
    began = trio.current_time()
    with pytest.raises(trio.BrokenResourceError):
        await connection_over(stream, stalled_s=60).send_all(b"x" * 3 * CHUNK)
    assert trio.current_time() - began == 60
    assert stream.socket.is_closed


async def test_a_slow_client_that_takes_something_may_take_its_time(autojump_clock: MockClock) -> None:
    async def slowly() -> None:
        await trio.sleep(50)

    stream = FakeStream(slowly)
    await connection_over(stream, stalled_s=60).send_all(b"x" * 5 * CHUNK)
    assert [len(part) for part in stream.sent] == [CHUNK] * 5
    assert not stream.socket.is_closed


async def test_a_send_while_the_client_goes_is_a_send_to_nobody() -> None:
    async def closing() -> None:
        await trio.lowlevel.checkpoint()
        raise trio.BusyResourceError

    with pytest.raises(trio.BrokenResourceError):
        await connection_over(FakeStream(closing)).send_all(b"x")


async def test_a_resting_client_is_left_after_a_while_and_a_waiting_one_is_not(autojump_clock: MockClock) -> None:
    stream = FakeStream(said_after_s=100)
    connection = connection_over(stream)
    began = trio.current_time()
    connection.rest()
    assert await connection.receive_some(10) == b""
    assert trio.current_time() - began == 75
    connection.wake()
    assert await connection.receive_some(10) == b"x"
    assert trio.current_time() - began == 175


async def test_a_client_begins_to_rest_while_it_is_listened_to(autojump_clock: MockClock) -> None:
    stream = FakeStream(said_after_s=inf)
    connection = connection_over(stream)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.receive_some, 10)
        await trio.sleep(50)
        connection.rest()
    assert trio.current_time() - began == 125
