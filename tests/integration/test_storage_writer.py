"""The writer: good batches become durable, in the database or, while that is away, on disk; in order, none lost."""

from dataclasses import replace
from pathlib import Path

import pytest
import trio
from integration.desk import open_desk
from integration.market import ALWAYS, MONDAY_US, a_series, batch, cut, flat, minutes

from timebase.model.bars import Bars
from timebase.model.timerange import Ranges
from timebase.storage.faults import StoreFault
from timebase.storage.store import open_store


async def test_batches_become_durable_in_their_order(database_url: str, tmp_path: Path) -> None:
    async with open_desk(database_url, tmp_path) as desk:
        series, bars = await a_series(desk.store), minutes(400_000)
        batches = cut(series, bars)
        durables = await desk.hand_in(*batches)
        assert [durable.batch for durable in durables] == batches
        assert not any(durable.is_spooled or durable.error for durable in durables)
        assert (await desk.store.read(series, ALWAYS)).equals(bars)


async def test_it_ends_when_its_input_ends_with_everything_stored(database_url: str, tmp_path: Path) -> None:
    async with open_desk(database_url, tmp_path) as desk:
        series, bars = await a_series(desk.store), minutes(100)
        for row in range(100):
            await desk.inlet.send(batch(series, bars.pick(slice(row, row + 1))))
    async with open_store(database_url, tmp_path) as store:
        assert (await store.read(series, ALWAYS)).equals(bars)
    assert len(desk.durables) == 100


async def test_a_fault_of_the_database_is_let_out(database_url: str, tmp_path: Path) -> None:
    with pytest.RaisesGroup(StoreFault, flatten_subgroups=True):
        async with open_desk(database_url, tmp_path) as desk:
            series = await a_series(desk.store)
            await desk.inlet.send(batch(replace(series, id=999), minutes(3)))
            await trio.sleep_forever()


async def test_while_the_database_is_away_batches_wait_on_disk_and_none_is_lost(
    database_url: str, tmp_path: Path
) -> None:
    async with open_desk(database_url, tmp_path) as desk:
        series, bars = await a_series(desk.store), minutes(50_000)
        batches = cut(series, bars, 5_000)
        await desk.hand_in(*batches[:3])
        await desk.plug.pull()
        durables = await desk.hand_in(*batches[3:8])
        assert all(durable.is_spooled and not durable.error for durable in durables)
        await desk.plug.push()
        await desk.hand_in(*batches[8:])
        await desk.emptied()
        assert (await desk.store.read(series, ALWAYS)).equals(bars)
        (complete,) = (await desk.store.coverage(series.id)).complete.parts
        assert complete.end_us == batches[-1].covers.end_us


async def test_a_database_that_hangs_is_away_too(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("timebase.storage.writer.PUT_S", 0.2)
    async with open_desk(database_url, tmp_path) as desk:
        series, bars = await a_series(desk.store), minutes(100)
        desk.plug.jam()
        (durable,) = await desk.hand_in(batch(series, bars))
        assert durable.is_spooled
        desk.plug.clear()
        monkeypatch.undo()
        await desk.emptied()
        assert (await desk.store.read(series, ALWAYS)).equals(bars)


async def test_more_than_a_transaction_may_hold_goes_in_several(database_url: str, tmp_path: Path) -> None:
    async with open_desk(database_url, tmp_path) as desk:
        series, bars = await a_series(desk.store), minutes(900_000)
        durables = await desk.hand_in(*cut(series, bars, 150_000))
        assert sum(durable.new for durable in durables) == 900_000
        assert (await desk.store.read(series, ALWAYS)).equals(bars)


async def test_the_spool_is_emptied_without_anything_new_coming(database_url: str, tmp_path: Path) -> None:
    async with open_desk(database_url, tmp_path) as desk:
        series, bars = await a_series(desk.store), minutes(100)
        await desk.plug.pull()
        await desk.hand_in(batch(series, bars))
        await desk.plug.push()
        await desk.emptied()
        assert (await desk.store.read(series, ALWAYS)).equals(bars)


async def test_what_was_spooled_goes_before_anything_newer(database_url: str, tmp_path: Path) -> None:
    async with open_desk(database_url, tmp_path) as desk:
        series = await a_series(desk.store)
        await desk.plug.pull()
        for version in range(1, 4):
            await desk.hand_in(batch(series, flat([MONDAY_US], version)))
        await desk.plug.push()
        await desk.hand_in(batch(series, flat([MONDAY_US], 9.0)))
        await desk.emptied()
        (close,) = (await desk.store.read(series, ALWAYS)).close
        assert close == 9.0


async def test_a_full_spool_says_so_and_keeps_what_it_has(database_url: str, tmp_path: Path) -> None:
    async with open_desk(database_url, tmp_path, spool_mb=1) as desk:
        series, bars = await a_series(desk.store), minutes(36_000)
        batches = cut(series, bars, 12_000)
        await desk.plug.pull()
        fates = [(await desk.hand_in(each))[0] for each in batches]
        assert [bool(fate.error) for fate in fates] == [False, True, True]
        assert "spool holds" in fates[1].error
        await desk.plug.push()
        await desk.emptied()
        assert (await desk.store.read(series, ALWAYS)).equals(bars.pick(slice(12_000)))
        # What could not be kept is not claimed, so it is asked for again.
        assert (await desk.store.coverage(series.id)).complete == Ranges((batches[0].covers,))


async def test_the_spool_survives_the_server(database_url: str, tmp_path: Path) -> None:
    async with open_desk(database_url, tmp_path) as desk:
        series, bars = await a_series(desk.store), minutes(100)
        await desk.plug.pull()
        await desk.hand_in(batch(series, bars))
    async with open_desk(database_url, tmp_path) as desk:
        await desk.emptied()
        assert (await desk.store.read(series, ALWAYS)).equals(bars)


async def test_a_spool_replayed_into_another_database_finds_its_series_by_name(
    database_url: str, empty_database_url: str, tmp_path: Path
) -> None:
    async with open_desk(database_url, tmp_path) as desk:
        await a_series(desk.store, symbol="FIRST")
        series, bars = await a_series(desk.store, symbol="SECOND"), minutes(100)
        await desk.plug.pull()
        await desk.hand_in(batch(series, bars))
    async with open_desk(empty_database_url, tmp_path) as desk:
        other = await a_series(desk.store, symbol="THIRD")
        await desk.emptied()
        assert len(await desk.store.read(other, ALWAYS)) == 0
        assert (await desk.store.read(await a_series(desk.store, symbol="SECOND"), ALWAYS)).equals(bars)


async def test_a_spooled_batch_that_the_database_refuses_is_set_aside_and_holds_up_nobody(
    database_url: str, tmp_path: Path, expected_errors: list[str]
) -> None:
    expected_errors.append("cannot be replayed")
    async with open_desk(database_url, tmp_path) as desk:
        series, bars = await a_series(desk.store), minutes(100)
        doubled = Bars.concat([bars, bars])  # what no validator lets through
        await desk.plug.pull()
        await desk.hand_in(batch(series, doubled))
        await desk.hand_in(batch(series, bars))
        await desk.plug.push()
        await desk.emptied()
        assert (await desk.store.read(series, ALWAYS)).equals(bars)
    assert len(list((tmp_path / "spool").glob("*.set-aside"))) == 1


async def test_the_database_may_go_and_come_at_any_moment(database_url: str, tmp_path: Path) -> None:
    async with open_desk(database_url, tmp_path) as desk:
        series, bars = await a_series(desk.store), minutes(300_000)
        batches = cut(series, bars, 10_000)

        async def pull_and_push() -> None:
            for n in range(6):
                await trio.sleep(0.02 + 0.03 * n)
                await desk.plug.pull()
                await trio.sleep(0.05)
                await desk.plug.push()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(pull_and_push)
            for each in batches:
                await desk.inlet.send(each)
        await desk.reported(len(batches))
        await desk.emptied()
        assert not any(durable.error for durable in desk.durables)
        assert [durable.batch for durable in desk.durables] == batches
        assert (await desk.store.read(series, ALWAYS)).equals(bars)
        (complete,) = (await desk.store.coverage(series.id)).complete.parts
        assert complete.end_us == batches[-1].covers.end_us
