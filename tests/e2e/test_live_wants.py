"""What a user of live can do: history and then live at once, one feed for any number of clients, a collector."""

import time
from pathlib import Path
from typing import Any

import trio
from e2e.asked import ask, bars_of
from e2e.conftest import ServerMaker
from e2e.followers import following, rows_of
from e2e.live_stubs import LiveStub, Row
from e2e.running import asking, until

from timebase.model.bars import Flag
from timebase.model.timerange import DAY_US, HOUR_US, MINUTE_US, SECOND_US, Ranges, TimeRange

NOON_US = 20_000 * DAY_US + DAY_US // 2
SYMBOL, BARS, TRADES = "BTC-USDT", "bars:BTC-USDT:1m", "trades:BTC-USDT"
LINGER_S = 1.0


def minutes(first_us: int, end_us: int) -> list[list[float]]:
    """What the vendor's history says."""
    return [[at, 10.0, 12.0, 9.0, 11.0, float(at // MINUTE_US % 50 + 1)] for at in range(first_us, end_us, MINUTE_US)]


def trade(at_us: int, number: int) -> Row:
    return at_us, 10.0 + number % 3, 1.0, number


def now_us() -> int:
    return time.time_ns() // 1000


async def test_one_subscription_gives_the_last_two_hours_and_then_live(home: Path, serving: ServerMaker) -> None:
    stub = LiveStub("stub", home / "manifests", home / "stubs")
    this_minute_us = now_us() // MINUTE_US * MINUTE_US
    stub.tell_truth({SYMBOL: minutes(this_minute_us - 3 * HOUR_US, this_minute_us + HOUR_US)})
    wanted = {"channels": [BARS, TRADES, "quotes:BTC-USDT"], "from": "-2h"}
    with serving(home) as server:
        async with asking(server), following(server, wanted) as follower:
            end = await follower.hears(lambda event: event["type"] == "history_end" and event["channel"] == BARS)
            await follower.hears(lambda event: event.get("state") == "live")
            stub.trade(SYMBOL, trade(now_us(), 1))
            stub.play({"quotes": SYMBOL, "time": [now_us()], "bid": [9], "bid_size": [1], "ask": [11], "ask_size": [1]})
            await follower.hears(lambda event: event["type"] == "trade")
            await follower.hears(lambda event: event["type"] == "quote")
            forming = await follower.hears(lambda event: event.get("status") == "forming")
    history = follower.bars(BARS, "closed")
    assert end["count"] == len(history) in {120, 121}
    opened = [event["time"] for event in history]
    assert opened == list(range(opened[0], opened[0] + 60_000 * len(opened), 60_000))
    assert [event["seq"] for event in history] == list(range(end["seq"] - len(history) + 1, end["seq"] + 1))
    assert forming["time"] - opened[-1] in {60_000, 120_000}, "a minute may end meanwhile"


async def test_any_number_of_clients_cost_one_upstream_feed_which_ends_after_the_last(
    home: Path, serving: ServerMaker
) -> None:
    stub = LiveStub("stub", home / "manifests", home / "stubs")
    wanted = {"channels": [TRADES, BARS, "bars:BTC-USDT:5m", "bars:BTC-USDT:1d"]}
    with serving(home, linger_s=LINGER_S) as server:
        async with asking(server) as client:
            async with trio.open_nursery() as clients, following(server, wanted) as first:
                await first.hears(lambda event: event.get("state") == "live")
                for _ in range(20):
                    clients.start_soon(_follow_one_trade, server, wanted)
                await until(lambda: _followers(client, 4 * 21))
                stub.trade(SYMBOL, trade(NOON_US, 1))
            assert (stub.connections(), stub.wanted()) == (1, [[["trades", SYMBOL]]])
            async with following(server, wanted) as late:  # it comes back within the grace time
                await late.hears(lambda event: event["type"] == "subscribed")
                assert (stub.connections(), stub.wanted()) == (1, [[["trades", SYMBOL]]])
            await until(lambda: stub.wanted()[-1] == [])
            assert stub.connections() == 1
            assert (await client.get("/api/v1/feeds")).json()["feeds"] == []


async def _follow_one_trade(server: Any, wanted: dict[str, Any]) -> None:
    async with following(server, wanted) as follower:
        await follower.hears(lambda event: event["type"] == "trade")


async def _followers(client: Any, n: int) -> bool:
    feeds = (await client.get("/api/v1/feeds")).json()["feeds"]
    return [feed["followers"] for feed in feeds] == [n]


async def test_what_is_collected_is_kept_up_to_date_without_a_client_and_across_a_restart(
    home: Path, serving: ServerMaker
) -> None:
    stub = LiveStub("stub", home / "manifests", home / "stubs")
    first = NOON_US - NOON_US % MINUTE_US
    stub.tell_truth({SYMBOL: minutes(first, first + 30 * MINUTE_US)})
    with serving(home) as server:
        async with asking(server) as client:
            assert (await client.post("/api/v1/collect", json={"symbol": SYMBOL, "interval": "1m"})).status_code == 200
            await _stream(stub, first, 3)
            await until(lambda: _holds(client, first, first + 3 * MINUTE_US))
        assert server.stop() == 0
        server.start()
        async with asking(server) as client:
            (line,) = (await client.get("/api/v1/collect")).json()["collected"]
            assert line["symbol"] == SYMBOL
            await _stream(stub, first + 10 * MINUTE_US, 2, connection=2)
            # The gap, and the minutes in which it joined, are fetched; what came live is not.
            await until(lambda: _holds(client, first, first + 11 * MINUTE_US))
            bars = bars_of(await ask(client, SYMBOL, TimeRange(first, first + 11 * MINUTE_US), "1m"))
            truth = {row[0]: tuple(row[1:]) for row in minutes(first, first + 11 * MINUTE_US)}
            live = [first + MINUTE_US, first + 2 * MINUTE_US]
            assert bars.time[(bars.flags & Flag.BACKFILLED) == 0].tolist() == live
            assert {at: bar for at, bar in rows_of(bars).items() if at not in live} == {
                at: bar for at, bar in truth.items() if at not in live
            }


async def _stream(stub: LiveStub, from_us: int, n: int, *, connection: int = 1) -> None:
    """Trades of n minutes, from the middle of the first one on, and the end of the last."""
    await until(lambda: stub.connections() == connection and stub.wanted()[-1] == [["trades", SYMBOL]])
    half_us = from_us + MINUTE_US // 2
    for number in range(2 * n - 1):  # one by one
        stub.trade(SYMBOL, trade(half_us + number * MINUTE_US // 2, number + 1))
    stub.play({"pulse": from_us + n * MINUTE_US + 5 * SECOND_US})


async def _holds(client: Any, start_us: int, end_us: int) -> bool:
    """Whether the ledger says that it is all there."""
    reply = await client.get(f"/api/v1/coverage/{SYMBOL}")
    if reply.status_code != 200:
        return False
    ledgers = [each["coverage"] for each in reply.json()["series"] if each["interval"] == "1m"]
    parts = (part for ledger in ledgers for part in (*ledger["complete"], *ledger["empty"]))
    held = Ranges.of(TimeRange(first * 1000, last * 1000) for first, last in parts)
    return not Ranges((TimeRange(start_us, end_us),)) - held
