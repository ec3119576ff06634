"""Alpaca's stock SDK against a real server: what the docs print, and every kind of message it knows."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from e2e.conftest import ServerMaker
from e2e.live_stubs import LiveStub
from e2e.running import until
from websockets.sync.client import connect

from timebase.model.timerange import DAY_US, MINUTE_US

PAGE = Path(__file__).parents[2] / "docs" / "streaming.md"
EXAMPLE = re.compile(r"^```python\n# python, alpaca-py[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
NOON_US = 20_000 * DAY_US + DAY_US // 2

EVERYTHING = """
import json, sys
from alpaca.data.live import {kind}

async def show(event):
    print(json.dumps([type(event).__name__, event.model_dump(mode="json")]), flush=True)

stream = {kind}("key", "{secret}", url_override="{url}")
for name in ("trades", "quotes", "bars", "updated_bars", "daily_bars"):
    getattr(stream, f"subscribe_{{name}}")(show, "{symbol}")
stream.run()
"""


@contextmanager
def running(program: str, log: Path) -> Iterator[Callable[[], list[str]]]:
    """A Python program in a process of its own; gives a way to read the lines it has printed."""
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-c", program], stdout=out, stderr=subprocess.STDOUT)
        try:
            yield lambda: log.read_text().splitlines()
        finally:
            process.kill()
            process.wait(10)


def test_the_printed_example_prints_trades_and_quotes(home: Path, serving: ServerMaker, tmp_path: Path) -> None:
    manifests = Path(__file__).parents[2] / "manifests"
    (program,) = EXAMPLE.findall(PAGE.read_text())
    with serving(home, manifests=[manifests]) as server:
        here = program.replace("127.0.0.1:8080", server.url.removeprefix("http://"))
        with running(here, tmp_path / "printed") as printed:
            for start in ("Trade DEMO-CRYPTO ", "Quote DEMO-CRYPTO "):
                _wait(lambda start=start: any(line.startswith(start) for line in printed()))


@pytest.mark.parametrize(
    ("kind", "path", "symbol"),
    [("StockDataStream", "/v2/sip", "AAPL"), ("CryptoDataStream", "/v1beta3/crypto/us", "BTC/USD")],
)
def test_the_stock_sdk_gets_every_kind_of_message(
    home: Path, serving: ServerMaker, tmp_path: Path, kind: str, path: str, symbol: str
) -> None:
    ours = symbol.replace("/", "-")
    stub = LiveStub("stub", home / "manifests", home / "stubs")
    with serving(home, token="a-token") as server:
        url = server.url.replace("http", "ws") + path
        program = EVERYTHING.format(kind=kind, url=url, symbol=symbol, secret="a-token")
        with running(program, tmp_path / "printed") as printed:
            _wait(lambda: len(stub.wanted()) and len(stub.wanted()[-1]) == 2)
            stub.trade(ours, (NOON_US - MINUTE_US, 9.0, 1.0, 1))  # joins in the middle of a minute
            stub.trade(ours, (NOON_US + 1, 10.0, 2.0, 2), (NOON_US + 2, 12.0, 1.0, 3))
            stub.play({"pulse": NOON_US + MINUTE_US + 5_000_000})
            stub.play(
                {"quotes": ours, "time": [NOON_US], "bid": [9.5], "bid_size": [1.0], "ask": [9.6], "ask_size": [2.0]}
            )
            _wait(lambda: _kinds(printed()) >= {"Trade", "Quote"} and _noon(printed()))
            stub.trade(ours, (NOON_US + 3, 8.0, 1.0, 4))  # too late for its minute
            _wait(lambda: len(_noon(printed())) == 2)
            told = [json.loads(line) for line in printed() if line.startswith("[")]
            closed, updated = _noon(printed())
    trades = [each for name, each in told if name == "Trade"]
    assert [(each["symbol"], each["id"], each["price"]) for each in trades[:3]] == [
        (symbol, 1, 9.0), (symbol, 2, 10.0), (symbol, 3, 12.0)
    ]  # fmt: skip
    assert (closed["open"], closed["high"], closed["low"], closed["close"], closed["volume"]) == (10, 12, 10, 12, 3)
    assert closed["vwap"] == pytest.approx(32 / 3)
    assert closed["trade_count"] == 2
    assert (updated["timestamp"], updated["low"], updated["volume"]) == (closed["timestamp"], 8.0, 4.0)


def test_a_wrong_secret_is_refused_and_nothing_is_subscribed(home: Path, serving: ServerMaker, tmp_path: Path) -> None:
    stub = LiveStub("stub", home / "manifests", home / "stubs")
    with serving(home, token="a-token") as server:
        url = server.url.replace("http", "ws") + "/v2/sip"
        program = EVERYTHING.format(kind="StockDataStream", url=url, symbol="AAPL", secret="not-the-token")
        with running(program, tmp_path / "printed") as printed:
            _wait(lambda: any("auth failed" in line for line in printed()))
        assert stub.wanted() == []


def test_what_a_client_authenticates_with_is_never_logged(home: Path, serving: ServerMaker) -> None:
    LiveStub("stub", home / "manifests", home / "stubs")
    with serving(home, token="a-token", log_level="DEBUG") as server:
        with connect(server.url.replace("http", "ws") + "/v2/sip", proxy=None) as client:
            assert b"connected" in client.recv(decode=False)
            client.send('{"action":"auth","key":"a-key","secret":"a-token"}')
            assert b"authenticated" in client.recv(decode=False)
        log = server.log()
    assert "a-key" not in log
    assert "a-token" not in log


def _kinds(lines: list[str]) -> set[str]:
    return {json.loads(line)[0] for line in lines if line.startswith("[")}


def _noon(lines: list[str]) -> list[dict[str, Any]]:
    """What was told of the minute from noon on; the day, which is told as it grows, opens otherwise."""
    told = (json.loads(line) for line in lines if line.startswith("["))
    return [each for name, each in told if name == "Bar" and each["open"] == 10.0]


def _wait(condition: Callable[[], object]) -> None:
    trio.run(until, condition)
