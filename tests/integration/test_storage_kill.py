"""kill -9 in the middle: the ledger and the bars agree, and what was told is there."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import trio
from integration.doomed_live_writer import AGAIN, ROWS, TRADES
from integration.doomed_writer import BARS
from integration.market import ALWAYS, MONDAY_US, a_series, minutes
from integration.plug import open_plug
from integration.tape import a_feed, cut_tape, same_ticks, trades, update

from timebase.model.interval import Interval
from timebase.model.timerange import MINUTE_US, Ranges, TimeRange
from timebase.storage.delivery import Delivery
from timebase.storage.spool import open_spool
from timebase.storage.store import Store, open_store
from timebase.storage.writer import Done, Work, run_writer

DOOMED, DOOMED_LIVE, DOOMED_REPLAYER = (
    Path(__file__).with_name(f"doomed_{which}.py") for which in ("writer", "live_writer", "replayer")
)


class Doomed:
    """A running doomed writer and what it has told so far."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self.told: list[tuple[str, int]] = []

    async def listen(self) -> None:
        text = b""
        assert self._process.stdout is not None
        async for data in self._process.stdout:
            *lines, text = (text + data).split(b"\n")
            self.told += [(line.split()[0].decode(), int(line.split()[1])) for line in lines]

    async def has_told(self, n: int) -> None:
        with trio.fail_after(60):
            while len(self.told) < n:  # noqa: ASYNC110
                await trio.sleep(0.002)


@asynccontextmanager
async def open_doomed(url: str, folder: Path, script: Path = DOOMED) -> AsyncIterator[Doomed]:
    """Killed, not ended, when the block is left."""
    command = [sys.executable, script, url, folder]
    # It finds `timebase` and `integration` where this process found them.
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    start = partial(trio.run_process, command, stdout=subprocess.PIPE, check=False, env=environ)
    async with trio.open_nursery() as nursery:
        process = await nursery.start(start)
        doomed = Doomed(process)
        nursery.start_soon(doomed.listen)
        yield doomed
        process.kill()


async def check(store: Store, told_us: int) -> int:
    """Everything that is said to be there is there, and nothing else. Returns: the end of what is there."""
    series = await a_series(store)
    complete = (await store.coverage(series.id)).complete
    stored = await store.read(series, ALWAYS)
    end_us = complete.parts[-1].end_us if complete else MONDAY_US
    assert complete == (Ranges((TimeRange(MONDAY_US, end_us),)) if complete else Ranges())
    assert stored.equals(minutes(BARS).within(MONDAY_US, end_us))
    assert end_us >= told_us
    return end_us


async def test_a_server_killed_while_it_writes_leaves_whole_transactions(
    store: Store, database_url: str, tmp_path: Path
) -> None:
    end_us = MONDAY_US
    for wait in (1, 3, 8, 12, 60):
        async with open_doomed(database_url, tmp_path) as doomed:
            await doomed.has_told(min(wait, (MONDAY_US + BARS * MINUTE_US - end_us) // (20_000 * MINUTE_US)))
        told_us = doomed.told[-1][1]
        store._touch((await a_series(store)).id)
        end_us = await check(store, told_us)
    assert end_us == MONDAY_US + BARS * MINUTE_US


async def test_a_server_killed_while_it_spools_has_lost_nothing_that_it_told(database_url: str, tmp_path: Path) -> None:
    async with open_plug(database_url) as plug:
        async with open_doomed(plug.url, tmp_path) as doomed:
            await doomed.has_told(2)
            await plug.pull()
            while not doomed.told or doomed.told[-1][0] != "spooled":
                await doomed.has_told(len(doomed.told) + 1)
            await doomed.has_told(len(doomed.told) + 5)
        await plug.push()
    told_us = doomed.told[-1][1]
    async with open_store(database_url, tmp_path) as store:
        await drain(store, tmp_path)
        await check(store, told_us)


async def test_a_server_killed_while_it_stores_a_tape_leaves_trades_and_their_bars_together_and_once(
    store: Store, database_url: str, tmp_path: Path
) -> None:
    feed, tape, bars = await a_feed(store), trades(TRADES), minutes(TRADES // ROWS)
    series = feed.bars[Interval.M1]
    assert feed.ticks is not None
    n = 0
    for wait in (1, 5, 20, 60, TRADES // ROWS):
        async with open_doomed(database_url, tmp_path, DOOMED_LIVE) as doomed:
            await doomed.has_told(min(wait, TRADES // ROWS - max(n - AGAIN, 0)))
        store._touch(series.id)
        stored, _ = await store.read_trades(feed.ticks, ALWAYS)
        assert same_ticks(stored, tape.pick(slice(len(stored))))
        assert len(stored) >= doomed.told[-1][1]
        n, rest = divmod(len(stored), ROWS)
        assert rest == 0
        assert (await store.read(series, ALWAYS)).equals(bars.pick(slice(n)))
        assert (await store.coverage(series.id)).complete == Ranges((TimeRange(MONDAY_US, MONDAY_US + n * MINUTE_US),))
    assert n == TRADES // ROWS


async def test_a_server_killed_while_it_replays_live_batches_stores_each_once(
    store: Store, database_url: str, tmp_path: Path
) -> None:
    files, rows = 300, 200
    feed, tape, bars = await a_feed(store), trades(files * rows, first_id=0), minutes(files)
    series = feed.bars[Interval.M1]
    assert feed.ticks is not None
    with open_spool(tmp_path / "spool", 1 << 30) as spool:
        for n, live in enumerate(cut_tape(feed, tape, rows)):
            closing = replace(live, updates=(update(feed, bars.pick(slice(n, n + 1))),))
            await spool.append_live([closing], Delivery(spool.writer))
    left = files
    for gone in (1, 3, 10, 25, files):
        async with open_doomed(database_url, tmp_path, DOOMED_REPLAYER) as doomed:
            with trio.fail_after(60):
                while not doomed.told or doomed.told[-1][1] < min(gone, left):  # noqa: ASYNC110
                    await trio.sleep(0.001)
        left = len(list((tmp_path / "spool").glob("*.batches")))
        stored, commits = await store.read_trades(feed.ticks, ALWAYS)
        assert len(stored) // rows in {files - left, files - left + 1}  # one may be stored, and not deleted yet
        assert same_ticks(stored, tape.pick(slice(len(stored))))
        assert [len(set(commits[first : first + rows])) for first in range(0, len(stored), rows)] == [1] * (
            len(stored) // rows
        )
        assert (await store.read(series, ALWAYS)).equals(bars.pick(slice(len(stored) // rows)))
    assert left == 0
    store._touch(series.id)
    assert (await store.coverage(series.id)).complete == Ranges((TimeRange(MONDAY_US, MONDAY_US + files * MINUTE_US),))


async def drain(store: Store, folder: Path) -> None:
    """What the next start does."""
    with open_spool(folder / "spool", 1 << 30) as spool:
        inlet, inbox = trio.open_memory_channel[Work](4)
        outbox, outlet = trio.open_memory_channel[Done](4)
        async with inlet, outlet, trio.open_nursery() as nursery:
            await nursery.start(run_writer, inbox, outbox, store, spool)
            with trio.fail_after(60):
                while len(spool):  # noqa: ASYNC110
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
