"""What waited on disk is stored once, whatever breaks meanwhile; what found no room is said to be missing."""

import errno
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trio
from integration.desk import Desk, open_desk
from integration.market import ALWAYS, MONDAY_US, batch, flat, minutes
from integration.tape import a_feed, barred, cut_tape, quotes, same_ticks, ticked, trades, update, word

from timebase.model.feed import Feed, FeedKind
from timebase.model.interval import Interval
from timebase.model.live import BarStatus, LiveBatch
from timebase.model.ticks import Trades
from timebase.model.timerange import SECOND_US, Ranges, TimeRange
from timebase.storage.annex import Connection, open_annex

TABLES = (
    "trades", "quotes", "bars", "bar_revisions", "bar_extras", "batches", "coverage", "recordings", "live_writers",
)  # fmt: skip
DAY = TimeRange(MONDAY_US, MONDAY_US + 3_600 * SECOND_US)


async def everything(url: str) -> dict[str, list[str]]:
    """Every row of what live deliveries leave behind."""

    async def rows(conn: Connection, table: str) -> list[str]:
        return sorted(str(tuple(row)) for row in await conn.fetch(f"SELECT * FROM {table}"))

    async with open_annex(url) as annex:
        return {table: await annex.run(rows, table) for table in TABLES}


async def tape_of(desk: Desk, feed: Feed) -> Trades:
    assert feed.ticks is not None
    return (await desk.store.read_trades(feed.ticks, ALWAYS))[0]


async def spool_all_kinds(desk: Desk) -> None:
    """Trades without numbers, quotes, a bar, its revision, a word, and history: while the database is away."""
    feed, quoted = await a_feed(desk.store), await a_feed(desk.store, kind=FeedKind.QUOTES, id=2)
    await desk.plug.pull()
    one, other = trades(10, 0), trades(10, 0, MONDAY_US + SECOND_US)
    await desk.tell(replace(ticked(feed, one), updates=(update(feed, minutes(2)),)), ticked(quoted, quotes(5)))
    await desk.hand_in(batch(feed.bars[Interval.M5], minutes(3, step_us=300 * SECOND_US)))
    revised = update(feed, flat([MONDAY_US], 9.0), BarStatus.REVISED)
    await desk.tell(
        replace(ticked(feed, other), updates=(revised,), words=(word(feed, False, MONDAY_US + 5 * SECOND_US),))
    )


async def test_what_was_stored_and_not_deleted_before_a_crash_is_not_stored_again(
    database_url: str, tmp_path: Path
) -> None:
    async with open_desk(database_url, tmp_path) as desk:
        await spool_all_kinds(desk)
        shutil.copytree(tmp_path / "spool", tmp_path / "as-it-was")
        await desk.plug.push()
        await desk.emptied()
    before = await everything(database_url)
    assert (len(before["trades"]), len(before["bar_revisions"])) == (20, 1)
    last = max((tmp_path / "as-it-was").glob("*.batches"))
    shutil.copy(last, tmp_path / "spool")
    async with open_desk(database_url, tmp_path) as desk:
        await desk.emptied()
    assert await everything(database_url) == before


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """From now on nothing is deleted from the spool."""

    def refuse(path: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr("timebase.storage.spool._unlink", refuse)
    return monkeypatch


async def test_what_cannot_be_deleted_is_stored_once_also_when_newer_things_were_stored_before_the_restart(
    database_url: str, tmp_path: Path, read_only: pytest.MonkeyPatch, expected_errors: list[str]
) -> None:
    expected_errors.append("cannot be deleted")
    async with open_desk(database_url, tmp_path) as desk:
        await spool_all_kinds(desk)
        await desk.plug.push()
        await desk.emptied()
        feed = await a_feed(desk.store)
        newest = update(feed, flat([MONDAY_US], 10.0), BarStatus.REVISED)
        await desk.tell(replace(ticked(feed, trades(10, 0, MONDAY_US + 2 * SECOND_US)), updates=(newest,)))
        stuck = desk.spool.stuck
    before = await everything(database_url)
    assert len(before["trades"]) == 30
    assert len(list((tmp_path / "spool").glob("*.batches"))) == stuck > 1
    async with open_desk(database_url, tmp_path) as desk:
        await desk.emptied()
        assert (await desk.store.read(feed.bars[Interval.M1], ALWAYS)).close[0] == 10.0
    assert await everything(database_url) == before
    read_only.undo()
    async with open_desk(database_url, tmp_path) as desk:
        await desk.emptied()
    assert not list((tmp_path / "spool").glob("*.batches"))
    assert await everything(database_url) == before


async def test_the_database_may_go_again_while_the_spool_is_replayed(database_url: str, tmp_path: Path) -> None:
    async with open_desk(database_url, tmp_path) as desk:
        feed, tape, bars = await a_feed(desk.store), trades(20_000, 0), minutes(100)
        await desk.plug.pull()
        for n, live in enumerate(cut_tape(feed, tape, 200)):
            await desk.tell(replace(live, updates=(update(feed, bars.pick(slice(n, n + 1))),)))
        assert len(desk.spool) == 100
        while len(desk.spool):
            before = len(desk.spool)
            await desk.plug.push()
            with trio.move_on_after(2):
                while len(desk.spool) > max(0, before - 15):  # noqa: ASYNC110
                    await trio.sleep(0.001)
            await desk.plug.pull()
        await desk.plug.push()
        await desk.tell(ticked(feed, trades(1, 0, MONDAY_US + 1_000 * SECOND_US)))
        stored = await tape_of(desk, feed)
        assert same_ticks(stored.pick(slice(len(tape))), tape)
        assert len(stored) == len(tape) + 1
        assert (await desk.store.read(feed.bars[Interval.M1], ALWAYS)).equals(bars)
        (complete,) = (await desk.store.coverage(feed.bars[Interval.M1].id)).complete.parts
        assert complete == TimeRange(MONDAY_US, MONDAY_US + 100 * 60 * SECOND_US)


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty", "deleted", "a folder"])
async def test_one_file_that_is_damaged_costs_no_more_than_what_was_in_it(
    database_url: str, tmp_path: Path, damage: str, expected_errors: list[str]
) -> None:
    expected_errors += ["cannot be replayed", "was deleted by somebody else"]
    async with open_desk(database_url, tmp_path) as desk:
        feed, tape, bars = await a_feed(desk.store), trades(500, 0), minutes(5)
        await desk.plug.pull()
        for n, live in enumerate(cut_tape(feed, tape, 100)):
            await desk.tell(replace(live, updates=(update(feed, bars.pick(slice(n, n + 1))),)))
        victim = sorted((tmp_path / "spool").glob("*.batches"))[2]
        data = victim.read_bytes()
        victim.unlink()
        if damage == "a folder":
            victim.mkdir()
        elif damage != "deleted":
            victim.write_bytes(
                {"cut": data[:-100], "garbage": data[:99] + bytes(50) + data[149:], "empty": b""}[damage]
            )
        await desk.plug.push()
        await desk.emptied()
        left = [n for n in range(5) if n != 2]
        assert same_ticks(
            await tape_of(desk, feed), Trades.concat([tape.pick(slice(100 * n, 100 * n + 100)) for n in left])
        )
        assert (await desk.store.read(feed.bars[Interval.M1], ALWAYS)).equals(bars.pick(np.asarray(left)))
        claimed = (await desk.store.coverage(feed.bars[Interval.M1].id)).complete
        assert claimed == Ranges.of(TimeRange(at(60 * n), at(60 * n + 60)) for n in left)


# --- what found no room


def at(second: int) -> int:
    return MONDAY_US + second * SECOND_US


async def seconds(desk: Desk, feed: Feed, first: int, last: int) -> bool:
    """So many seconds of a tape that is heard at once. Returns: whether they could be kept."""
    rows = (last - first) * 1_000
    (shown,) = await desk.tell(ticked(feed, trades(rows, 1 + first * 1_000, at(first)), at(last)))
    return not shown.error


async def test_what_found_no_room_is_not_said_to_be_recorded(database_url: str, tmp_path: Path) -> None:
    async with open_desk(database_url, tmp_path, spool_mb=1) as desk:
        feed = await a_feed(desk.store)
        assert feed.ticks is not None
        assert await seconds(desk, feed, 0, 1)
        await desk.plug.pull()
        assert await seconds(desk, feed, 1, 21)
        assert not await seconds(desk, feed, 21, 41)
        assert not await seconds(desk, feed, 41, 61)
        await desk.plug.push()
        await desk.emptied()
        assert await desk.store.recorded(feed.ticks, DAY) == Ranges((TimeRange(at(0), at(21)),))
        assert await seconds(desk, feed, 61, 62)
        assert await seconds(desk, feed, 62, 63)
        until_now = TimeRange(at(61), at(63) - 999)
        assert await desk.store.recorded(feed.ticks, DAY) == Ranges((TimeRange(at(0), at(21)), until_now))
        assert desk.spool.lost == 2


@asynccontextmanager
async def without_a_disk(folder: Path) -> AsyncIterator[None]:
    """Nothing can be written there, while the block runs."""
    folder.rename(folder.with_name("elsewhere"))
    folder.touch()
    yield
    folder.unlink()
    folder.with_name("elsewhere").rename(folder)


async def test_without_a_disk_it_is_said_as_soon_as_the_database_is_back(database_url: str, tmp_path: Path) -> None:
    async with open_desk(database_url, tmp_path) as desk:
        feed = await a_feed(desk.store)
        assert feed.ticks is not None
        assert await seconds(desk, feed, 0, 10)
        await desk.plug.pull()
        async with without_a_disk(tmp_path / "spool"):
            assert not await seconds(desk, feed, 10, 20)
            (lost,) = await desk.tell(LiveBatch(words=(word(feed, False, at(21), "hung up"), word(feed, True, at(22)))))
            assert "Not a directory" in lost.error
            assert not await seconds(desk, feed, 22, 30)
            await desk.plug.push()
            with trio.fail_after(30):
                while desk.spool.refusal:  # noqa: ASYNC110
                    await trio.sleep(0.01)
            assert await desk.store.recorded(feed.ticks, DAY) == Ranges((TimeRange(at(0), at(10)),))
        assert await seconds(desk, feed, 30, 40)
        until_now = TimeRange(at(30), at(40) - 999)
        assert await desk.store.recorded(feed.ticks, DAY) == Ranges((TimeRange(at(0), at(10)), until_now))


async def test_a_server_knows_of_no_feed_that_another_one_had(database_url: str, tmp_path: Path) -> None:
    async with open_desk(database_url, tmp_path) as desk:
        feed = await a_feed(desk.store)
        await desk.plug.pull()
        await seconds(desk, feed, 0, 10)
    async with open_desk(database_url, tmp_path) as desk:
        await desk.emptied()
        assert feed.ticks is not None
        await seconds(desk, await a_feed(desk.store), 100, 110)
        await seconds(desk, await a_feed(desk.store), 110, 120)
        known = await desk.store.recorded(feed.ticks, TimeRange(MONDAY_US, at(120)))
    assert known == Ranges((TimeRange(at(0), at(10) - 999), TimeRange(at(100), at(120) - 999)))  # to the last trade


async def test_live_batches_that_found_no_room_say_so_and_the_writer_goes_on(database_url: str, tmp_path: Path) -> None:
    async with open_desk(database_url, tmp_path) as desk:
        feed = await a_feed(desk.store)
        await desk.plug.pull()
        async with without_a_disk(tmp_path / "spool"):
            for minute in range(3):
                (lost,) = await desk.tell(barred(update(feed, minutes(3).pick(slice(minute, minute + 1)))))
                assert "Not a directory" in lost.error
        (kept,) = await desk.tell(ticked(feed, trades(5)))
        assert not kept.error
        await desk.plug.push()
        await desk.emptied()
        assert len(await tape_of(desk, feed)) == 5
        assert not (await desk.store.coverage(feed.bars[Interval.M1].id)).complete


# --- a real disk, where one may be mounted


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """256 kB, and a folder on it that can be frozen."""
    folder = tmp_path / "spool"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder]
    if os.geteuid() or subprocess.run(mount, check=False).returncode:
        pytest.skip("no disk may be mounted here")
    try:
        if subprocess.run(["chattr", "+i", folder], check=False).returncode:
            pytest.skip("no folder may be frozen here")
        freeze(folder, "-i")
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def freeze(folder: Path, how: str) -> None:
    """`+i`: nothing in it can be made, renamed or deleted."""
    subprocess.run(["chattr", how, folder], check=True)


async def test_a_disk_that_is_full_and_then_frozen_loses_nothing_that_it_took(
    database_url: str, tmp_path: Path, small_disk: Path, expected_errors: list[str]
) -> None:
    expected_errors.append("cannot be deleted: [Errno 1] Operation not permitted")
    async with open_desk(database_url, tmp_path) as desk:
        feed, tape = await a_feed(desk.store), trades(10_000, 0)
        await desk.plug.pull()
        shown = [(await desk.tell(live))[0] for live in cut_tape(feed, tape, 1_000)]
        kept = [not each.error for each in shown]
        assert kept == sorted(kept, reverse=True)
        assert 1 < sum(kept) < 10
        assert "No space left" in shown[-1].error
        freeze(small_disk, "+i")
        (lost,) = await desk.tell(ticked(feed, trades(1, 0, at(100))))
        assert "not permitted" in lost.error
        await desk.plug.push()
        await desk.emptied()
        (stored,) = await desk.tell(ticked(feed, trades(1, 0, at(200))))
        assert stored.commit_id is not None
        assert desk.spool.stuck >= sum(kept)
        whole = await tape_of(desk, feed)
        assert same_ticks(whole.pick(slice(len(whole) - 1)), tape.pick(slice(1_000 * sum(kept))))
        assert feed.ticks is not None
        (before, _) = (await desk.store.recorded(feed.ticks, DAY)).parts
        assert before == TimeRange(MONDAY_US, MONDAY_US + 1_000_000 * sum(kept))
    freeze(small_disk, "-i")
    before_restart = await everything(database_url)
    async with open_desk(database_url, tmp_path) as desk:
        await desk.emptied()
    assert not list(small_disk.glob("*.batches"))
    assert await everything(database_url) == before_restart
