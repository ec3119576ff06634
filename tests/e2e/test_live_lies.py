"""A vendor that lies, live: the honest trades beside the lies are all there, and each lie is counted or does what
docs/streaming.md says of it.
"""

import time
from itertools import pairwise
from pathlib import Path

import httpx
from e2e.asked import ask, bars_of
from e2e.conftest import ServerMaker
from e2e.followers import Follower, Values, by_opening, following, rows_of
from e2e.ledger import recorded, stored
from e2e.live_stubs import LiveStub, Row
from e2e.running import Server, asking, until

from timebase.aggregation.rebuild import rebuild
from timebase.model.interval import Interval
from timebase.model.ticks import Trades
from timebase.model.timerange import DAY_US, HOUR_US, MINUTE_US, SECOND_US, TimeRange

SYMBOL, OTHER = "BTC-USDT", "ETH-USDT"
BARS, TRADES = f"bars:{SYMBOL}:1m", f"trades:{SYMBOL}"
MINUTES = 6


def honest(begin_us: int) -> list[Row]:
    """A trade every two seconds, from the middle of a minute on."""
    seconds = range(30, 60 * MINUTES, 2)
    return [(begin_us + s * SECOND_US, 100.0 + s % 13, 1.0 + s % 3, 1 + s) for s in seconds]


def truth_of(rows: list[Row]) -> dict[int, Values]:
    at, price, size, ids = zip(*rows, strict=True)
    return rows_of(rebuild(Trades.of(at, price, size, id=ids), intervals=[Interval.M1])[Interval.M1].bars)


class Liar:
    """What is played of one symbol, message by message, and what of it holds."""

    def __init__(self, stub: LiveStub, follower: Follower, begin_us: int) -> None:
        self.begin_us = begin_us
        self.now_us = begin_us
        self.told: list[Row] = []  # what passes
        self.built: list[Row] = []  # and of that what belongs to a bar
        self._stub = stub
        self._follower = follower
        self._left = honest(begin_us)

    async def tell_the_truth(self, seconds: int) -> None:
        """For so long; returns when it has come."""
        rows = [row for row in self._left if row[0] < self._left[0][0] + seconds * SECOND_US]
        self._left = self._left[len(rows) :]
        await self.say(*rows)
        self.now_us = rows[-1][0]

    async def say(self, *rows: Row, is_built: bool = True) -> None:
        """What nobody can know for a lie; returns when it has come."""
        self._stub.trade(SYMBOL, *rows)
        self.told += rows
        self.built += rows if is_built else ()
        await self._follower.hears(lambda event: event.get("id") == rows[-1][3] and event["price"] == rows[-1][1])

    def lie(self, row: Row, symbol: str = SYMBOL) -> None:
        """What is not to come."""
        self._stub.trade(symbol, row)


async def test_whatever_a_vendor_says_the_honest_trades_are_told_stored_and_built(
    home: Path, serving: ServerMaker
) -> None:
    stub = LiveStub("stub", home / "manifests", home / "stubs")
    begin_us = time.time_ns() // 1000 // MINUTE_US * MINUTE_US - (MINUTES + 1) * MINUTE_US
    with serving(home) as server:
        async with asking(server) as client, following(server, {"channels": [BARS, TRADES]}) as follower:
            liar = Liar(stub, follower, begin_us)
            await follower.hears(lambda event: event.get("state") == "live")
            await _lie(liar)
            stub.play({"pulse": begin_us + MINUTES * MINUTE_US + SECOND_US})
            truth = {at: bar for at, bar in truth_of(liar.built).items() if at > begin_us}  # the first is not whole
            await until(lambda: max(by_opening(follower.bars(BARS, "closed")), default=0) == max(truth))
            await _compare(server, client, follower, liar, truth)
            await _check_counts(client)
        assert "1 came too late to revise a bar" in server.log()


async def _lie(liar: Liar) -> None:
    """Each lie in a message of its own, between two of the truth."""
    await liar.tell_the_truth(70)
    await liar.say((liar.now_us + 1, 100_000.0, 1.0, 5_001))  # a thousand times too much
    await liar.tell_the_truth(10)
    await liar.say((liar.now_us + 1, 100.0, 1.0, -7), (liar.now_us + 2, 101.0, 1.0, -6))  # numbers below zero
    await liar.tell_the_truth(10)
    await liar.say((liar.now_us + 1, 107.5, 2.0, 33))  # the number of another trade, at another time and price
    at_us, _, _, number = liar.told[40]
    liar.lie((at_us, 999.0, 9.0, number))  # the same time and number: the one that came first holds
    await liar.tell_the_truth(10)
    liar.lie((liar.now_us, 55.0, 1.0, 1), OTHER)  # nobody asked for it
    await liar.say((liar.now_us + 1, 100.0, 0.0, 5_002))  # nothing was traded
    await liar.say((liar.now_us - DAY_US, 88.0, 1.0, 5_003), is_built=False)  # yesterday's
    await liar.tell_the_truth(10)
    await liar.say((liar.now_us + 9 * SECOND_US, 103.0, 1.0, 5_004))  # ahead of its time
    for at_us, price, size in (
        (liar.now_us + HOUR_US, 100.0, 1.0),
        (0, 100.0, 1.0),
        (liar.now_us, -1.0, 1.0),
        (liar.now_us, 0.0, 1.0),
        (liar.now_us, 100.0, -1.0),
        (liar.now_us, 1e300, 1.0),
    ):
        liar.lie((at_us, price, size, 6_000))
    await liar.tell_the_truth(60 * MINUTES)


async def _compare(
    server: Server, client: httpx.AsyncClient, follower: Follower, liar: Liar, truth: dict[int, Values]
) -> None:
    events = follower.of(TRADES, "trade")
    assert [b["seq"] - a["seq"] for a, b in pairwise(events)] == [1] * (len(events) - 1)
    told = [(round(event["time"] * 1000), event["price"], event["size"], event["id"]) for event in events]
    assert told == liar.told
    assert sorted(await recorded(server, SYMBOL)) == sorted(liar.told)
    firsts = [event["time"] for event in follower.bars(BARS, "closed", "missing")]
    assert firsts == sorted(set(firsts))
    assert by_opening(follower.bars(BARS, "closed", "revised")) == truth
    assert max(bar[1] for bar in truth.values()) == 100_000.0, "what is a thousand times too much is not guarded"
    assert rows_of(await stored(server, SYMBOL)) == truth
    within = TimeRange(min(truth), max(truth) + MINUTE_US)
    assert rows_of(bars_of(await ask(client, SYMBOL, within, "1m", provider="stub"))) == truth


async def _check_counts(client: httpx.AsyncClient) -> None:
    page = (await client.get("/metrics")).text
    for rule, count in {"time_range": 2, "positive": 2, "size": 1, "finite": 1}.items():
        assert f'timebase_refused_rows_total{{kind="trades",provider="stub",rule="{rule}"}} {count}.0' in page, rule
