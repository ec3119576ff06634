"""What is collected is streamed without a client, and survives the end of the plugin and of the core."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from e2e.conftest import ServerMaker
from e2e.running import Server, asking, until

HOUSE = Path(__file__).parents[2]


@pytest.fixture
def house(new_home: Callable[[], Path], serving: ServerMaker) -> Iterator[Server]:
    """A server with the bundled demo alone."""
    home = new_home()
    shutil.copytree(HOUSE / "manifests" / "demo", home / "manifests" / "demo")
    with serving(home) as server:
        yield server


async def test_a_collected_symbol_is_live_again_after_its_plugin_and_after_the_core_were_killed(house: Server) -> None:
    async with asking(house) as client:
        added = house.run("collect", "add", "DEMO-CRYPTO")
        assert b"DEMO-CRYPTO" in added.stdout, added.stderr.decode()
        feed = await until(lambda: live_feed(client))
        assert (feed["provider"], feed["is_collected"], feed["made"]) == ("demo", True, 1)
        assert [owed["interval"] for owed in feed["healing"]] == ["1m"]  # the minute in which it has joined

        os.kill(next(each["pid"] for each in await providers(client)), signal.SIGKILL)
        await until(lambda: live_feed(client, made=2))

    house.kill()
    house.start()
    async with asking(house) as client:
        feed = await until(lambda: live_feed(client))
        assert feed["channels"] == ["bars:DEMO-CRYPTO:1m"]
        assert house.run("collect", "remove", "DEMO-CRYPTO").returncode == 0
        await until(lambda: no_feed(client))
    assert house.errors() == []


async def live_feed(client: httpx.AsyncClient, made: int = 1) -> dict[str, Any] | None:
    """One that has had data, and owes the minute in which that began."""
    feeds = (await client.get("/api/v1/feeds")).json()["feeds"]
    is_back = (feed for feed in feeds if feed["state"] == "live" and feed["made"] >= made and feed["healing"])
    return next(is_back, None)


async def no_feed(client: httpx.AsyncClient) -> bool:
    return (await client.get("/api/v1/feeds")).json() == {"feeds": []}


async def providers(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    return (await client.get("/api/v1/providers")).json()["providers"]
