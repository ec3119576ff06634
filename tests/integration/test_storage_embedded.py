"""The database that comes with the house: made, started, adopted, revived and stopped."""

import asyncio
import os
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import psutil
import pytest
import trio
from integration.market import ALWAYS, a_series, batch, cut, minutes
from integration.plug import open_plug

from timebase.errors import ConfigError, StoreUnavailable
from timebase.model.bars import Batch, Durable
from timebase.storage.embedded import cluster_in, open_embedded
from timebase.storage.housekeeping import Retention, forget_old, run_housekeeping, tidy
from timebase.storage.spool import open_spool
from timebase.storage.store import open_store
from timebase.storage.writer import run_writer


@pytest.fixture(scope="module")
def fresh_cluster() -> Iterator[Path]:
    """A stopped cluster to copy, for making one takes a second."""
    folder = Path(tempfile.mkdtemp(prefix="timebase-"))
    cluster = cluster_in(folder / "postgres")
    trio.run(cluster.start)
    trio.run(cluster.stop)
    yield cluster.folder
    shutil.rmtree(folder)


@pytest.fixture
def new_dir() -> Iterator[Path]:
    """A data directory on a short path: pytest's own are as long as a socket's may be."""
    folder = Path(tempfile.mkdtemp(prefix="timebase-"))
    yield folder
    trio.run(cluster_in(folder / "postgres").stop)
    shutil.rmtree(folder)


@pytest.fixture
def data_dir(new_dir: Path, fresh_cluster: Path) -> Path:
    """A data directory with a stopped cluster in it."""
    subprocess.run(["cp", "-a", fresh_cluster, new_dir], check=True)
    return new_dir


def postmaster(data_dir: Path) -> psutil.Process:
    return psutil.Process(int((data_dir / "postgres" / "postmaster.pid").read_text().splitlines()[0]))


def kill(data_dir: Path) -> None:
    """As the kernel would when memory is short."""
    process = postmaster(data_dir)
    family = [process, *process.children()]
    for each in family:
        each.send_signal(signal.SIGKILL)
    psutil.wait_procs(family, timeout=10)


async def test_what_is_stored_outlives_the_server(data_dir: Path) -> None:
    bars = minutes(1_000)
    async with open_store(None, data_dir) as store:
        await store.put([batch(await a_series(store), bars)])
        assert store.health()["is_embedded"]
    assert not (data_dir / "postgres" / "postmaster.pid").exists()
    async with open_store(None, data_dir) as store:
        assert (await store.read(await a_series(store), ALWAYS)).equals(bars)


async def test_it_is_reachable_by_its_own_account_only(data_dir: Path) -> None:
    async with open_embedded(data_dir / "postgres") as cluster:
        folder = data_dir / "postgres"
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert not [c for c in postmaster(data_dir).net_connections() if c.family.name.startswith("AF_INET")]
        assert cluster.is_running


async def test_one_that_still_runs_is_adopted_and_the_last_user_stops_it(data_dir: Path) -> None:
    async with open_embedded(data_dir / "postgres"):
        pid = postmaster(data_dir).pid
        async with open_embedded(data_dir / "postgres"):
            assert postmaster(data_dir).pid == pid
        assert postmaster(data_dir).pid == pid
    assert not cluster_in(data_dir / "postgres").is_running


async def test_one_that_outlived_a_killed_server_is_adopted(data_dir: Path) -> None:
    await cluster_in(data_dir / "postgres").start()  # nobody holds it: as after a kill -9 of the server
    pid = postmaster(data_dir).pid
    async with open_embedded(data_dir / "postgres"):
        assert postmaster(data_dir).pid == pid
    assert not cluster_in(data_dir / "postgres").is_running


async def test_two_that_start_together_share_one(data_dir: Path) -> None:
    pids = []

    async def use() -> None:
        async with open_embedded(data_dir / "postgres"):
            pids.append(postmaster(data_dir).pid)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(use)
    assert len(pids) == 3


async def test_a_killed_database_loses_nothing_that_was_reported(data_dir: Path) -> None:
    bars = minutes(50_000)
    async with open_store(None, data_dir) as store:
        series = await a_series(store)
        await store.put([batch(series, bars)])
        kill(data_dir)
        with pytest.raises(StoreUnavailable):
            await store.ping()
        await store.revive()
        assert (await store.read(series, ALWAYS)).equals(bars)


async def test_housekeeping_starts_it_again(data_dir: Path) -> None:
    async with open_store(None, data_dir) as store, trio.open_nursery() as nursery:
        await nursery.start(run_housekeeping, store, Retention())
        kill(data_dir)
        with trio.fail_after(30):
            while True:
                try:
                    await store.ping()
                except StoreUnavailable:
                    await trio.sleep(0.05)
                else:
                    break
        assert store.is_up
        nursery.cancel_scope.cancel()


async def test_a_database_killed_again_and_again_while_the_writer_works_loses_nothing(data_dir: Path) -> None:
    with open_spool(data_dir / "spool", 1 << 30) as spool:
        async with open_store(None, data_dir) as store, trio.open_nursery() as nursery:
            series, bars = await a_series(store), minutes(400_000)
            inlet, inbox = trio.open_memory_channel[Batch](4)
            outbox, outlet = trio.open_memory_channel[Durable](1_000)
            await nursery.start(run_housekeeping, store, Retention())
            await nursery.start(run_writer, inbox, outbox, store, spool)
            for n, each in enumerate(cut(series, bars, 10_000)):
                if n % 10 == 5 and cluster_in(data_dir / "postgres").is_running:
                    await trio.to_thread.run_sync(kill, data_dir)
                await inlet.send(each)
            with trio.fail_after(60):
                while not store.is_up or len(spool) or outlet.statistics().current_buffer_used < 40:  # noqa: ASYNC110
                    await trio.sleep(0.05)
            assert (await store.read(series, ALWAYS)).equals(bars)
            assert len((await store.coverage(series.id)).complete.parts) == 1
            nursery.cancel_scope.cancel()


async def test_a_pid_file_that_names_a_stranger_does_not_keep_it_from_starting(data_dir: Path) -> None:
    cluster = cluster_in(data_dir / "postgres")
    await cluster.start()
    lines = (data_dir / "postgres" / "postmaster.pid").read_text().splitlines()
    await cluster.stop()
    for lock in ("postmaster.pid", ".s.PGSQL.5432.lock"):
        (data_dir / "postgres" / lock).write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    assert not cluster.is_running
    await cluster.start()
    assert cluster.is_running


async def test_a_creation_that_was_interrupted_is_begun_again(new_dir: Path) -> None:
    unfinished = new_dir / "postgres.unfinished"
    unfinished.mkdir()
    (unfinished / "PG_VERSION").write_text("18\n")
    async with open_embedded(new_dir / "postgres") as cluster:
        assert cluster.is_running
    assert not unfinished.exists()


async def test_a_path_too_long_for_a_socket_is_no_obstacle(data_dir: Path) -> None:
    long = data_dir / ("long" * 25)
    long.mkdir()
    folder = (data_dir / "postgres").rename(long / "postgres")
    async with open_embedded(folder) as cluster:
        connection = trio.to_thread.run_sync(asyncio.run, _answer(cluster.url))
        assert await connection == 42
        socket_dir = Path(parse_qs(urlsplit(cluster.url).query)["host"][0])
        assert stat.S_IMODE(socket_dir.stat().st_mode) == 0o700
    assert not cluster.is_running
    assert not socket_dir.exists()


async def _answer(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval("SELECT 42")
    finally:
        await connection.close()


async def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(ConfigError, match=r"PostgreSQL 9\.6"):
        async with open_embedded(tmp_path / "postgres"):
            pass


async def test_a_broken_cluster_says_why_it_does_not_start(data_dir: Path) -> None:
    cluster = cluster_in(data_dir / "postgres")
    await cluster.start()
    await cluster.stop()
    configuration = data_dir / "postgres" / "postgresql.conf"
    whole = configuration.read_text()
    configuration.write_text(whole + "\nno_such_setting = 1\n")
    with pytest.raises(StoreUnavailable, match="no_such_setting"):
        await cluster.start()
    configuration.write_text(whole)


async def test_retention_drops_what_is_older_than_its_days(data_dir: Path) -> None:
    async with open_store(None, data_dir) as store:
        series = await a_series(store)
        await store.put([batch(series, minutes(10))])
        assert await forget_old(store, Retention()) == 0
        assert await forget_old(store, Retention(daily_days=1)) == 0
        assert await forget_old(store, Retention(intraday_days=30)) == 1
        assert len(await store.read(series, ALWAYS)) == 0


async def test_tidying_up_is_put_off_while_the_database_is_away(database_url: str, tmp_path: Path) -> None:
    async with open_plug(database_url) as plug, open_store(plug.url, tmp_path) as store:
        await store.take_budget("yahoo", 0)
        await plug.pull()
        soon = await tidy(store, Retention(intraday_days=1))
        await plug.push()
        later = await tidy(store, Retention(intraday_days=1))
        assert soon < trio.current_time() + 3_600 < later
        assert await store.load_budget_takes(0) == []
