"""Both streams against pages and clients that mean harm: over real sockets, on a server without a token."""

import socket
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import suppress

import httpx
import msgpack
import orjson
import pytest
import trio
from integration.listener import Client, connected, is_type
from unit.api.fakes import FakeServices, open_api
from unit.streaming.happenings import TRADES
from websockets.frames import Frame, Opcode

from timebase.api import alpaca
from timebase.api.sockets import MAX_MESSAGE_BYTES
from timebase.streaming.follower import BUFFER_EVENTS

OURS, ALPACAS = "/api/v1/stream", "/v2/iex"
PATHS = [OURS, "/api/stream", "/api/v1/stream/BTC-USDT", ALPACAS, "/v1beta3/crypto/us"]
MSGPACK = {"Content_Type": "application/msgpack"}


@pytest.fixture
def services() -> FakeServices:
    made = FakeServices()
    made.hub.bind(TRADES, "binance")
    return made


@pytest.fixture
async def port(services: FakeServices) -> AsyncIterator[int]:
    async with open_api(services) as opened:
        yield opened


# A page of somebody else's, in the browser of who runs the server


async def refused(port: int, path: str, **headers: str) -> httpx.Response:
    opening = {
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }  # fmt: skip
    async with httpx.AsyncClient() as client:
        return await client.get(f"http://127.0.0.1:{port}{path}", headers={**opening, **headers}, timeout=10)


ORIGINS = [
    "https://elsewhere.example", "http://127.0.0.1", "http://127.0.0.1:1", "http://localhost.evil.example", "null",
    "", "file://", "http://[", "http://[::1", "chrome-extension://abcdef",
]  # fmt: skip


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("path", PATHS)
async def test_a_page_of_another_origin_cannot_open_a_stream(port: int, path: str, origin: str) -> None:
    reply = await refused(port, path, Origin=origin)
    assert (reply.status_code, reply.json()["code"]) == (403, "cross_origin")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil", "["])
@pytest.mark.parametrize("path", PATHS)
async def test_a_name_that_was_led_to_loopback_cannot_open_a_stream(port: int, path: str, host: str) -> None:
    """DNS rebinding: to its browser the page and the stream are of one origin."""
    reply = await refused(port, path, Host=host, Origin=f"http://{host}")
    assert (reply.status_code, reply.json()["code"]) == (421, "wrong_host")


@pytest.mark.parametrize("path", PATHS)
async def test_a_page_of_the_servers_own_may(port: int, path: str) -> None:
    async with connected(port, path, Origin=f"http://127.0.0.1:{port}") as client:
        assert client.protocol.handshake_exc is None


async def test_where_a_token_is_asked_for_a_page_without_it_gets_nothing(services: FakeServices) -> None:
    async with open_api(services, token="s3cret") as port:
        assert (await refused(port, OURS, Origin="https://elsewhere.example")).status_code == 401
        async with connected(port, ALPACAS, Origin="https://elsewhere.example") as client:
            assert (await heard(client))["msg"] == "connected"
            await client.say({"action": "auth", "key": "k", "secret": "guessed"})
            assert (await heard(client))["code"] == 402
            closed = await client.closed()
    assert closed is not None
    assert closed.code == 1008


# Who never says who he is


async def heard(client: Client) -> dict[str, object]:
    """The one word of the next frame."""
    frame = await client.frame()
    (word,) = orjson.loads(frame.data) if frame.opcode is Opcode.TEXT else msgpack.unpackb(frame.data, timestamp=3)
    return dict(word)


async def has_left(services: FakeServices) -> None:
    with trio.fail_after(20):
        await until_gone(services)


async def until_gone(services: FakeServices) -> None:
    while services.hub.figures()["followers"]:
        assert services.hub.figures()["waiting"] <= BUFFER_EVENTS
        await trio.sleep(0.01)


@pytest.mark.parametrize("headers", [{}, MSGPACK])
async def test_who_never_authenticates_is_told_and_hung_up_on(
    services: FakeServices, port: int, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
) -> None:
    assert alpaca.AUTH_S == 10
    monkeypatch.setattr(alpaca, "AUTH_S", 0.2)
    async with connected(port, ALPACAS, **headers) as client:
        assert (await heard(client))["msg"] == "connected"
        assert (await heard(client)) == {"T": "error", "code": 404, "msg": "auth timeout"}
        closed = await client.closed()
    assert closed is not None
    assert closed.code == 1008
    await has_left(services)


async def test_talking_does_not_put_off_the_end_of_who_never_authenticates(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alpaca, "AUTH_S", 2.0)
    async with connected(port, ALPACAS) as client:
        assert (await heard(client))["msg"] == "connected"
        codes = []
        while 404 not in codes:
            await client.say({"action": "subscribe", "trades": ["BTC/USD"]})
            codes.append((await heard(client))["code"])
    assert set(codes) == {401, 404}


# Bombs

LONG = b"\x81\xa6action\xdc\xff\x00" + b"\x90" * 60_000  # a list of 65,280, so far
NESTED = b"\x81\xa6action" + b"\xdd\x00\x00\xea\x60" * 1_000 + b"\xc0" * 56_000  # each a list of 60,000
BOMBS = [
    b'{"action":' + b"[" * 60_000,
    b'{"action":' * 6_000,
    b'{"action":[]}',
    b'{"action":{"auth":1}}',
    b'{"action":"subscribe","trades":[' + b"[]," * 20_000 + b"[]]}",
    b'{"action":"subscribe","trades":' + b"9" * 60_000 + b"}",
    b"\x81\xa6action\x90",
    b"\x81" * 60_000,
    b"\x91" * 60_000,
    LONG,
    b"\x81\xa6action\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    NESTED,
]


@pytest.mark.parametrize("at", range(len(BOMBS)))
@pytest.mark.parametrize("headers", [{}, MSGPACK])
async def test_what_is_made_to_burst_is_answered_as_bad_syntax_and_a_list_as_too_long(
    port: int, headers: dict[str, str], at: int
) -> None:
    async with connected(port, ALPACAS, **headers) as client:
        await heard(client)
        await client.say({"action": "auth", "key": "k", "secret": "s"})
        assert (await heard(client))["msg"] == "authenticated"
        client.protocol.send_binary(BOMBS[at])
        await client.flush()
        assert (await heard(client))["code"] == (405 if BOMBS[at] in (LONG, NESTED) else 400)
        await client.say({"action": "subscribe", "trades": ["BTC/USD"]})
        assert (await heard(client))["trades"] == ["BTC/USD"]


@pytest.mark.parametrize("at", range(len(BOMBS)))
async def test_our_own_stream_answers_them_too(port: int, at: int) -> None:
    async with connected(port, OURS) as client:
        client.protocol.send_binary(BOMBS[at])
        await client.flush()
        assert {e["type"] for e in await client.events()} == {"error"}
        await client.say({"action": "ping"})
        await client.until(is_type("pong"))


def test_lists_in_lists_cost_no_memory_before_they_are_there() -> None:
    session = alpaca.AlpacaSession.of("application/msgpack", None)
    tracemalloc.start()
    try:
        session.hear(NESTED)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 32 << 20


@pytest.mark.parametrize("path", [OURS, ALPACAS])
async def test_sixteen_megabytes_are_not_taken(port: int, path: str) -> None:
    """By the length that the frame says: it is not waited for."""
    async with connected(port, path) as client:
        await client.stream.send_all(b"\x82\xff" + (16 << 20).to_bytes(8, "big") + bytes(4))
        closed = await client.closed()
    assert closed is not None
    assert closed.code == 1009


@pytest.mark.parametrize("path", [OURS, ALPACAS])
async def test_nor_are_they_in_pieces(port: int, path: str) -> None:
    async with connected(port, path) as client:
        client.protocol.send_binary(bytes(MAX_MESSAGE_BYTES // 2), fin=False)
        for _ in range(2):
            client.protocol.send_continuation(bytes(MAX_MESSAGE_BYTES // 2), fin=False)
        await client.flush()
        closed = await client.closed()
    assert closed is not None
    assert closed.code == 1009


async def test_pieces_without_anything_in_them_are_not_kept(port: int) -> None:
    piece = b"\x00\x80" + bytes(4)
    async with connected(port, OURS) as client:
        client.protocol.send_text(b"", fin=False)
        await client.flush()
        tracemalloc.start()
        try:
            await client.stream.send_all(piece * 100_000)
            client.protocol.send_continuation(b'{"action":"ping"}', fin=True)
            await client.flush()
            await client.until(is_type("pong"))
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert most < 4 << 20  # kept, they were 9 MB


async def test_who_floods_and_does_not_read_is_let_go(services: FakeServices) -> None:
    async with open_api(services, stalled_s=0.5) as port, connected(port, OURS) as client:
        client.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        # Whether it hears of it at once is up to the kernels: what waits for it is in the way.
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_flood, client.stream)
                await until_gone(services)
                nursery.cancel_scope.cancel()


async def _flood(stream: trio.SocketStream) -> None:
    pings = b"".join(_ping() for _ in range(1_000))
    with suppress(trio.BrokenResourceError):
        while True:
            await stream.send_all(pings)


def _ping() -> bytes:
    return Frame(Opcode.TEXT, b'{"action":"ping"}').serialize(mask=True)
