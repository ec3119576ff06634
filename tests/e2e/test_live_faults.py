"""Acceptance of live, 3: a feed that is connected but mute is made anew, and nobody is stormed."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
from e2e.conftest import ServerMaker
from e2e.followers import Follower, following
from e2e.live_stubs import LiveStub
from e2e.running import Server, asking, states, until

from timebase.model.timerange import DAY_US, SECOND_US
from timebase.supervisor.backoff import FACTOR, FIRST_S, JITTER

NOON_US = 20_000 * DAY_US + DAY_US // 2
PACED = 25  # enough trades for a rhythm
FAILS_S = 12.0  # how long it takes to fail four times in a row, and some patience
PAUSE = re.compile(r"trades:(\S+)@(\S+): .*; made anew in ([0-9.]+) s$", re.MULTILINE)


async def feed_of(client: httpx.AsyncClient, symbol: str) -> dict[str, Any]:
    feeds = (await client.get("/api/v1/feeds")).json()["feeds"]
    return next((feed for feed in feeds if feed["symbol"] == symbol), {})


async def has_failed(client: httpx.AsyncClient, symbol: str, times: int) -> dict[str, Any] | None:
    feed = await feed_of(client, symbol)
    return feed if feed.get("attempts", 0) >= times else None


def pauses_of(server: Server, symbol: str) -> list[float]:
    """What it said that it would wait after each failure."""
    return [float(pause) for of, _, pause in PAUSE.findall(server.log()) if of == symbol]


def are_growing(pauses: Sequence[float]) -> bool:
    """As the back-off says, each with a jitter of its own; the log has tenths of a second."""
    usual = [FIRST_S * FACTOR**n for n in range(len(pauses))]
    return all(
        (1 - JITTER) * u - 0.051 <= pause <= (1 + JITTER) * u + 0.051 for pause, u in zip(pauses, usual, strict=True)
    )


async def speak(stub: LiveStub, follower: Follower, first: int) -> None:
    """Trades, one by one."""
    for number in range(first, first + PACED):
        stub.trade("MUTE-USDT", (NOON_US + number * SECOND_US, 100.0, 1.0, number))
        await follower.hears(lambda event, number=number: event.get("id") == number)


async def test_a_feed_that_is_connected_but_mute_is_made_anew(home: Path, serving: ServerMaker) -> None:
    stub = LiveStub("stub", home / "manifests", home / "stubs")
    with serving(home) as server:
        async with asking(server) as client, following(server, {"channels": ["trades:MUTE-USDT"]}) as follower:
            await follower.hears(lambda event: event.get("state") == "live")
            await speak(stub, follower, 1)
            assert stub.connections() == 1
            mute = await follower.hears(lambda event: event.get("state") == "mute")
            assert "no pulse of the vendor's" in mute["reason"]
            assert await until(lambda: stub.connections() == 2)
            feed = await feed_of(client, "MUTE-USDT")
            assert (feed["attempts"], feed["made"]) == (1, 2)
            await speak(stub, follower, PACED + 1)
            assert follower.states("trades:MUTE-USDT")[-1] == "live"
            assert stub.connections() == 2


async def test_a_vendor_who_fails_at_once_is_asked_less_and_less_often(home: Path, serving: ServerMaker) -> None:
    symbols = [f"FAIL{n}-USDT" for n in range(8)]
    wanted = {"channels": [f"trades:{symbol}" for symbol in symbols]}
    stub = LiveStub("stub", home / "manifests", home / "stubs")
    stub.go_wrong(raises="no route to the vendor")
    with serving(home) as server:
        async with asking(server) as client, following(server, wanted) as follower:
            feed = await until(lambda: has_failed(client, symbols[0], 4), FAILS_S)
            assert feed["state"] == "down"
            assert feed["retry_in_s"] > 0
            assert "no route to the vendor" in feed["reason"]
            assert follower.states(f"trades:{symbols[0]}")[-1] == "down"
            for symbol in symbols:
                assert are_growing(pauses_of(server, symbol)), (symbol, pauses_of(server, symbol))
            assert stub.connections() <= 6, "each time one for all of them"
            stub.go_wrong()
            await until(lambda: len(stub.wanted()) and len(stub.wanted()[-1]) == len(symbols))


async def test_a_provider_that_dies_whenever_it_streams_is_started_less_and_less_often(
    home: Path, serving: ServerMaker
) -> None:
    stub = LiveStub("stub", home / "manifests", home / "stubs")
    stub.go_wrong(dies=True)
    with serving(home) as server:
        async with asking(server) as client, following(server, {"channels": ["trades:DIES-USDT"]}):
            assert await until(lambda: has_failed(client, "DIES-USDT", 3), FAILS_S)
            restarts = (await states(client))["stub"]["restarts"]
            assert 1 <= restarts <= 3
            assert stub.connections() <= restarts + 1
