"""schema/protocol.md is enough to write a plugin: one in plain Node.js, without our code, talks to the core."""

import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
import trio

from timebase.errors import AuthFailed, RateLimited, SymbolNotFound, Unavailable, Unsupported
from timebase.link.address import open_run_directory
from timebase.link.inflow import Delivery
from timebase.link.provider_link import ProviderLink, open_link
from timebase.model.bars import Bars
from timebase.model.demand import Demand
from timebase.model.feed import Feed, FeedKind
from timebase.model.instrument import AssetClass, CorporateAction, Instrument
from timebase.model.interval import Interval
from timebase.model.series import Series
from timebase.model.ticks import Trades
from timebase.model.timerange import DAY_US, MINUTE_US, TimeRange

PROVIDER = Path(__file__).parent / "node_provider" / "provider.mjs"
NODE = shutil.which("node")
START_US = 20_000 * DAY_US

pytestmark = pytest.mark.skipif(NODE is None, reason="needs Node.js")


class Node:
    def __init__(self, link: ProviderLink, process: trio.Process) -> None:
        self.link = link
        self.process = process
        self.spent: list[int] = []
        self.logged: list[tuple[str, str]] = []
        self.is_broke = False

    async def spend(self, n: int) -> None:
        await trio.lowlevel.checkpoint()
        if self.is_broke:
            raise RateLimited("nothing left today", retry_after_s=30.0)
        self.spent.append(n)

    def log(self, level: str, text: str) -> None:
        self.logged.append((level, text))

    async def hello(self, key: str = "right", **options: object) -> tuple[str, ...]:
        secrets = {"key": key}
        return await self.link.hello(slug="node", options=options, secrets=secrets, cache_dir="/nowhere")

    async def ask(self, symbol: str, n: int, interval: Interval = Interval.M1) -> tuple[list[CorporateAction], Bars]:
        bars, actions = [], []
        async with self.link.history(a_demand(symbol, n, interval)) as answer:
            async for part in answer:
                if isinstance(part, Bars):
                    bars.append(part)
                else:
                    actions.extend(part)
        assert answer.warnings == ("these prices are computed",)
        return actions, Bars.concat(bars)


def a_demand(symbol: str, n: int, interval: Interval = Interval.M1) -> Demand:
    series = Series(1, 1, symbol, "node", interval)
    return Demand(1, series, Instrument(1, symbol, AssetClass.STOCK), TimeRange(START_US, START_US + n * MINUTE_US))


@asynccontextmanager
async def node() -> AsyncIterator[Node]:
    assert NODE is not None
    with open_run_directory() as directory, trio.fail_after(30):
        address = directory.new_address()
        environ = {"PATH": os.environ["PATH"], "TIMEBASE_LINK": address}
        async with open_link(address) as link, trio.open_nursery() as nursery:
            process = await trio.lowlevel.open_process([NODE, str(PROVIDER)], env=environ, stdin=subprocess.PIPE)
            peer = Node(link, process)
            nursery.start_soon(run_until_gone, peer)
            try:
                yield peer
            finally:
                process.kill()
                with trio.CancelScope(shield=True):
                    await process.wait()
                nursery.cancel_scope.cancel()


async def run_until_gone(peer: Node) -> None:
    with pytest.raises(Unavailable):
        await peer.link.run(peer.spend, peer.log)


async def test_it_shakes_hands_answers_pings_and_logs() -> None:
    async with node() as peer:
        assert await peer.hello() == ("history", "symbols", "stream")
        assert peer.link.peer == "node-plain/1"
        await peer.link.ping()
        assert peer.logged == [("info", "node is set up, grüezi")]


async def test_its_bars_arrive_as_it_computed_them() -> None:
    async with node() as peer:
        await peer.hello()
        actions, bars = await peer.ask("NODE", 100_000)
        assert actions == [CorporateAction(1_577_836_800_000_000, "split", 2.0)]
        assert len(bars) == 100_000
        assert (bars.time == START_US + MINUTE_US * np.arange(100_000)).all()
        opens = 100 + (bars.time // MINUTE_US % 1000) / 8
        assert (bars.open == opens).all()
        assert (bars.high == opens + 2).all()
        assert (bars.low == opens - 2).all()
        assert (bars.close == opens + 1).all()
        assert (bars.volume == 10).all()


async def test_it_waits_for_credit() -> None:
    async with node() as peer:
        await peer.hello(page_rows=1)
        _, bars = await peer.ask("NODE", 200)
        assert len(bars) == 200


async def test_it_stops_when_nobody_waits_any_more() -> None:
    async with node() as peer:
        await peer.hello(page_rows=1)
        async with peer.link.history(a_demand("NODE", 1_000)) as answer:
            await anext(answer)
        _, bars = await peer.ask("NODE", 3)
        assert len(bars) == 3


async def test_its_errors_are_typed() -> None:
    async with node() as peer:
        await peer.hello()
        with pytest.raises(SymbolNotFound, match="no OTHER here"):
            await peer.ask("OTHER", 1)
        with pytest.raises(Unsupported, match="no 1wk bars here"):
            await peer.ask("NODE", 1, Interval.W1)
        with pytest.raises(RateLimited, match="slow down") as raised:
            await peer.ask("LIMITED", 1)
        assert raised.value.retry_after_s == 1.5


async def test_a_wrong_key_is_told_at_setup() -> None:
    async with node() as peer:
        with pytest.raises(AuthFailed, match="the key is wrong"):
            await peer.hello(key="wrong")


async def test_it_pays_for_its_pages() -> None:
    async with node() as peer:
        await peer.hello()
        _, bars = await peer.ask("PAGED", 5)
        assert len(bars) == 5
        assert peer.spent == [2]
        peer.is_broke = True
        with pytest.raises(RateLimited, match="nothing left today") as raised:
            await peer.ask("PAGED", 5)
        assert raised.value.retry_after_s == 30.0


async def test_it_names_its_symbols() -> None:
    async with node() as peer:
        await peer.hello()
        assert await peer.link.symbols("N", 5) == (Instrument(0, "NODE", AssetClass.STOCK, "Node Ltd"),)


def a_feed(id_: int, symbol: str = "NODE", kind: FeedKind = FeedKind.TRADES) -> Feed:
    return Feed(id_, kind, Instrument(1, symbol, AssetClass.STOCK), "node")


async def taken(peer: Node) -> Delivery:
    delivery = await peer.link.next_delivery()
    assert delivery is not None
    peer.link.delivered()
    return delivery


async def test_its_trades_arrive_as_it_computed_them_while_feeds_come_and_go() -> None:
    async with node() as peer:
        await peer.hello()
        one, two = a_feed(1), a_feed(2)
        peer.link.subscribe(one)
        first = await taken(peer)
        assert [(arrival.feed, arrival.is_up) for arrival in first.arrivals] == [(one, True)]
        peer.link.subscribe(two)
        parts: dict[int, list[Trades]] = {1: [], 2: []}
        while sum(map(len, parts[2])) < 2_000:
            for arrival in (await taken(peer)).arrivals:
                parts[arrival.feed.id] += [] if arrival.trades is None else [arrival.trades]
        peer.link.unsubscribe(one)
        later = [arrival for _ in range(5) for arrival in (await taken(peer)).arrivals]
        assert {arrival.feed.id for arrival in later} == {2}
        for told in parts.values():
            trades = Trades.concat(told)
            numbers = np.arange(1, len(trades) + 1)
            assert (trades.id == numbers).all()
            assert (trades.time == 1_577_836_800_000_000 + 1_000 * numbers).all()
            assert (trades.price == 100 + numbers % 1_000 / 8).all()
            assert (trades.size == 0.5).all()
            assert (trades.side == numbers % 3 - 1).all()
            assert not trades.flags.any()


async def test_its_stream_waits_for_credit_and_goes_on_without_a_gap() -> None:
    async with node() as peer:
        await peer.hello()
        peer.link.subscribe(a_feed(1))
        await peer.link.next_delivery()
        for _ in range(100):  # its credit is used up long before
            await peer.link.ping()
        ids: list[int] = []
        while len(ids) < 3_000:
            for arrival in (await taken(peer)).arrivals:
                ids += [] if arrival.trades is None else arrival.trades.id.tolist()
        assert ids == list(range(1, len(ids) + 1))


async def test_its_pulse_says_how_far_it_is() -> None:
    async with node() as peer:
        await peer.hello()
        peer.link.subscribe(a_feed(1))
        newest = pulse_us = 0
        while not pulse_us:
            for arrival in (await taken(peer)).arrivals:
                newest = newest if arrival.trades is None else int(arrival.trades.time[-1])
                pulse_us = arrival.pulse_us or 0
        assert pulse_us == newest


async def test_it_refuses_feeds_that_it_does_not_have() -> None:
    async with node() as peer:
        await peer.hello()
        for feed, kind in ((a_feed(1, "OTHER"), SymbolNotFound), (a_feed(2, kind=FeedKind.QUOTES), Unsupported)):
            peer.link.subscribe(feed)
            ((ended, error),) = (await taken(peer)).ends
            assert ended == feed
            assert isinstance(error, kind)


async def test_it_leaves_when_asked() -> None:
    async with node() as peer:
        await peer.hello()
        await peer.link.shutdown()
        assert await peer.process.wait() == 0


async def test_it_dies_with_its_parent() -> None:
    async with node() as peer:
        await peer.hello()
        assert peer.process.stdin is not None
        await peer.process.stdin.aclose()
        assert await peer.process.wait() == 0
