"""Acceptance 5: kill -9 of a plugin, and of the server."""

import os
import signal
from io import BytesIO
from pathlib import Path

import httpx
import polars as pl
import psutil
import trio
from e2e.asked import ask, backfill, day, get, problem_of, settled_us, span
from e2e.conftest import Hall, ServerMaker
from e2e.ledger import settled, stored
from e2e.running import asking, is_ready, states, until
from e2e.stubs import Stub, true_bars

from timebase.model.bars import COLUMNS, Bars
from timebase.model.interval import Interval
from timebase.model.timerange import MINUTE_US, Ranges, TimeRange

DAY = span("2024-01-01", "2024-01-02")
ASK_S = 60.0  # the server's deadline for a question
MILLION = TimeRange(day("2022-01-01"), day("2022-01-01") + 1_000_000 * MINUTE_US)


async def test_questions_under_way_when_a_plugin_is_killed_are_answered_by_the_next_or_fail_with_a_reason(
    hall: Hall, client: httpx.AsyncClient
) -> None:
    symbols = [f"KILL{n}-USD" for n in range(10)]
    for n, symbol in enumerate(symbols):
        hall.a.script(symbol, {"gate": "never"}, {})
        if n % 2:
            hall.b.script(symbol, {})
    replies: dict[str, httpx.Response] = {}

    async def one(symbol: str) -> None:
        replies[symbol] = await get(client, symbol, DAY)

    pid = (await states(client))["stub-a"]["pid"]
    with trio.fail_after(ASK_S / 4):
        async with trio.open_nursery() as nursery:
            for symbol in symbols:
                nursery.start_soon(one, symbol)
            await until(lambda: sum(len(hall.a.seen(symbol)) for symbol in symbols) == 10)
            os.kill(pid, signal.SIGKILL)
            await until(lambda: is_ready(client, "stub-a", but_not=pid))

    for n, symbol in enumerate(symbols):
        if n % 2:
            assert replies[symbol].status_code == 200
            assert replies[symbol].json()["provider"] == "stub-b"
            attempts = replies[symbol].json()["meta"]["attempts"]
        else:
            attempts = problem_of(replies[symbol], 502)["attempts"]
        assert [(each["provider"], each["outcome"]) for each in attempts] == [
            ("stub-a", "unavailable"), ("stub-b", "ok" if n % 2 else "unknown_symbol"),
        ]  # fmt: skip
        assert attempts[0]["reason"]
    assert (await ask(client, symbols[0], DAY))["provider"] == "stub-a"
    state = (await states(client))["stub-a"]
    assert state["restarts"] >= 1
    assert "SIGKILL" in state["last_error"]


async def test_a_plugin_that_dies_in_the_middle_of_an_answer_is_asked_for_the_rest(
    hall: Hall, client: httpx.AsyncClient
) -> None:
    hall.a.script("DIES-USD", {"die": True, "after": 600, "page": 100}, {})
    pid = (await states(client))["stub-a"]["pid"]
    first = await ask(client, "DIES-USD", DAY, "1m", provider="stub-a")
    assert not first["meta"]["coverage"]["complete"]
    assert len(first["bars"]["time"]) == 600
    await until(lambda: is_ready(client, "stub-a", but_not=pid))
    second = await ask(client, "DIES-USD", DAY, "1m")
    assert second["meta"]["coverage"]["complete"]
    assert hall.a.ranges("DIES-USD") == [DAY, TimeRange(DAY.start_us + 600 * MINUTE_US, DAY.end_us)]


async def test_a_killed_server_has_a_true_ledger_leaves_no_plugin_behind_and_goes_on_where_it_was(
    home: Path, serving: ServerMaker
) -> None:
    stub = Stub("stub", home / "manifests", home / "stubs")
    stub.script("MILLION-USD", {"page": 20_000, "pause_s": 0.02})
    with serving(home, is_embedded=True, retention_intraday_days="never") as server:
        async with asking(server) as client, trio.open_nursery() as nursery:
            nursery.start_soon(_backfill_until_cut_off, client)
            await until(lambda: _has_settled(client, 300_000 * MINUTE_US))
            plugins = server.children()
            server.kill()
            nursery.cancel_scope.cancel()
        assert plugins
        await until(lambda: not any(map(_lives, plugins)), 5)

        known = await settled(server, "MILLION-USD")
        held = await stored(server, "MILLION-USD")
        assert _length(known) >= 300_000 * MINUTE_US
        assert known.parts[-1].end_us < MILLION.end_us
        for part in known.parts:
            assert held.within(part.start_us, part.end_us).equals(true_bars(Interval.M1, part))

        await trio.to_thread.run_sync(server.start)
        asked_before = len(stub.seen())
        async with asking(server) as client:
            done = await backfill(client, "MILLION-USD", MILLION)
            assert done.json()["coverage"]["complete"], done.text
            asked_again = [each.range for each in stub.seen()[asked_before:]]
            assert not Ranges.of(asked_again) & known
            assert _length(Ranges.of(asked_again)) == MILLION.length_us - _length(known)
            answer = await get(client, "MILLION-USD", MILLION, "1m", format="arrow")
        assert _bars(answer.content).equals(true_bars(Interval.M1, MILLION))


async def _backfill_until_cut_off(client: httpx.AsyncClient) -> None:
    try:
        await backfill(client, "MILLION-USD", MILLION)
    except httpx.TransportError:
        return
    raise AssertionError("the backfill had ended before the server was killed")


async def _has_settled(client: httpx.AsyncClient, length_us: int) -> bool:
    return await settled_us(client, "MILLION-USD") >= length_us


def _length(ranges: Ranges) -> int:
    return sum(part.length_us for part in ranges.parts)


def _lives(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def _bars(arrow: bytes) -> Bars:
    frame = pl.read_ipc(BytesIO(arrow)).with_columns(pl.col("time").dt.epoch("us"))
    return Bars.of(*(frame[name].to_numpy() for name in COLUMNS))
