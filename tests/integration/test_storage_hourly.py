"""The view hourly_ohlcv: minutes rolled up, the same on TimescaleDB (where they are kept) and without it."""

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import trio
from integration.market import ALWAYS, MONDAY_US, a_series, batch, cut, flat, minutes

from timebase.model.bars import Bars
from timebase.model.interval import Interval
from timebase.model.series import Series
from timebase.model.timerange import DAY_US, HOUR_US, MINUTE_US, to_us
from timebase.storage.annex import Annex, Connection, open_annex
from timebase.storage.housekeeping import Retention, forget_old
from timebase.storage.roll_up import run_roll_up
from timebase.storage.store import Store, open_store

OLD_US = MONDAY_US - 5 * 365 * DAY_US
Hour = tuple[int, float, float, float, float, float]


@pytest.fixture
async def annex(database_url: str) -> AsyncIterator[Annex]:
    async with open_annex(database_url) as opened:
        yield opened


async def hours(annex: Annex, symbol: str = "AAPL") -> list[Hour]:
    async def select(conn: Connection) -> list[Hour]:
        query = "SELECT * FROM hourly_ohlcv WHERE symbol = $1 AND provider = 'demo' ORDER BY time"
        names = ("open", "high", "low", "close", "volume")
        return [(to_us(row["time"]), *(row[name] for name in names)) for row in await conn.fetch(query, symbol)]

    return await annex.run(select)


async def rolled_up(annex: Annex, series: Series) -> int:
    """How many hours TimescaleDB keeps of the series."""

    async def select(conn: Connection) -> int:
        return int(await conn.fetchval("SELECT count(*) FROM hourly_rollup WHERE series_id = $1", series.id))

    return await annex.run(select)


async def stale(annex: Annex) -> int:
    async def select(conn: Connection) -> int:
        return int(await conn.fetchval("SELECT count(*) FROM stale_hours"))

    return await annex.run(select)


async def roll_up(store: Store) -> None:
    """All there is to do."""
    if store.has_timescale:
        while await store.upkeep.roll_up():
            pass


def true_hours(bars: Bars) -> list[Hour]:
    of = bars.time // HOUR_US * HOUR_US
    parts = [bars.pick(of == hour) for hour in np.unique(of)]
    return [
        (int(p.time[0]) // HOUR_US * HOUR_US, p.open[0], p.high.max(), p.low.min(), p.close[-1], p.volume.sum())
        for p in parts
    ]


async def test_hours_are_those_of_the_minutes_before_and_after_they_are_rolled_up(store: Store, annex: Annex) -> None:
    series, bars = await a_series(store), minutes(3_000, MONDAY_US + 7 * MINUTE_US)
    await store.put(cut(series, bars, 700))
    assert await hours(annex) == true_hours(bars)
    await roll_up(store)
    assert await hours(annex) == true_hours(bars)
    if store.has_timescale:
        assert await rolled_up(annex, series) == len(true_hours(bars))
        assert await stale(annex) == 0


async def test_a_range_that_is_filled_years_later_is_in_them(store: Store, annex: Annex) -> None:
    series, new, old = await a_series(store), minutes(600), minutes(600, OLD_US, seed=2)
    await store.put([batch(series, new)])
    await roll_up(store)
    await store.put([batch(series, old)])
    assert await hours(annex) == true_hours(old) + true_hours(new)
    await roll_up(store)
    assert await hours(annex) == true_hours(old) + true_hours(new)


async def test_a_revision_is_in_them(store: Store, annex: Annex) -> None:
    series, bars = await a_series(store), minutes(600)
    await store.put([batch(series, bars)])
    await roll_up(store)
    changed = bars.pick(slice(None))
    changed.high[90] += 50
    await store.put([batch(series, changed)])
    assert await hours(annex) == true_hours(changed)
    await roll_up(store)
    assert await hours(annex) == true_hours(changed)
    await store.put([batch(series, changed)])
    if store.has_timescale:
        assert await stale(annex) == 0, "an answer that changes nothing leaves nothing to do"


async def test_only_minutes_are_rolled_up_and_each_symbol_for_itself(store: Store, annex: Annex) -> None:
    one, other = await a_series(store), await a_series(store, symbol="MSFT")
    hourly = await a_series(store, Interval.H1, symbol="MSFT")
    await store.put([batch(one, minutes(100)), batch(other, minutes(200, seed=3)), batch(hourly, flat([MONDAY_US]))])
    for _ in range(2):
        assert await hours(annex) == true_hours(minutes(100))
        assert await hours(annex, "MSFT") == true_hours(minutes(200, seed=3))
        await roll_up(store)


async def test_what_is_written_while_hours_are_rolled_up_is_rolled_up_too(store: Store, annex: Annex) -> None:
    series, whole = await a_series(store), minutes(40 * 60)
    async with trio.open_nursery() as nursery:
        if store.has_timescale:
            await nursery.start(run_roll_up, store)
        for first in range(0, len(whole), 60):
            async with trio.open_nursery() as at_once:
                at_once.start_soon(roll_up, store)
                await store.put([batch(series, whole.pick(slice(first, first + 60)))])
            assert await hours(annex) == true_hours(whole.pick(slice(0, first + 60)))
        nursery.cancel_scope.cancel()
    await roll_up(store)
    assert await hours(annex) == true_hours(whole)
    if store.has_timescale:
        assert await rolled_up(annex, series) == 40


async def test_what_a_dead_server_left_to_be_rolled_up_the_next_one_does(
    database_url: str, tmp_path: Path, annex: Annex
) -> None:
    async with open_store(database_url, tmp_path) as store:
        series = await a_series(store)
        await store.put([batch(series, minutes(600))])
    async with open_store(database_url, tmp_path) as store:
        await roll_up(store)
        assert await hours(annex) == true_hours(minutes(600))
        if store.has_timescale:
            assert await rolled_up(annex, series) == 10


@pytest.mark.parametrize("is_rolled_up", [True, False])
async def test_bars_that_are_forgotten_are_gone_from_them(store: Store, annex: Annex, is_rolled_up: bool) -> None:
    series, bars = await a_series(store), minutes(600)
    await store.put([batch(series, bars)])
    if is_rolled_up:
        await roll_up(store)
    await store.upkeep.forget_before({Interval.M1: int(bars.time[90])})
    assert await hours(annex) == true_hours(bars.pick(slice(90, None)))
    await roll_up(store)
    assert await hours(annex) == true_hours(bars.pick(slice(90, None)))
    assert await forget_old(store, Retention(intraday_days=1)) == 1
    assert await hours(annex) == []
    await roll_up(store)
    assert await hours(annex) == []
    assert len(await store.read(series, ALWAYS)) == 0
