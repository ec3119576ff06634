"""Acceptance 6: the database goes in the middle of a backfill and of reads, and comes back."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
import trio
from e2e.asked import ask, backfill, bars_of, day, get, problem_of, settled_us, span
from e2e.conftest import HAS_EMBEDDED, ServerMaker
from e2e.followers import Follower, by_opening, following, rows_of
from e2e.ledger import postmaster_of, stored
from e2e.live_stubs import LiveStub
from e2e.running import asking, until
from e2e.stubs import Stub, true_bars

from timebase.aggregation.rebuild import rebuild
from timebase.model.interval import Interval
from timebase.model.ticks import Trades
from timebase.model.timerange import DAY_US, MINUTE_US, SECOND_US, TimeRange
from timebase.storage.embedded import Cluster, cluster_in

DAY = span("2024-01-01", "2024-01-02")
BARS = 200_000
BEFORE = 80_000  # bars that are stored before the database goes
WHOLE = TimeRange(day("2022-01-01"), day("2022-01-01") + BARS * MINUTE_US)
AWAY_S = 3.0
BACK_S = 15.0


@pytest.fixture
def cluster(new_home: Callable[[], Path]) -> Iterator[Cluster]:
    """A database that nobody starts again but the test."""
    made = cluster_in(new_home() / "postgres")
    trio.run(made.start)
    yield made
    trio.run(made.stop)


@pytest.fixture
def stub(home: Path) -> Stub:
    made = Stub("stub", home / "manifests", home / "stubs")
    made.script("FILL-USD", {"page": 10_000, "gate_after": [BEFORE, "away"]}, {})
    return made


async def test_while_the_database_is_away_nothing_is_lost_and_everyone_is_told(
    home: Path, serving: ServerMaker, cluster: Cluster, stub: Stub
) -> None:
    with serving(home, database_url=cluster.url, retention_intraday_days="never") as server:
        async with asking(server) as client, trio.open_nursery() as nursery:
            fresh = await ask(client, "KEPT-USD", DAY)
            assert not fresh["meta"]["freshness"]["is_stale"]
            nursery.start_soon(_backfill_in_vain, client)
            await until(lambda: _is_half_stored(client))

            await _stop_at_once(cluster)
            went = trio.current_time()
            problem = problem_of(await get(client, "NEVER-USD", DAY), 503)
            assert (problem["code"], bool(problem["suggestions"])) == ("store_unavailable", True)
            assert int((await get(client, "NEVER-USD", DAY)).headers["retry-after"]) > 0
            assert (await client.get("/health")).status_code == 503
            stale = await until(lambda: _stale(client, "KEPT-USD"), 5)
            assert bars_of(stale).equals(true_bars(Interval.H1, DAY))
            assert any("database" in warning for warning in stale["warnings"])
            stub.open_gate("away")
            await until(lambda: list((server.data_dir / "spool").glob("*.batches")))
            await trio.sleep_until(went + AWAY_S)  # the outage itself
            await trio.to_thread.run_sync(trio.run, cluster.start)

        async with asking(server) as client:
            await until(lambda: _is_healthy(client), BACK_S)
            await until(lambda: _is_settled(client), BACK_S)
            assert not list((server.data_dir / "spool").glob("*.batches"))
            assert (await stored(server, "FILL-USD")).equals(true_bars(Interval.M1, WHOLE))
            assert (await backfill(client, "FILL-USD", WHOLE)).json()["coverage"]["complete"]
            assert stub.ranges("FILL-USD") == [WHOLE]
            assert not (await ask(client, "KEPT-USD", DAY))["meta"]["freshness"]["is_stale"]
            assert (await get(client, "NEVER-USD", DAY)).status_code == 200


async def test_what_was_spooled_outlives_a_killed_server(
    home: Path, serving: ServerMaker, cluster: Cluster, stub: Stub
) -> None:
    with serving(home, database_url=cluster.url, retention_intraday_days="never") as server:
        async with asking(server) as client, trio.open_nursery() as nursery:
            nursery.start_soon(_backfill_in_vain, client)
            await until(lambda: _is_half_stored(client))
            await _stop_at_once(cluster)
            stub.open_gate("away")
            # The backfill ends when its last batch is safe on disk.
        server.kill()
        await trio.to_thread.run_sync(trio.run, cluster.start)
        await trio.to_thread.run_sync(server.start)
        async with asking(server) as client:
            await until(lambda: _is_settled(client), BACK_S)
        assert (await stored(server, "FILL-USD")).equals(true_bars(Interval.M1, WHOLE))
        assert stub.ranges("FILL-USD") == [WHOLE]


async def test_no_provider_is_blamed_for_a_database_that_hangs(
    home: Path, serving: ServerMaker, cluster: Cluster, stub: Stub
) -> None:
    settings = {"database_url": cluster.url, "patience_s": 4, "retention_intraday_days": "never"}
    with serving(home, **settings) as server:
        async with asking(server) as client, trio.open_nursery() as nursery:
            nursery.start_soon(_backfill_patiently, client)
            await until(lambda: _is_half_stored(client))
            with _frozen(cluster):
                stub.open_gate("away")
                await trio.sleep(6)  # the outage itself, longer than the patience
        assert (await stored(server, "FILL-USD")).equals(true_bars(Interval.M1, WHOLE))
        assert stub.ranges("FILL-USD") == [WHOLE]


async def test_the_embedded_database_is_started_again_when_it_dies(
    home: Path, serving: ServerMaker, stub: Stub
) -> None:
    if not HAS_EMBEDDED:
        pytest.skip("this run has no embedded database")
    with serving(home, is_embedded=True, retention_intraday_days="never") as server:
        async with asking(server) as client, trio.open_nursery() as nursery:
            nursery.start_soon(_backfill_patiently, client)
            await until(lambda: _is_half_stored(client))
            pid = postmaster_of(server.data_dir)
            os.kill(pid, signal.SIGKILL)
            stub.open_gate("away")
            await until(lambda: _is_healthy(client), BACK_S)
            await until(lambda: _is_settled(client), BACK_S)
        assert postmaster_of(server.data_dir) != pid
        assert (await stored(server, "FILL-USD")).equals(true_bars(Interval.M1, WHOLE))


NOON_US = 20_000 * DAY_US + DAY_US // 2
LIVE_BARS, LIVE_TRADES = "bars:BTC-USDT:1m", "trades:BTC-USDT"
LIVE_TAPE = [(NOON_US + at * SECOND_US, 100.0 + at * 7 % 13, 1.0 + at % 3, at + 1) for at in range(1, 600)]


def _minute(at: int) -> int:
    return NOON_US + at * MINUTE_US


async def test_live_bars_that_could_be_stored_nowhere_are_missing_and_made_up_for_when_the_database_is_back(
    home: Path, serving: ServerMaker, cluster: Cluster
) -> None:
    time, price, size, ids = zip(*LIVE_TAPE, strict=True)
    truth = rows_of(rebuild(Trades.of(time, price, size, id=ids), intervals=[Interval.M1])[Interval.M1].bars)
    stub = LiveStub("stub", home / "manifests", home / "stubs")
    stub.tell_truth({"BTC-USDT": [[at, *values] for at, values in truth.items()]})
    lost = [_minute(at) for at in (3, 4, 5)]
    with serving(home, database_url=cluster.url) as server:
        channels = {"channels": [LIVE_BARS, LIVE_TRADES]}
        async with asking(server) as client, following(server, channels) as follower:
            await _plays(stub, follower, 1, 190, "closed")
            await _stop_at_once(cluster)
            spool = server.data_dir / "spool"
            spool.rename(spool.with_name("elsewhere"))  # a disk that is gone
            spool.touch()
            await _plays(stub, follower, 190, 370, "missing")
            told = (await client.get("/health")).json()["spool"]
            assert (told["is_refusing"], told["lost"] > 0) == (True, True)
            spool.unlink()
            spool.with_name("elsewhere").rename(spool)
            await trio.to_thread.run_sync(trio.run, cluster.start)
            await _plays(stub, follower, 370, 500, "closed")
            for at in lost:
                await follower.hears(lambda e, at=at: (e.get("time"), e.get("status")) == (at / 1000, "backfilled"))
            await until(lambda: _is_well(client))
            bars = bars_of(await ask(client, "BTC-USDT", TimeRange(_minute(1), _minute(8)), "1m"))
            assert rows_of(bars) == {at: truth[at] for at in truth if _minute(1) <= at < _minute(8)}
            assert {_minute(0), *lost} >= {first for _, _, first, _ in stub.questions()}
    assert [event["time"] * 1000 for event in follower.bars(LIVE_BARS, "missing")] == [_minute(0), *lost]
    assert by_opening(follower.bars(LIVE_BARS, "closed", "backfilled")) == {
        at: values for at, values in truth.items() if at < _minute(8)
    }
    assert [len(follower.of(channel, "error")) for channel in (LIVE_BARS, LIVE_TRADES)] == [2, 2]
    assert follower.states(LIVE_BARS) == ["connecting", "live"]


async def _plays(stub: LiveStub, follower: Follower, first: int, last: int, status: str) -> None:
    """Until what is told of the last minute of it that is over."""
    stub.trade("BTC-USDT", *LIVE_TAPE[first - 1 : last - 1])
    at = _minute(last // 60 - 1)
    await follower.hears(lambda event: (event.get("time"), event.get("status")) == (at / 1000, status))


async def _is_well(client: httpx.AsyncClient) -> bool:
    health = (await client.get("/health")).json()
    return health["status"] == "ok" and not health["spool"]["is_refusing"]


async def _backfill_in_vain(client: httpx.AsyncClient) -> None:
    """It cannot be told complete while the database is away."""
    assert problem_of(await backfill(client, "FILL-USD", WHOLE), 503)["code"] == "store_unavailable"


async def _backfill_patiently(client: httpx.AsyncClient) -> None:
    async def is_done() -> bool:
        return (await backfill(client, "FILL-USD", WHOLE)).status_code == 200

    await until(is_done, 2 * BACK_S)


async def _stop_at_once(cluster: Cluster) -> None:
    """As a crash would: no connection is let end its work."""
    postmaster = psutil.Process(postmaster_of(cluster.folder.parent))
    postmaster.send_signal(signal.SIGQUIT)
    await until(lambda: not cluster.is_running)


@contextmanager
def _frozen(cluster: Cluster) -> Iterator[None]:
    postmaster = psutil.Process(postmaster_of(cluster.folder.parent))
    frozen = [postmaster, *postmaster.children()]
    for process in frozen:
        process.suspend()
    try:
        yield
    finally:
        for process in frozen:
            process.resume()


async def _is_half_stored(client: httpx.AsyncClient) -> bool:
    """The page before the pause waits for the one after it."""
    return await settled_us(client, "FILL-USD") >= (BEFORE - 10_000) * MINUTE_US


async def _is_settled(client: httpx.AsyncClient) -> bool:
    return await settled_us(client, "FILL-USD") == BARS * MINUTE_US


async def _is_healthy(client: httpx.AsyncClient) -> bool:
    return (await client.get("/health")).status_code == 200


async def _stale(client: httpx.AsyncClient, symbol: str) -> dict | None:
    answer = await ask(client, symbol, DAY)
    return answer if answer["meta"]["freshness"]["is_stale"] else None
