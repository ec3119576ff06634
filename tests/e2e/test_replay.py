"""Tapes over REST and the command line, and that what is played never passes for the market."""

from pathlib import Path
from typing import Any

import httpx
import orjson
import psutil
import pytest
from e2e.conftest import ServerMaker
from e2e.running import Server, asking, is_ready, states, until
from websockets.sync.client import connect

from timebase.house import MANIFESTS
from timebase.model.replay import ORDER_FILE, STATE_FILE, ReplayOrder, ReplayState, TapeState
from timebase.model.timerange import MINUTE_US, SECOND_US

BEGIN_US = 1_723_161_600_000_000  # 2024-08-09T00:00:00Z
REPLAY = "/api/v1/replay"
MINUTES = {"interval": "1m", "start": "2024-08-09T00:01", "end": "2024-08-09T00:05"}


def write_tape(folder: Path, name: str = "BTC-USDT_2024-08-09.csv") -> Path:
    file = folder / name
    lines = [f"{BEGIN_US + i * SECOND_US},{100 + i % 7},0.5,buy,{i + 1}" for i in range(600)]
    file.write_text("\n".join(["time,price,size,side,id", *lines]))
    return file


@pytest.fixture
def stage(home: Path) -> Path:
    """A home whose only provider is the replay."""
    (home / "manifests" / "replay").mkdir(parents=True)
    config = (MANIFESTS / "replay" / "config.yaml").read_text()
    (home / "manifests" / "replay" / "config.yaml").write_text(config)
    return home


def cache_of(server: Server) -> Path:
    return server.data_dir / "providers" / "replay" / "cache"


async def put(client: httpx.AsyncClient, **order: Any) -> dict[str, Any]:
    response = await client.put(REPLAY, json=order)
    assert response.status_code == 200, response.text
    said: dict[str, Any] = response.json()
    return said


async def is_at(client: httpx.AsyncClient, minutes: int) -> bool:
    position = (await client.get(REPLAY)).json()["position"]
    return bool(position == (BEGIN_US + minutes * MINUTE_US) // 1_000)


async def test_an_order_is_kept_and_what_it_does_not_say_stays(stage: Path, serving: ServerMaker) -> None:
    tape = write_tape(stage)
    with serving(stage) as server:
        async with asking(server) as client:
            assert (await client.get(REPLAY)).json()["state"] == "empty"
            first = await put(client, tapes=f"BTC-USDT={tape}", speed="60x", state="paused")
            assert (first["state"] in {"waiting", "paused"}, first["speed"]) == (True, 60.0)
            assert first["tapes"] == [{"symbol": "BTC-USDT", "path": str(tape)}]
            second = await put(client, position="2024-08-09T00:05")
            assert (second["speed"], second["tapes"]) == (60.0, first["tapes"])
            assert await until(lambda: is_at(client, 5))
            assert (await put(client, state="stopped"))["tapes"] == []


ORDERS = [
    ({"tapes": "BTC-USDT"}, "tapes"),
    ({"tapes": "BTC-USDT=tape.csv"}, "tapes"),
    ({"tapes": "BTC-USDT=/no/such/tape.csv"}, "tapes"),
    ({"tapes": ""}, "tapes"),
    ({"tapes": ".=/etc/hostname"}, "symbol"),
    ({"speed": 0}, "speed"),
    ({"speed": "fast"}, "speed"),
    ({"position": "noon"}, "position"),
    ({"state": "rewinding"}, "state"),
    ({"loop": "true"}, "loop"),
]


async def test_an_order_that_makes_no_sense_names_what_does_not(stage: Path, serving: ServerMaker) -> None:
    with serving(stage) as server:
        async with asking(server) as client:
            for order, parameter in ORDERS:
                response = await client.put(REPLAY, json=order)
                assert response.status_code == 422, order
                assert parameter in response.json()["detail"]
            elsewhere = await client.put(REPLAY, json={"speed": 2}, headers={"origin": "http://elsewhere.example"})
            assert elsewhere.status_code == 403


async def test_what_was_played_is_asked_by_name_and_never_passes_for_the_market(
    stage: Path, serving: ServerMaker
) -> None:
    tape = write_tape(stage)
    with serving(stage) as server:
        async with asking(server) as client:
            await put(client, tapes=f"BTC-USDT={tape}", position="2024-08-09T00:10", state="paused")
            await until(lambda: is_at(client, 10))
            named = await client.get("/api/v1/data/BTC-USDT", params={**MINUTES, "provider": "replay"})
            assert named.status_code == 200, named.text
            assert named.json()["provider"] == "replay"
            assert len(named.json()["bars"]["time"]) == 4
            unnamed = await client.get("/api/v1/data/BTC-USDT", params=MINUTES)
            assert unnamed.status_code != 200
            explained = (await client.get("/api/v1/explain/BTC-USDT", params=MINUTES)).json()
            assert explained["candidates"] == explained["stored"] == []
            assert "only by who names it" in explained["refused"][0]["reason"]


async def test_what_has_not_been_played_yet_is_not_taken_for_nothing(stage: Path, serving: ServerMaker) -> None:
    tape = write_tape(stage)
    with serving(stage) as server:
        async with asking(server) as client:
            await put(client, tapes=f"BTC-USDT={tape}", position="2024-08-09T00:03", state="paused")
            await until(lambda: is_at(client, 3))
            asked = {**MINUTES, "provider": "replay"}
            early = await client.get("/api/v1/data/BTC-USDT", params=asked)
            assert early.status_code != 200 or early.json()["meta"]["coverage"]["complete"] is False
            await put(client, position="2024-08-09T00:10")
            await until(lambda: is_at(client, 10))
            later = (await client.get("/api/v1/data/BTC-USDT", params=asked)).json()
            assert len(later["bars"]["time"]) == 4
            assert later["meta"]["coverage"]["complete"] is True


async def test_order_and_tape_outlive_plugin_and_core(stage: Path, serving: ServerMaker) -> None:
    tape = write_tape(stage)
    with serving(stage) as server:
        async with asking(server) as client:
            await put(client, tapes=f"BTC-USDT={tape}", speed=60, position="2024-08-09T00:10", state="paused")
            await until(lambda: is_at(client, 10))
            pid = (await states(client))["replay"]["pid"]
            psutil.Process(pid).kill()
            await until(lambda: is_ready(client, "replay", but_not=pid))
        server.kill()
        server.start()
        async with asking(server) as client:
            await until(lambda: is_at(client, 10))
            assert (await client.get(REPLAY)).json()["speed"] == 60.0
            named = await client.get("/api/v1/data/BTC-USDT", params={**MINUTES, "provider": "replay"})
            assert len(named.json()["bars"]["time"]) == 4


async def test_the_command_puts_files_in_and_leaves_them_playing(stage: Path, serving: ServerMaker) -> None:
    write_tape(stage)
    write_tape(stage, "other.csv")
    with serving(stage) as server:
        done = server.run("replay", "BTC-USDT_2024-08-09.csv", "ETH/USDT=other.csv", "--speed", "60x", "--detach")
        assert done.returncode == 0, done.stderr.decode()
        order = ReplayOrder.of(orjson.loads((cache_of(server) / ORDER_FILE).read_bytes()))
        assert [tape.symbol for tape in order.tapes] == ["BTC-USDT", "ETH-USDT"]
        assert (order.speed, order.is_playing) == (60.0, True)
        missing = server.run("replay", "nowhere.csv", "--detach")
        assert missing.returncode == 1
        assert b"there is no file nowhere.csv" in missing.stderr
        # Without a terminal it follows until the tape has ended, and takes it out.
        ended = ReplayState(order.serial, TapeState.ENDED, BEGIN_US, BEGIN_US, BEGIN_US, BEGIN_US)
        (cache_of(server) / STATE_FILE).write_bytes(orjson.dumps(ended.plain()))
        assert server.run("replay").returncode == 0
        assert ReplayOrder.of(orjson.loads((cache_of(server) / ORDER_FILE).read_bytes())).tapes == ()


async def test_who_comes_while_the_tape_is_in_its_first_minutes_gets_no_error(
    stage: Path, serving: ServerMaker
) -> None:
    """Nothing of it is over yet, on the tape's clock: live begins with what there is."""
    tape = write_tape(stage)
    with serving(stage) as server:
        async with asking(server) as client:
            await put(client, tapes=f"BTC-USDT={tape}", position="2024-08-09T00:00:30")
            await until(lambda: is_moving(client))
            for begin in ("-10s", "-70s", "now", "2024-08-09T00:00", "2024-08-09T00:00:20"):
                said = first_words(server, begin)
                assert [word["type"] for word in said if word["type"] in {"error", "history_end"}] == ["history_end"]
            await put(client, position="2024-08-09T00:01:20")
            await until(lambda: is_moving(client, 80))
            said = first_words(server, "2024-08-09T00:00")
            assert not [word for word in said if word["type"] == "error"]


async def is_moving(client: httpx.AsyncClient, seconds: int = 30) -> bool:
    state = (await client.get(REPLAY)).json()
    return bool(state["state"] == "playing" and state["position"] > (BEGIN_US + seconds * SECOND_US) // 1_000)


def first_words(server: Server, begin: str) -> list[dict[str, Any]]:
    """What a new follower hears up to the first bar that forms."""
    said: list[dict[str, Any]] = []
    with connect(f"{server.url.replace('http', 'ws')}/api/v1/stream") as socket:
        channels = ["bars:BTC-USDT:1m@replay"]
        socket.send(orjson.dumps({"action": "subscribe", "channels": channels, "from": begin}).decode())
        while not any(word.get("status") == "forming" for word in said):
            said += orjson.loads(socket.recv(timeout=20))
    return said


NO_TAPES = {
    "notatape": b"hello world\nthis is no tape\n",
    "X.csv": bytes(range(256)),
    "X.zip": b"PK\x05\x06" + bytes(18),
    "X.parquet": b"PAR1",
}


def test_what_is_no_tape_is_said_at_once_and_what_a_tape_looks_like(stage: Path, serving: ServerMaker) -> None:
    for name, content in NO_TAPES.items():
        (stage / name).write_bytes(content)
    with serving(stage) as server:
        for name in NO_TAPES:
            for more in ((), ("--detach",)):
                done = server.run("replay", f"X={name}", *more)
                assert done.returncode == 1
                said = done.stderr.decode()
                assert name in said
                assert "a tape is CSV with a header, Parquet or ndjson" in said
                assert ReplayOrder.of(orjson.loads((cache_of(server) / ORDER_FILE).read_bytes())).tapes == ()
        nowhere = server.run("replay", "X=nowhere")
        assert nowhere.returncode == 1
        assert b"there is no file nowhere" in nowhere.stderr


async def test_who_plays_tapes_must_be_there(stage: Path, serving: ServerMaker) -> None:
    write_tape(stage)
    with serving(stage) as server:
        async with asking(server) as client:
            assert (await client.post("/api/v1/providers/replay/disable")).status_code == 200
        done = server.run("replay", "BTC-USDT_2024-08-09.csv")
        assert done.returncode == 1
        assert b"the provider replay is disabled" in done.stderr
