"""The server and its connections: starting, stopping, and clients who do not behave."""

import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import islice
from typing import Any

import httpx
import pyarrow as pa
import pytest
import trio
from hypercorn.trio.tcp_server import TCPServer
from unit.api.fakes import FakeServices, open_api, open_client

from timebase.api import render
from timebase.api.data import _Page
from timebase.api.server import run_api
from timebase.api.services import ApiSettings
from timebase.errors import ConfigError
from timebase.model.lru import ByteLru

MILLION = "interval=1m&start=2020-01-01&end=1637836800&format=arrow"  # 60 s times a million later
SMALL = "interval=1d&start=2020-01-01&end=2020-02-01"


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[trio.SocketStream]:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        yield stream


def get(target: str) -> bytes:
    return f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


async def read_all(stream: trio.SocketStream) -> bytes:
    parts = []
    with trio.fail_after(10):
        async for part in stream:
            parts.append(part)
    return b"".join(parts)


async def test_a_free_port_is_reported() -> None:
    async with open_api(FakeServices()) as one, open_api(FakeServices()) as other:
        assert 0 < one != other > 0


async def test_a_taken_port_is_an_error_at_the_start() -> None:
    async with open_api(FakeServices()) as port:
        with pytest.raises(ConfigError, match="in use"):
            await run_api(FakeServices(), ApiSettings(port=port), ByteLru(0))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "0.0.0.0", "::"])
async def test_every_usual_host_can_be_listened_on(host: str) -> None:
    async with open_api(FakeServices(), host=host) as port, httpx.AsyncClient() as client:
        assert (await client.get(f"http://localhost:{port}/health")).status_code == 200


async def test_a_request_under_way_is_answered_before_the_stop() -> None:
    services = FakeServices(hang=trio.Event())
    replies: list[httpx.Response] = []
    with trio.fail_after(10):
        async with httpx.AsyncClient() as client, trio.open_nursery() as clients, trio.open_nursery() as server:
            port = await server.start(run_api, services, ApiSettings(port=0), ByteLru(0))

            async def ask() -> None:
                replies.append(await client.get(f"http://127.0.0.1:{port}/api/v1/data/AAPL?{SMALL}"))

            clients.start_soon(ask)
            while not services.asked:
                await trio.lowlevel.checkpoint()
            server.cancel_scope.cancel()
            assert services.hang is not None
            services.hang.set()
    assert [reply.status_code for reply in replies] == [200]


async def test_nobody_is_let_in_after_the_stop() -> None:
    async with open_api(FakeServices()) as port:
        pass
    with pytest.raises(OSError, match="connect"):
        await trio.open_tcp_stream("127.0.0.1", port)


async def test_a_client_that_reads_nothing_does_not_hold_up_the_stop() -> None:
    with trio.fail_after(10):
        async with AsyncExitStack() as clients, open_api(FakeServices(), grace_s=0.1) as port:
            stream = await clients.enter_async_context(connected(port))
            await stream.send_all(get(f"/api/v1/data/AAPL?{MILLION}"))
            await stream.receive_some(1000)
            # The server has stopped, and the client still holds on.


async def test_a_hanging_request_does_not_hold_up_the_stop() -> None:
    services = FakeServices(hang=trio.Event())
    with trio.fail_after(10):
        async with open_api(services, grace_s=0.1) as port, connected(port) as stream:
            await stream.send_all(get(f"/api/v1/data/AAPL?{SMALL}"))
            while not services.asked:
                await trio.lowlevel.checkpoint()


async def test_an_idle_connection_does_not_hold_up_the_stop() -> None:
    with trio.fail_after(10):
        async with AsyncExitStack() as clients:
            async with open_api(FakeServices(), grace_s=60) as port:
                stream = await clients.enter_async_context(connected(port))
                await stream.send_all(get("/health"))
                assert b" 200 " in await stream.receive_some(10_000)
            assert await stream.receive_some(10) == b""


@pytest.mark.parametrize("target", ["", f"/api/v1/data/AAPL?{SMALL}", "/health"])
async def test_an_idle_connection_is_closed(target: str) -> None:
    async with open_api(FakeServices(), idle_s=0.1) as port, connected(port) as stream:
        if target:
            await stream.send_all(get(target))
        reply = await read_all(stream)
    assert (b" 200 " in reply) == bool(target)


async def test_a_connection_ends_when_its_client_goes() -> None:
    async with open_api(FakeServices()) as port, connected(port) as stream:
        await stream.send_all(get("/health"))
        assert b" 200 " in await stream.receive_some(10_000)
        await stream.send_eof()
        assert await read_all(stream) == b""


async def test_a_slow_reader_does_not_keep_others_waiting() -> None:
    async with open_api(FakeServices()) as port, connected(port) as slow:
        await slow.send_all(get(f"/api/v1/data/AAPL?{MILLION}"))
        async with httpx.AsyncClient() as client:
            with trio.fail_after(5):
                for _ in range(20):
                    assert (await client.get(f"http://127.0.0.1:{port}/api/v1/data/AAPL?{SMALL}")).status_code == 200
        await slow.aclose()


async def test_a_question_ends_when_its_client_goes_away() -> None:
    services = FakeServices(hang=trio.Event())
    cancelled = trio.Event()

    async def answer(*_: object) -> None:
        services.asked.append(None)  # type: ignore[arg-type]
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    services.answer = services.explain = answer  # type: ignore[method-assign, assignment]
    async with open_api(services) as port:
        for path in ("data", "explain"):
            async with connected(port) as stream:
                await stream.send_all(get(f"/api/v1/{path}/AAPL?{SMALL}"))
                while not services.asked:
                    await trio.lowlevel.checkpoint()
            with trio.fail_after(5):
                await cancelled.wait()
            services.asked.clear()
            cancelled = trio.Event()


@pytest.mark.parametrize(
    "rubbish",
    [
        b"\x00\xff\xfe garbage\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"GET /" + b"a" * 100_000,
        b"GET /health HTTP/1.1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /api/v1/backfill HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 64,
        b"GET /health HTTP/1.1\r\nHost: [::1]\r\nUpgrade: h2c\r\nHTTP2-Settings: !!\r\nConnection: Upgrade\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"GET \xe4 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET http://other/health HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"",
    ],
)  # fmt: skip
async def test_rubbish_hurts_nobody_but_its_sender(rubbish: bytes) -> None:
    async with open_api(FakeServices()) as port:
        async with connected(port) as stream:
            await stream.send_all(rubbish)
            await stream.send_eof()
            reply = await read_all(stream)
        assert b" 500 " not in reply.partition(b"\r\n")[0]
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"http://127.0.0.1:{port}/health")).status_code == 200


async def test_a_request_in_the_form_for_proxies_is_understood() -> None:
    """It takes the longer road through Quart, also with an answer in pieces."""
    async with open_api(FakeServices()) as port, connected(port) as stream:
        url = f"http://127.0.0.1:{port}/api/v1/data/AAPL?{MILLION}"
        await stream.send_all(f"GET {url} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        head, _, body = (await read_all(stream)).partition(b"\r\n\r\n")
    assert b" 200 " in head
    assert len(pa.ipc.open_file(body).read_all()) == 1_000_000


@pytest.mark.parametrize("expected_errors", [["a connection failed"]])
async def test_a_failure_in_one_connection_leaves_the_others(
    expected_errors: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        await trio.lowlevel.checkpoint()
        raise RuntimeError("a bug somewhere below")

    async with open_client(FakeServices()) as client:
        with monkeypatch.context() as patched:
            patched.setattr(TCPServer, "run", fail)
            with pytest.raises(httpx.RemoteProtocolError):
                await client.get("/health")
        assert (await client.get("/health")).status_code == 200


@pytest.mark.parametrize("expected_errors", [["Error in ASGI Framework"]])
@pytest.mark.parametrize("form", ["json", "csv", "arrow"])
async def test_an_answer_that_breaks_off_does_not_look_whole(
    form: str, expected_errors: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = render.pieces

    def broken(*args: Any) -> Iterator[bytes | memoryview]:
        yield from islice(whole(*args), 3)
        raise MemoryError

    async with open_client(FakeServices()) as client:
        monkeypatch.setattr(render, "PIECE", 100)
        monkeypatch.setattr(_Page, "_known_length", lambda *_: 1_000_000)
        monkeypatch.setattr(render, "pieces", broken)
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(f"/api/v1/data/AAPL?{SMALL}&format={form}".replace("1d", "1m"))
        monkeypatch.undo()
        assert (await client.get("/health")).status_code == 200


async def test_pipelined_requests_are_answered_in_their_order() -> None:
    async with open_api(FakeServices()) as port, connected(port) as stream:
        for name in ("one", "two", "three"):
            await stream.send_all(
                f"GET /api/v1/data/NOBODY HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: {name}\r\n\r\n".encode()
            )
        seen = b""
        with trio.fail_after(5):
            while seen.count(b'"request_id"') < 3:
                seen += await stream.receive_some(10_000)
    assert seen.find(b'"one"') < seen.find(b'"two"') < seen.find(b'"three"')


async def test_a_connection_reset_in_the_middle_of_an_answer_is_nobodys_error() -> None:
    async with open_api(FakeServices()) as port:
        for form in ("arrow", "json", "csv"):
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            await stream.send_all(get(f"/api/v1/data/AAPL?{MILLION.replace('arrow', form)}"))
            await stream.receive_some(100_000)
            stream.socket.close()
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"http://127.0.0.1:{port}/health")).status_code == 200


async def test_a_body_that_never_comes_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("timebase.api.factory.BODY_S", 0.1)
    async with open_api(FakeServices()) as port, connected(port) as stream:
        await stream.send_all(
            b"POST /api/v1/backfill HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 9\r\n\r\n{"
        )
        with trio.fail_after(5):
            reply = await stream.receive_some(10_000)
    assert b" 408 " in reply
    assert b"body_too_slow" in reply


async def test_many_ask_at_once() -> None:
    services = FakeServices()
    async with open_client(services) as client, trio.open_nursery() as nursery:
        statuses: list[int] = []

        async def ask(n: int) -> None:
            form = ("json", "csv", "arrow", "rows", "parquet")[n % 5]
            reply = await client.get("/api/v1/data/AAPL", params={"limit": 100 + n % 7, "format": form})
            statuses.append(reply.status_code)

        for n in range(100):
            nursery.start_soon(ask, n)
    assert statuses == [200] * 100


async def test_the_description_is_served_under_every_prefix() -> None:
    async with open_client(FakeServices()) as client:
        bodies = [(await client.get(f"{prefix}/openapi.json")).content for prefix in ("", "/api", "/api/v1")]
    assert len(set(bodies)) == 1
    assert json.loads(bodies[0])["openapi"] == "3.1.0"


async def test_a_websocket_where_there_is_none_is_refused_without_a_fault_of_ours() -> None:
    async with open_api(FakeServices()) as port, connected(port) as stream:
        await stream.send_all(
            b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert (await read_all(stream)).startswith(b"HTTP/1.1 404")
