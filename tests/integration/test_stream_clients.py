"""Clients that people have, as docs/streaming.md prints them, and `timebase watch`, against a real server."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
from recorded.vendor import nobody_listens
from unit.api.fakes import FakeServices, open_api
from unit.streaming.happenings import BARS, TRADES, bar, trades

from timebase.api.routes import ROUTES

HOUSE = Path(__file__).parents[2]
PAGE = (HOUSE / "docs/streaming.md").read_text()
HTML = re.findall(r"^```html\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[0]
LINES = [
    line for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL) for line in block.splitlines()
]
ADDRESS = "127.0.0.1:8080"
CHROMIUM = shutil.which("chromium")
NODE = shutil.which("node")
WATCH = (sys.executable, "-m", "timebase", "watch")


@pytest.fixture
def services() -> FakeServices:
    made = FakeServices()
    made.hub.bind(BARS, "demo")
    made.hub.bind(TRADES, "binance")
    return made


def close_live(services: FakeServices) -> None:
    """A bar, of the provider whose feed takes over from the one that had the history."""
    services.hub.bind(BARS, "binance")
    services.hub.publish(bar(0, 4711.5))


def printed(program: str) -> str:
    return next(line for line in LINES if program in line)


@asynccontextmanager
async def running(*command: str, **environ: str) -> AsyncIterator[trio.Process]:
    piped = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    start = partial(trio.run_process, command, check=False, env={**os.environ, **environ}, **piped)
    async with trio.open_nursery() as nursery:
        process = await nursery.start(start)
        yield process
        nursery.cancel_scope.cancel()


async def until(process: trio.Process, words: str) -> str:
    assert process.stdout is not None
    said = ""
    with trio.fail_after(60):
        while words not in said:
            some = await process.stdout.receive_some()
            assert some, said
            said += some.decode()
    return said


async def test_the_printed_python_client_is_given_history_and_then_live(services: FakeServices) -> None:
    async with open_api(services) as port:
        typed = shlex.split(printed("websockets").replace(ADDRESS, f"127.0.0.1:{port}"))
        async with running(sys.executable, *typed[1:]) as client:
            await until(client, '"type":"history_end","channel":"bars:BTC-USDT:1m"')
            close_live(services)
            await until(client, "4711.5")


@pytest.mark.skipif(NODE is None, reason="needs Node.js")
async def test_the_printed_node_client_is_given_history_and_then_live(services: FakeServices) -> None:
    async with open_api(services) as port:
        typed = shlex.split(printed("node ").replace(ADDRESS, f"127.0.0.1:{port}"))
        async with running(*typed) as client:
            await until(client, '"type":"history_end"')
            close_live(services)
            await until(client, "4711.5")


def test_the_page_is_as_short_as_promised() -> None:
    assert len(HTML.splitlines()) <= 35


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not here")
async def test_the_printed_page_works_in_a_browser(services: FakeServices, tmp_path: Path) -> None:
    assert CHROMIUM is not None
    async with open_api(services, token="s3cret") as port:
        page = tmp_path / "page.html"
        page.write_text(HTML.replace(ADDRESS, f"127.0.0.1:{port}").replace("YOUR-TOKEN", "s3cret"))
        async with running(CHROMIUM, *flags(tmp_path), "--enable-logging=stderr", page.as_uri()) as browser:
            await until(browser, "closed")
            close_live(services)
            await until(browser, "4711.5")


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not here")
async def test_the_description_for_people_shows_every_operation(services: FakeServices, tmp_path: Path) -> None:
    assert CHROMIUM is not None
    operations = sum(len({*route.methods} - {"HEAD"}) for route in ROUTES)
    async with open_api(services) as port:
        shown = ("--dump-dom", "--virtual-time-budget=10000", f"http://127.0.0.1:{port}/docs")
        async with running(CHROMIUM, *flags(tmp_path), *shown) as browser:
            page = await until(browser, "</html>")
    assert '<p id="intro">The description cannot' not in page
    assert page.count("<summary>") == operations
    assert "--data-binary" in page


def flags(folder: Path) -> Sequence[str]:
    return (
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        f"--user-data-dir={folder / 'profile'}",
    )  # fmt: skip


async def test_watch_shows_history_and_then_live_and_goes_on_after_a_lost_connection(services: FakeServices) -> None:
    watch = (sys.executable, "-m", "timebase", "watch", "BTC-USDT", "--trades", "--json")
    async with trio.open_nursery() as nursery:
        async with open_api(services) as port:
            client = await nursery.start(_start, (*watch,), port)
            await until(client, '"subscribed"')
            services.hub.publish(trades(1, 2))
            await until(client, '"id": 2')
        services.hub.publish(trades(3, 2))
        async with open_api(FakeServices(hub=services.hub), port=port):
            services.hub.publish(trades(5, 1))
            told = await until(client, '"id": 5')
        nursery.cancel_scope.cancel()
    ids = [json.loads(line)["id"] for line in told.splitlines() if '"trade"' in line]
    assert ids == [3, 4, 5]


async def _start(command: tuple[str, ...], port: int, *, task_status: trio.TaskStatus[trio.Process]) -> None:
    async with running(*command, TIMEBASE_SERVER=f"http://127.0.0.1:{port}") as process:
        task_status.started(process)
        await trio.sleep_forever()


async def test_watch_prints_a_line_a_bar(services: FakeServices) -> None:
    async with open_api(services) as port:
        command = (sys.executable, "-m", "timebase", "watch", "BTC-USDT", "--from", "-1h", "--limit", "3")
        async with running(*command, TIMEBASE_SERVER=f"http://127.0.0.1:{port}") as client:
            assert client.stdout is not None
            said = b"".join([part async for part in client.stdout]).decode()
    assert [line.split()[2] for line in said.splitlines()] == ["closed"] * 3


async def test_watch_says_what_the_server_says(services: FakeServices) -> None:
    async with open_api(services, token="s3cret") as port:
        command = (*WATCH, "BTC-USDT")
        async with running(*command, TIMEBASE_SERVER=f"http://127.0.0.1:{port}", TIMEBASE_TOKEN="wrong") as client:
            await until(client, "the token is not the server's")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("BTC-USDT", "--interval", "7m"), "is not a channel"),
        (("BTC-USDT", "--from", "yesterday"), "'yesterday' is not a time"),
        (("BTC-USDT", "--from", "2100-01-01"), "is in the future"),
        (("BTC USDT",), "symbol"),
        (("",), "is not a channel"),
        (("BTC-USDT", "--provider", "Not A Slug"), "provider"),
        (("BTC-USDT", "--limit", "0"), "is not a whole number from 1 on"),
    ],
)
async def test_a_bad_argument_ends_watch_before_anything_is_connected(arguments: tuple[str, ...], words: str) -> None:
    code, said = await _ended(*arguments, server=nobody_listens())
    assert words in said
    assert code == 2


async def test_watch_without_a_server_says_how_to_start_one_and_ends() -> None:
    code, said = await _ended("BTC-USDT", server=nobody_listens())
    assert "start one with `timebase serve`" in said
    assert "Traceback" not in said
    assert code == 1


@pytest.mark.parametrize("server", ["nonsense", "ftp://127.0.0.1"])
async def test_what_is_no_address_is_said(server: str) -> None:
    code, said = await _ended("BTC-USDT", server=server)
    assert "is no address of a server" in said
    assert code == 1


async def test_what_answers_and_is_no_server_of_ours_is_said() -> None:
    async def talk(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"220 mail.example ready\r\n")

    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, talk, 0, host="127.0.0.1")
        listeners = await nursery.start(serve)
        port = listeners[0].socket.getsockname()[1]
        code, said = await _ended("BTC-USDT", server=f"http://127.0.0.1:{port}")
        nursery.cancel_scope.cancel()
    assert "no server of TimeBase answers" in said
    assert code == 1


async def _ended(*arguments: str, server: str) -> tuple[int, str]:
    """How a watch ends by itself: its code, and what it has said."""
    async with running(*WATCH, *arguments, TIMEBASE_SERVER=server) as client:
        assert client.stdout is not None
        said = b"".join([part async for part in client.stdout]).decode()
        return await client.wait(), said
