"""A plugin that is killed again and again while ten follow what it streams: nothing is lost, and nothing is left."""

from itertools import pairwise
from pathlib import Path

import httpx
import psutil
import pytest
import trio
from e2e.followers import Follower, by_opening, rows_of, values_of
from e2e.inside import Holdings, holdings, serving_inside
from e2e.live_stubs import LiveStub, Row
from e2e.running import all_ready, states, until

from timebase.aggregation.rebuild import rebuild
from timebase.model.interval import Interval
from timebase.model.ticks import Trades
from timebase.model.timerange import DAY_US, MINUTE_US, SECOND_US
from timebase.supervisor import backoff

NOON_US = 20_000 * DAY_US + DAY_US // 2
KILLS, WARM = 20, 5
FOLLOWERS = 10
LIFE = 3  # minutes of trades between two kills; it is killed in the middle of one
MOST_PAUSE_S = 0.1
PATIENCE_S = 30.0
UNDER_WAY = 5  # what may be, one way or the other, at the moment of looking: fewer than the kills between two looks
GROWTH_BYTES = 16 << 20  # they were 5 MB: what 45 minutes of bars take in caches and rings
BARS, TRADES = "bars:BTC-USDT:1m", "trades:BTC-USDT"


def traded(life: int) -> list[Row]:
    """A trade every seven seconds, from the middle of one minute to the middle of another."""
    seconds = range(60 * LIFE * life + 30, 60 * LIFE * (life + 1) + 30, 7)
    return [(NOON_US + s * SECOND_US, 100.0 + s % 13, 1.0 + s % 3, s) for s in seconds]


def truth() -> dict[int, tuple[float, ...]]:
    time, price, size, ids = zip(*(row for life in range(KILLS + 1) for row in traded(life)), strict=True)
    return rows_of(rebuild(Trades.of(time, price, size, id=ids), intervals=[Interval.M1])[Interval.M1].bars)


async def test_twenty_kills_cost_no_event_and_leave_nothing_behind(
    home: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backoff, "MAX_S", MOST_PAUSE_S)
    stub = LiveStub("stub", home / "manifests", home / "stubs")
    stub.tell_truth({"BTC-USDT": [[at, *values] for at, values in truth().items()]})
    followers = [Follower() for _ in range(FOLLOWERS)]
    async with serving_inside(home, database_url) as server, server.client() as client, trio.open_nursery() as nursery:
        await until(lambda: all_ready(client))
        reply = await client.post("/api/v1/collect", json={"symbol": "BTC-USDT", "interval": "1m"})
        assert reply.is_success, reply.text
        for follower in followers:
            nursery.start_soon(follower.follow, server, {"channels": [BARS, TRADES]})
        warm = await _live_through(stub, client, followers, range(WARM))
        end = await _live_through(stub, client, followers, range(WARM, KILLS))
        stub.trade("BTC-USDT", *traded(KILLS))
        stub.play({"pulse": NOON_US + (LIFE * (KILLS + 1) + 2) * MINUTE_US})
        for follower in followers:
            await until(lambda f=follower: by_opening(f.bars(BARS, "closed", "backfilled")) == truth(), PATIENCE_S)
            _check(follower)
        told = (await states(client))["stub"]
        assert told["restarts"] == KILLS
        assert stub.connections() == KILLS + 1, "one stream for each process"
        nursery.cancel_scope.cancel()
    assert end.zombies == 0
    assert end.descriptors - warm.descriptors < UNDER_WAY, (warm, end)
    assert end.tasks - warm.tasks < UNDER_WAY, (warm, end)
    assert end.kept_bytes - warm.kept_bytes < GROWTH_BYTES, (warm, end)


async def _live_through(stub: LiveStub, client: httpx.AsyncClient, followers: list[Follower], lives: range) -> Holdings:
    """What the process holds after those lives of the plugin, and in the next one."""
    for life in lives:
        for follower in followers:
            await until(lambda f=follower, n=life: f.states(TRADES).count("live") == n + 1, PATIENCE_S)
        stub.trade("BTC-USDT", *traded(life))
        last = traded(life)[-1][3]
        for follower in followers:
            await follower.hears(lambda event, number=last: event.get("id") == number)
        psutil.Process((await states(client))["stub"]["pid"]).kill()
        for follower in followers:
            await until(lambda f=follower, n=life: f.states(TRADES).count("down") == n + 1, PATIENCE_S)
    for follower in followers:
        await until(lambda f=follower, n=lives.stop: f.states(TRADES).count("live") == n + 1, PATIENCE_S)
    return holdings()


def _check(follower: Follower) -> None:
    trades = follower.of(TRADES, "trade")
    assert [event["id"] for event in trades] == [row[3] for life in range(KILLS + 1) for row in traded(life)]
    assert [b["seq"] - a["seq"] for a, b in pairwise(trades)] == [1] * (len(trades) - 1)
    bars = follower.bars(BARS, "closed", "missing", "backfilled", "revised")
    assert [b["seq"] - a["seq"] for a, b in pairwise(bars)] == [1] * (len(bars) - 1)
    firsts = [event["time"] for event in bars if event["status"] in ("closed", "missing")]
    assert firsts == sorted(set(firsts)), "each period once, in order"
    healed = [event["time"] for event in bars if event["status"] == "backfilled"]
    assert len(healed) == len(set(healed))
    assert all(values_of(event) == truth()[event["time"] * 1000] for event in bars if event["status"] == "closed")
    assert not follower.of(BARS, "dropped", "error")
    words = follower.states(TRADES)
    assert words.count("down") == KILLS
    assert [word for word in words if word != "connecting"] == ["live", *["down", "live"] * KILLS]
