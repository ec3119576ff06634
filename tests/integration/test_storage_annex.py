"""The bridge to the other event loop: results, errors and cancellation cross it."""

from pathlib import Path

import pytest
import trio
import trio.testing
from integration.market import ALWAYS, a_series, batch, cut, minutes
from integration.plug import open_plug

from timebase.errors import ConfigError, StoreUnavailable
from timebase.storage.annex import Annex, Connection, open_annex
from timebase.storage.faults import StoreFault
from timebase.storage.store import Store, open_store

BUSY = """
SELECT count(*)
  FROM pg_stat_activity
 WHERE datname = current_database() AND state = 'active' AND query = 'SELECT pg_sleep(600)'
"""


async def sleep_long(conn: Connection) -> None:
    await conn.execute("SELECT pg_sleep(600)")


async def count_sleepers(conn: Connection) -> int:
    return await conn.fetchval(BUSY)


async def test_results_and_errors_come_back(database_url: str) -> None:
    async def add(conn: Connection, a: int, *, b: int) -> int:
        return await conn.fetchval("SELECT $1::integer + $2::integer", a, b)

    async def fail(_: Connection) -> None:
        raise ValueError("ours")

    async with open_annex(database_url) as annex:
        assert await annex.run(add, 2, b=3) == 5
        with pytest.raises(ValueError, match="ours"):
            await annex.run(fail)


async def test_what_the_database_refuses_is_a_store_fault(database_url: str) -> None:
    async def ask(conn: Connection) -> None:
        await conn.execute("SELECT * FROM nowhere")

    async with open_annex(database_url) as annex:
        with pytest.raises(StoreFault, match="nowhere"):
            await annex.run(ask)
        assert annex.is_up


async def test_cancelling_the_task_cancels_the_query(database_url: str) -> None:
    async with open_annex(database_url, connections=2) as annex:
        for _ in range(5):  # more often than there are connections: each comes back to the pool
            with trio.move_on_after(0.05) as scope:
                await annex.run(sleep_long)
            assert scope.cancelled_caught
        with trio.fail_after(5):
            while await annex.run(count_sleepers):  # noqa: ASYNC110
                await trio.sleep(0.01)


async def test_a_cancelled_task_does_not_even_ask(database_url: str) -> None:
    async with open_annex(database_url) as annex:
        with trio.CancelScope() as scope:
            scope.cancel()
            await annex.run(sleep_long)
        assert scope.cancelled_caught


async def test_work_beyond_the_pool_waits_for_its_turn(database_url: str) -> None:
    most, at_once = 0, 0

    async def work(conn: Connection) -> None:
        nonlocal most, at_once
        at_once += 1
        most = max(most, at_once)
        await conn.execute("SELECT pg_sleep(0.01)")
        at_once -= 1

    async with open_annex(database_url, connections=3) as annex, trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(annex.run, work)
    assert most == 3


async def test_questions_that_take_long_do_not_hold_up_the_writer(database_url: str) -> None:
    async with open_annex(database_url, connections=2) as annex, trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(annex.run, sleep_long)
        with trio.fail_after(20):
            while await annex.write(count_sleepers) < 2:  # noqa: ASYNC110
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()


async def test_the_writer_does_one_thing_after_the_other(database_url: str) -> None:
    async def number(conn: Connection) -> int:
        return await conn.fetchval("SELECT pg_backend_pid() FROM pg_sleep(0.01)")

    pids = set()

    async def write(annex: Annex) -> None:
        pids.add(await annex.write(number))

    async with open_annex(database_url, connections=2) as annex, trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(write, annex)
    assert len(pids) == 1


async def test_a_connection_knows_the_arrays_of_our_questions_from_the_start(database_url: str) -> None:
    asked: list[str] = []

    async def ask(conn: Connection) -> None:
        conn.add_query_logger(lambda query: asked.append(query.query))
        await conn.fetch("SELECT unnest($1::float8[]), unnest($2::timestamptz[])", [1.0], [])

    async with open_annex(database_url) as annex:
        await annex.run(ask)
    assert asked == ["SELECT unnest($1::float8[]), unnest($2::timestamptz[])"]


async def test_leaving_does_not_wait_for_a_query(database_url: str) -> None:
    with trio.fail_after(20):
        async with open_annex(database_url) as annex, trio.open_nursery() as nursery:
            nursery.start_soon(annex.run, sleep_long)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "url",
    ["postgresql://postgres@127.0.0.1:1/postgres", "postgresql://postgres@/postgres?host=%2Fnowhere"],
)
async def test_a_database_that_is_not_there_is_away(url: str, tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable):
        async with open_store(url, tmp_path):
            pass


@pytest.mark.parametrize("path", ["/no_such_database", "/postgres?no_such_setting=1&sslmode=nonsense"])
async def test_a_url_that_only_the_operator_can_mend_is_his_to_mend(admin_url: str, tmp_path: Path, path: str) -> None:
    async with open_plug(admin_url) as plug:
        with pytest.raises(ConfigError, match="database_url"):
            async with open_store(plug.url.rsplit("/", 1)[0] + path, tmp_path):
                pass


async def test_a_database_that_comes_back_is_used_again(database_url: str, tmp_path: Path) -> None:
    async with open_plug(database_url) as plug, open_store(plug.url, tmp_path) as store:
        series, bars = await a_series(store), minutes(1_000)
        await store.put([batch(series, bars)])
        await plug.pull()
        with pytest.raises(StoreUnavailable):
            await store.read(series, ALWAYS)
        assert not store.is_up
        # What is in memory needs no database.
        assert (await store.coverage(series.id)).complete
        assert await store.instrument("AAPL") is not None
        await plug.push()
        assert (await store.read(series, ALWAYS)).equals(bars)
        assert store.is_up


async def test_connections_that_died_unseen_cost_no_question(database_url: str, tmp_path: Path) -> None:
    async with open_plug(database_url) as plug, open_store(plug.url, tmp_path) as store:
        series = await a_series(store)
        for _ in range(5):
            await plug.pull()
            await plug.push()
            await store.read(series, ALWAYS)


async def test_a_reading_that_breaks_off_is_away_and_not_short(database_url: str, tmp_path: Path) -> None:
    async with open_plug(database_url) as plug, open_store(plug.url, tmp_path) as store:
        series, bars = await a_series(store), minutes(300_000)
        await store.put(cut(series, bars))
        outcomes = []

        async def read() -> None:
            try:
                outcomes.append((await store.read(series, ALWAYS)).equals(bars))
            except StoreUnavailable:
                outcomes.append(True)

        for delay in (0.01, 0.03, 0.1):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                await trio.sleep(delay)
                await plug.pull()
            await plug.push()
        assert outcomes == [True] * 3
        assert (await store.read(series, ALWAYS)).equals(bars)


async def test_cancelling_a_reading_leaves_the_store_usable(store: Store) -> None:
    series, bars = await a_series(store), minutes(300_000)
    await store.put(cut(series, bars))
    for n in range(25):
        with trio.move_on_after(0.005 * n):
            await store.read(series, ALWAYS)
    assert (await store.read(series, ALWAYS)).equals(bars)


async def test_cancelling_a_put_leaves_all_of_it_or_nothing(store: Store) -> None:
    series, bars = await a_series(store), minutes(200_000)
    batches = cut(series, bars, 50_000)
    for n in range(15):
        with trio.move_on_after(0.008 * n):
            await store.put(batches)
        stored = await store.read(series, ALWAYS)
        assert stored.equals(bars) if (await store.coverage(series.id)).complete else len(stored) == 0
    await store.put(batches)
    assert (await store.read(series, ALWAYS)).equals(bars)


async def test_a_database_that_hangs_is_left_by_the_callers_deadline(database_url: str, tmp_path: Path) -> None:
    async with open_plug(database_url) as plug, open_store(plug.url, tmp_path) as store:
        series = await a_series(store)
        plug.jam()
        with trio.fail_after(15), trio.move_on_after(0.1) as scope:
            await store.read(series, ALWAYS)
        assert scope.cancelled_caught
        plug.clear()
        assert len(await store.read(series, ALWAYS)) == 0


async def test_a_database_that_hangs_does_not_keep_the_connections(database_url: str) -> None:
    async with open_plug(database_url) as plug, open_annex(plug.url, connections=1) as annex:
        assert await annex.run(count_sleepers) == 0
        plug.jam()
        with trio.move_on_after(0.1):
            await annex.run(count_sleepers)
        await plug.pull()
        plug.clear()
        await plug.push()
        with trio.fail_after(5):
            assert await annex.run(count_sleepers) == 0
