"""A tape through the whole road of a real server, killed in the middle: what is stored equals the tape."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from e2e.conftest import ServerMaker
from e2e.running import asking, is_ready, states, until

from timebase.house import MANIFESTS
from timebase.model.timerange import SECOND_US

BEGIN_US = 1_723_161_600_000_000  # 2024-08-09T00:00:00Z
ROWS = 3_000
REPLAY = "/api/v1/replay"
WHOLE = {"provider": "replay", "start": "2024-08-09T00:00", "end": "2024-08-09T00:50"}
MINUTES = WHOLE | {"interval": "1m", "start": "2024-08-09T00:01"}
PATIENCE_S = 60.0


def price(i: int) -> float:
    return 100.0 + i * 37 % 101 / 8


@pytest.fixture
def stage(home: Path) -> Path:
    """A home whose only provider is the replay, with fifty minutes of a trade a second."""
    (home / "manifests" / "replay").mkdir(parents=True)
    config = (MANIFESTS / "replay" / "config.yaml").read_text()
    (home / "manifests" / "replay" / "config.yaml").write_text(config)
    lines = [f"{BEGIN_US + i * SECOND_US},{price(i)},0.5,buy,{i + 1}" for i in range(ROWS)]
    (home / "BTC-USDT.csv").write_text("\n".join(["time,price,size,side,id", *lines]))
    return home


def truth() -> list[list[float]]:
    """[time ms, open, high, low, close, volume] of every minute but the one in which the tape begins."""
    minutes = [[price(i) for i in range(m * 60, m * 60 + 60)] for m in range(ROWS // 60)]
    return [
        [BEGIN_US // 1_000 + m * 60_000, p[0], max(p), min(p), p[-1], 30.0] for m, p in enumerate(minutes) if m
    ]  # fmt: skip


async def stored(client: httpx.AsyncClient) -> list[list[float]]:
    reply = (await client.get("/api/v1/data/BTC-USDT", params=MINUTES)).json()
    bars: dict[str, list[float]] = reply.get("bars", {})
    names = ("time", "open", "high", "low", "close", "volume")
    return [list(row) for row in zip(*(bars[name] for name in names), strict=True)] if bars else []


async def ids(client: httpx.AsyncClient) -> list[int]:
    reply = (await client.get("/api/v1/trades/BTC-USDT", params=WHOLE | {"limit": 100_000})).json()
    found: list[int] = reply["trades"]["id"]
    return found


async def played(client: httpx.AsyncClient, part: float) -> dict[str, Any] | None:
    """The state once so much of the tape has been played."""
    state: dict[str, Any] = (await client.get(REPLAY)).json()
    is_there = state["position"] is not None and state["position"] >= BEGIN_US // 1_000 + ROWS * 1_000 * part
    return state if is_there and state["state"] != "waiting" else None


async def is_whole(client: httpx.AsyncClient) -> bool:
    return await ids(client) == list(range(1, ROWS + 1)) and await stored(client) == truth()


async def settle(client: httpx.AsyncClient) -> None:
    """Until the tape has ended and what is stored is what was traded, or until patience ends."""
    await until(lambda: played(client, 1.0), PATIENCE_S)
    with suppress(AssertionError):  # the test says what is wrong
        await until(lambda: is_whole(client), PATIENCE_S)


async def test_a_tape_plays_through_the_road_into_the_store(stage: Path, serving: ServerMaker) -> None:
    with serving(stage) as server:
        async with asking(server) as client:
            await client.put(REPLAY, json={"tapes": f"BTC-USDT={stage}/BTC-USDT.csv", "speed": 600})
            await settle(client)
            assert await ids(client) == list(range(1, ROWS + 1))
            assert await stored(client) == truth()


async def test_plugin_and_core_killed_in_the_middle_the_store_equals_the_tape(
    stage: Path, serving: ServerMaker
) -> None:
    with serving(stage) as server:
        async with asking(server) as client:
            await client.put(REPLAY, json={"tapes": f"BTC-USDT={stage}/BTC-USDT.csv", "speed": 200})
            await until(lambda: played(client, 0.3), PATIENCE_S)
            pid = (await states(client))["replay"]["pid"]
            psutil.Process(pid).kill()
            await until(lambda: is_ready(client, "replay", but_not=pid))
            await until(lambda: played(client, 0.6), PATIENCE_S)
        server.kill()
        server.start()
        async with asking(server) as client:
            await settle(client)
            assert await ids(client) == list(range(1, ROWS + 1))
            assert await stored(client) == truth()


async def test_what_is_stored_is_played_again_by_its_symbol_to_the_same_end(stage: Path, serving: ServerMaker) -> None:
    with serving(stage) as server:
        async with asking(server) as client:
            from_file = server.run("replay", "BTC-USDT.csv", "--speed", "1000x")  # until the tape has ended
            assert from_file.returncode == 0, from_file.stderr.decode()
            assert (await client.get(REPLAY)).json()["tapes"] == []
            await until(lambda: is_whole(client), PATIENCE_S)
            again = server.run("replay", "BTC-USDT", "--provider", "replay", "--speed", "1000x")
            assert again.returncode == 0, again.stderr.decode()
            assert (server.data_dir / "tapes" / "BTC-USDT.parquet").is_file()
            await until(lambda: is_whole(client), PATIENCE_S)
            unknown = server.run("replay", "ETH-USDT", "--detach")
            assert unknown.returncode == 1
