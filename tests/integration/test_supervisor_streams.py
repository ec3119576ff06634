"""Streams of real plugin processes, down to the raw channel: wanted and not, fast, killed, stalled, silent, broken."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count, pairwise
from pathlib import Path

import numpy as np
import psutil
import pytest
import trio
import trio.testing

from timebase.errors import AuthFailed, ProviderError, SymbolNotFound, Unavailable, Unsupported, Upstream
from timebase.model.bars import Batch, Flag
from timebase.model.demand import Demand
from timebase.model.feed import Feed, FeedKind
from timebase.model.instrument import AssetClass, Instrument
from timebase.model.interval import Interval
from timebase.model.live import Arrival, Live
from timebase.model.series import Series
from timebase.model.timerange import MINUTE_US, TimeRange
from timebase.supervisor.handle import ProviderHandle
from timebase.supervisor.roster import Roster
from timebase.supervisor.settings import SupervisorSettings
from timebase.supervisor.supervisor import run_supervisor
from timebase.wire.envelope import BATCH_ROWS

LONG_S = 40.0  # nobody waits that long unless something is broken

MANIFEST = """\
name: The Singer
slug: singer
version: 1
entrypoint: provider.py:Singer
capabilities: [real_time_streaming]
data_types: [stocks]
intervals: [1m]
streams: [trades, quotes, bars]
"""

SINGER = """\
import os, time
from array import array
import anyio
from timebase.sdk import *

class Singer(Provider):
    backend = "asyncio"

    async def stream(self, stream):
        async with anyio.create_task_group() as songs:
            sung = {}
            while True:
                wanted = stream.wanted
                for feed in wanted:
                    if feed.id not in sung:
                        sung[feed.id] = anyio.CancelScope()
                        songs.start_soon(self.sing, stream, feed, sung[feed.id])
                for id_ in sung.keys() - {feed.id for feed in wanted}:
                    sung.pop(id_).cancel()
                await stream.changed()

    async def sing(self, stream, feed, scope):
        with scope:
            await getattr(self, feed.symbol.lower())(stream, feed)

    async def steady(self, stream, feed):
        await stream.up(feed)
        for at in range(10**9):
            await stream.trades(feed, at, 10.0, 1.0, BUY, at + 1)
            await anyio.sleep(0.001)

    async def fast(self, stream, feed):
        await stream.up(feed)
        ones = array("d", [1.0]) * 100
        for first in range(0, 10**9, 100):
            await stream.trades(feed, array("q", range(first, first + 100)), ones, ones)

    async def huge(self, stream, feed):
        await stream.up(feed)
        rows = 10_000_000
        ones = array("d", [1.0]) * rows
        await stream.trades(feed, array("q", range(rows)), ones, ones)
        await stream.pulse(rows, feed)

    async def single(self, stream, feed):
        await stream.up(feed)
        for at in range(10**9):
            await stream.trades(feed, at, 10.0, 1.0, BUY, at + 1)

    async def mute(self, stream, feed):
        await stream.up(feed)

    async def every(self, stream, feed):
        await stream.up(feed)
        match feed.kind:
            case "trades":
                await stream.trades(feed, 1, 10.0, 2.0, SELL, 7, CANCEL)
            case "quotes":
                await stream.quotes(feed, 2, 9.0, 1.0, 11.0, 2.0)
            case "bars":
                ones = [1.0, 1.0]
                await stream.bars(feed, Bars([0, 60_000_000], ones, ones, ones, ones, ones), [True, False])
        await stream.pulse(3_000_000, feed)
        await stream.down("lost " + self.secrets.get("key", ""), feed)

    async def unknown(self, stream, feed):
        await stream.trades(feed, 1, 1.0, 1.0)
        await stream.refuse(feed, SymbolNotFound("no UNKNOWN here"))

    async def auth(self, stream, feed):
        await stream.refuse(feed, AuthFailed("the key was refused"))

    async def frozen(self, stream, feed):
        await stream.trades(feed, 1, 1.0, 1.0)
        await anyio.sleep(0.1)
        time.sleep(1000)

    async def garbage(self, stream, feed):
        await stream.trades(feed, 1, 1.0, 1.0)
        await stream.trades(feed, 2, 1.0, 1.0, side=7)

    async def broken(self, stream, feed):
        await stream.trades(feed, 1, 1.0, 1.0)
        raise Upstream("everything is broken")

    async def gone(self, stream, feed):
        await stream.trades(feed, 1, 1.0, 1.0)
        await anyio.sleep(0.1)
        os._exit(3)

    async def history(self, request):
        return Bars([request.start_us], [1.0], [1.0], [1.0], [1.0], [1.0])
"""


@dataclass
class World:
    roster: Roster
    raw: trio.MemoryReceiveChannel[Batch | Live]
    folder: Path
    ended: list[tuple[Feed, ProviderError]] = field(default_factory=list)

    def handle(self) -> ProviderHandle:
        handle = self.roster.get("singer")
        assert handle is not None
        return handle

    async def ready(self) -> ProviderHandle:
        with trio.fail_after(LONG_S):
            await self.handle().wait_ready()
        return self.handle()

    async def reach(self, state: str) -> None:
        with trio.fail_after(LONG_S):
            while self.handle().state != state:  # noqa: ASYNC110 - processes set no event
                await trio.sleep(0.01)

    async def next(self) -> Arrival:
        """The only arrival of the next message."""
        (arrival,) = await self.message()
        return arrival

    async def message(self) -> tuple[Arrival, ...]:
        with trio.fail_after(LONG_S):
            live = await self.raw.receive()
        assert isinstance(live, Live)
        return live.arrivals

    async def down(self, feed: Feed) -> Arrival:
        """Wait until it goes down; what came before is passed over."""
        while True:
            for arrival in await self.message():
                if arrival.feed == feed and arrival.is_up is False:
                    return arrival


ids = count(100)


def a_feed(symbol: str, kind: FeedKind = FeedKind.TRADES) -> Feed:
    interval = Interval.M1 if kind is FeedKind.BARS else None
    bars = {Interval.M1: Series(1, 1, symbol, "singer", Interval.M1)}
    return Feed(next(ids), kind, Instrument(1, symbol, AssetClass.STOCK), "singer", interval, bars=bars)


@asynccontextmanager
async def supervised(
    tmp_path: Path, *, code: str = SINGER, manifest: str = MANIFEST, room: float = 4, ping_s: float = 5.0
) -> AsyncIterator[World]:
    raw_in, raw_out = trio.open_memory_channel[Batch | Live](room)
    folder = tmp_path / "manifests/singer"
    folder.mkdir(parents=True)
    (folder / "provider.py").write_text(code)
    (folder / "config.yaml").write_text(manifest)
    world = World(Roster(), raw_out, folder)
    world.roster.on_feed_end.append(lambda feed, error: world.ended.append((feed, error)))

    async def spend(slug: str, n: int) -> None:
        pass

    environ = {"PATH": os.environ["PATH"], "KEY": "hush-hush"}
    settings = SupervisorSettings((folder.parent,), tmp_path / "data", environ, ping_s=ping_s)
    with trio.fail_after(2 * LONG_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(run_supervisor, settings, world.roster, raw_in, spend)
            yield world
            nursery.cancel_scope.cancel()


async def trade_ids(world: World, n: int) -> list[int]:
    """Of the next `n` trades at least."""
    found: list[int] = []
    while len(found) < n:
        for arrival in await world.message():
            found += arrival.trades.id.tolist() if arrival.trades is not None else []
    return found


# Much at once


async def test_ten_million_trades_put_at_once_come_in_pieces_and_all_of_them(tmp_path: Path) -> None:
    async with supervised(tmp_path) as world:
        handle = await world.ready()
        feed = a_feed("HUGE")
        handle.subscribe(feed)
        assert (await world.next()).is_up
        seen = 0
        while seen < 10_000_000:
            for arrival in await world.message():
                if arrival.trades is not None:
                    time = arrival.trades.time
                    assert len(time) <= BATCH_ROWS
                    assert (time[0], time[-1]) == (seen, seen + len(time) - 1)
                    seen += len(time)
        assert (await world.next()).pulse_us == 10_000_000
        assert handle.lives == 1, "it needs no more memory than it may have"


# What is wanted


async def test_every_kind_comes_down_the_road_in_its_order(tmp_path: Path) -> None:
    async with supervised(tmp_path, manifest=MANIFEST + "secrets: {key: {env: KEY}}\n") as world:
        handle = await world.ready()
        for kind in FeedKind:
            feed = a_feed("EVERY", kind)
            handle.subscribe(feed)
            arrivals = [await world.next() for _ in range(4)]
            assert {arrival.feed.id for arrival in arrivals} == {feed.id}
            up, data, pulse, down = arrivals
            assert (up.is_up, pulse.pulse_us) == (True, 3_000_000)
            assert (down.is_up, down.reason) == (False, "lost ***")
            assert [a.received_us for a in arrivals] == sorted(a.received_us for a in arrivals)
            if kind is FeedKind.TRADES:
                assert data.trades is not None
                assert [column.tolist() for column in data.trades.columns()] == [[1], [10.0], [2.0], [-1], [7], [1]]
                assert [column.dtype for column in data.trades.columns()][3] == np.int8
            elif kind is FeedKind.QUOTES:
                assert data.quotes is not None
                assert [column.tolist() for column in data.quotes.columns()] == [[2], [9.0], [1.0], [11.0], [2.0]]
            else:
                assert data.bars is not None
                assert data.bars.flags.tolist() == [0, Flag.FORMING]
            handle.unsubscribe(feed)


async def test_feeds_come_and_go_while_others_run(tmp_path: Path) -> None:
    async with supervised(tmp_path) as world:
        handle = await world.ready()
        steady, mute = a_feed("STEADY"), a_feed("MUTE")
        handle.subscribe(steady)
        assert await trade_ids(world, 5)
        handle.subscribe(mute)
        while mute.id not in {arrival.feed.id for arrival in await world.message()}:
            pass
        handle.unsubscribe(steady)
        handle.subscribe(again := a_feed("EVERY"))
        told: list[int] = []
        while not told or told[-1] != again.id:
            told += [arrival.feed.id for arrival in await world.message()]
        assert told.count(steady.id) <= 4  # what was in the channel already
        handle.subscribe(steady)
        while not any(arrival.is_up and arrival.feed == steady for arrival in await world.message()):
            pass
        assert (await trade_ids(world, 1))[0] == 1


async def test_a_feed_is_subscribed_once_however_often_it_is_asked_for(tmp_path: Path) -> None:
    async with supervised(tmp_path) as world:
        handle = await world.ready()
        handle.subscribe(feed := a_feed("STEADY"))
        handle.subscribe(feed)
        ids = await trade_ids(world, 20)
        assert ids == list(range(1, len(ids) + 1))


async def test_questions_are_answered_while_a_stream_runs(tmp_path: Path) -> None:
    async with supervised(tmp_path, room=1_000) as world:
        handle = await world.ready()
        handle.subscribe(a_feed("STEADY"))
        series = Series(1, 1, "ANY", "singer", Interval.M1)
        asked = Demand(7, series, Instrument(1, "ANY", AssetClass.STOCK), TimeRange(0, 10 * MINUTE_US))
        with trio.fail_after(LONG_S):
            await handle.history(asked)


# What cannot be had


async def test_a_provider_that_does_not_stream_or_is_not_ready_says_so(tmp_path: Path) -> None:
    async with supervised(tmp_path, code=SINGER.replace("def stream", "def strum")) as world:
        with pytest.raises(Unavailable, match="starting"):
            world.handle().subscribe(a_feed("STEADY"))
        handle = await world.ready()
        with pytest.raises(Unsupported, match="does not stream"):
            handle.subscribe(a_feed("STEADY"))
        await world.roster.disable("singer")
        with pytest.raises(Unavailable, match="switched off"):
            handle.subscribe(a_feed("STEADY"))
        handle.unsubscribe(a_feed("STEADY"))


async def test_a_refused_subscription_ends_alone_after_what_came_before(tmp_path: Path) -> None:
    async with supervised(tmp_path) as world:
        handle = await world.ready()
        unknown, mute = a_feed("UNKNOWN"), a_feed("MUTE")
        handle.subscribe(mute)
        assert (await world.next()).is_up
        handle.subscribe(unknown)
        data, down = await world.next(), await world.next()
        assert data.trades is not None
        assert (down.is_up, down.reason) == (False, "unknown_symbol: no UNKNOWN here")
        await trio.testing.wait_all_tasks_blocked()
        ((feed, error),) = world.ended
        assert feed == unknown
        assert isinstance(error, SymbolNotFound)
        handle.subscribe(steady := a_feed("STEADY"))
        assert (await world.next()).feed == steady


async def test_a_stream_that_raises_ends_all_feeds_and_can_be_asked_again(tmp_path: Path) -> None:
    async with supervised(tmp_path) as world:
        handle = await world.ready()
        for _ in range(2):
            mute, broken = a_feed("MUTE"), a_feed("BROKEN")
            handle.subscribe(mute)
            handle.subscribe(broken)
            await world.down(broken)
            await trio.testing.wait_all_tasks_blocked()
            assert {feed.id for feed, _ in world.ended} == {mute.id, broken.id}
            assert [type(error) for _, error in world.ended] == [Upstream, Upstream]
            world.ended.clear()
        assert handle.state == "ready"
        assert handle.last_error == "upstream: everything is broken"


async def test_a_key_that_is_refused_stops_the_provider(tmp_path: Path) -> None:
    async with supervised(tmp_path) as world:
        handle = await world.ready()
        handle.subscribe(feed := a_feed("AUTH"))
        assert (await world.down(feed)).reason == "auth: the key was refused"
        await world.reach("failed_auth")
        assert isinstance(world.ended[0][1], AuthFailed)


# Falls


async def test_a_killed_plugin_takes_its_feeds_down_after_what_had_come(tmp_path: Path) -> None:
    async with supervised(tmp_path) as world:
        handle = await world.ready()
        steady, mute = a_feed("STEADY"), a_feed("MUTE")
        handle.subscribe(steady)
        handle.subscribe(mute)
        seen = await trade_ids(world, 50)
        before = handle.pid
        os.kill(before or 0, signal.SIGKILL)
        last: tuple[Arrival, ...] = ()
        while not any(arrival.is_up is False for arrival in last):
            last = await world.message()
            seen += [id_ for arrival in last if arrival.trades is not None for id_ in arrival.trades.id.tolist()]
        assert {arrival.feed.id for arrival in last if arrival.is_up is False} == {steady.id, mute.id}
        why = "singer is backing off: was ended by SIGKILL"
        assert {arrival.reason for arrival in last} == {f"unavailable: {why}"}
        assert seen == list(range(1, len(seen) + 1))
        await trio.testing.wait_all_tasks_blocked()
        assert {(feed.id, str(error)) for feed, error in world.ended} == {(steady.id, why), (mute.id, why)}

        with trio.fail_after(LONG_S):
            while handle.state != "ready" or handle.pid == before:  # noqa: ASYNC110 - processes set no event
                await trio.sleep(0.01)
        handle.subscribe(steady)
        assert (await trade_ids(world, 1))[0] == 1


async def test_a_plugin_that_exits_by_itself_takes_its_feeds_down(tmp_path: Path) -> None:
    async with supervised(tmp_path) as world:
        (await world.ready()).subscribe(feed := a_feed("GONE"))
        await world.down(feed)
        await trio.testing.wait_all_tasks_blocked()
        assert [ended for ended, _ in world.ended] == [feed]


async def test_a_plugin_that_hangs_takes_its_feeds_down_when_it_is_found_out(tmp_path: Path) -> None:
    async with supervised(tmp_path, ping_s=0.3) as world:
        (await world.ready()).subscribe(feed := a_feed("FROZEN"))
        await world.down(feed)
        await world.reach("backing_off")
        await trio.testing.wait_all_tasks_blocked()
        assert "answered no ping" in world.handle().reason
        assert [ended for ended, _ in world.ended] == [feed]


async def test_rows_that_cannot_be_end_the_process_after_the_good_ones(tmp_path: Path) -> None:
    async with supervised(tmp_path) as world:
        (await world.ready()).subscribe(feed := a_feed("GARBAGE"))
        down = await world.down(feed)
        assert "does not speak the protocol: side" in down.reason
        await world.reach("backing_off")


async def test_a_plugin_that_streams_nothing_lives_on_and_answers(tmp_path: Path) -> None:
    async with supervised(tmp_path, ping_s=0.05) as world:
        handle = await world.ready()
        handle.subscribe(a_feed("MUTE"))
        assert (await world.next()).is_up
        for _ in range(100):
            await handle._link.ping()  # type: ignore[union-attr]
        assert handle.state == "ready"
        assert world.ended == []


@pytest.mark.parametrize("order", ["restart", "disable", "remove"])
async def test_an_order_of_the_operator_takes_the_feeds_down(tmp_path: Path, order: str) -> None:
    async with supervised(tmp_path) as world, trio.open_nursery() as nursery:
        (await world.ready()).subscribe(feed := a_feed("MUTE"))
        assert (await world.next()).is_up
        if order == "remove":
            (world.folder / "config.yaml").unlink()
        else:
            nursery.start_soon(getattr(world.roster, order), "singer")
        await world.down(feed)
        await trio.testing.wait_all_tasks_blocked()
        assert [ended for ended, _ in world.ended] == [feed]


async def test_a_core_that_is_stalled_slows_the_plugin_whose_memory_stays(tmp_path: Path) -> None:
    async with supervised(tmp_path, room=1) as world:
        handle = await world.ready()
        handle.subscribe(a_feed("FAST"))
        assert (await world.next()).is_up
        plugin = psutil.Process(handle.pid)
        await until_quiet(plugin)
        before, core_before = plugin.memory_info().rss, psutil.Process().memory_info().rss
        for _ in range(200):  # nobody reads, and it is asked whether it is alive
            await handle._link.ping()  # type: ignore[union-attr]
        await until_quiet(plugin)
        assert plugin.memory_info().rss - before < 4 << 20
        assert psutil.Process().memory_info().rss - core_before < 16 << 20
        times: list[int] = []
        while len(times) < 600_000:
            for arrival in await world.message():
                times += arrival.trades.time.tolist() if arrival.trades is not None else []
        assert all(after - before == 1 for before, after in pairwise(times))
        assert times[0] == 0


async def until_quiet(process: psutil.Process) -> None:
    """Until it has nothing to do any more: it waits for credit."""
    with trio.fail_after(LONG_S):
        used = -1.0
        while (now := sum(process.cpu_times()[:2])) != used:
            used = now
            await trio.sleep(0.2)


# Speed: told, not asserted


@pytest.mark.parametrize("symbol", ["FAST", "SINGLE"])
async def test_trades_come_through_at_the_pace_of_the_core(tmp_path: Path, symbol: str) -> None:
    async with supervised(tmp_path) as world:
        (await world.ready()).subscribe(a_feed(symbol))
        assert (await world.next()).is_up
        rows, messages, began = 0, 0, trio.current_time()
        while rows < 300_000:
            for arrival in await world.message():
                assert arrival.trades is not None
                rows += len(arrival.trades)
                messages += 1
        took_s = trio.current_time() - began
        print(f"{symbol}: {rows / took_s:,.0f} trades/s in messages of {rows / messages:,.0f}")
