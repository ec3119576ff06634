"""What TimescaleDB adds, and that plain PostgreSQL gives the same answers without it."""

import io
import json
import zipfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from integration.market import ALWAYS, MONDAY_US, a_series, batch, cut, days, flat, minutes

from timebase.model.bars import Bars
from timebase.model.interval import Interval
from timebase.model.timerange import DAY_US, MINUTE_US, Ranges, TimeRange, to_datetime
from timebase.storage.annex import Annex, Connection, open_annex
from timebase.storage.faults import StoreFault
from timebase.storage.store import Store, open_store


@pytest.fixture
async def annex(database_url: str) -> AsyncIterator[Annex]:
    async with open_annex(database_url) as opened:
        yield opened


async def scalar(conn: Connection, query: str) -> object:
    return await conn.fetchval(query)


async def test_bars_are_a_hypertable_exactly_where_the_extension_is(store: Store, annex: Annex) -> None:
    has_extension = await annex.run(scalar, "SELECT count(*) FROM pg_extension WHERE extname = 'timescaledb'")
    assert store.has_timescale == bool(has_extension)
    if not store.has_timescale:
        with pytest.raises(StoreFault):
            await store.upkeep.compression()
        return
    query = "SELECT compression_enabled FROM timescaledb_information.hypertables WHERE hypertable_name = 'bars'"
    assert await annex.run(scalar, query) is True


async def test_compressed_bars_are_read_revised_and_added_to_as_before(store: Store) -> None:
    series, bars = await a_series(store), minutes(100_000)
    await store.put(cut(series, bars.pick(slice(0, None, 2))))
    if store.has_timescale:
        await store.upkeep.compress_now()
        compression = await store.upkeep.compression()
        assert compression.compressed == compression.chunks > 1
    old = await store.read(series, ALWAYS)
    assert old.equals(bars.pick(slice(0, None, 2)))
    changed = bars.pick(slice(None))
    changed.close[::1_000] += 1
    durables = await store.put(cut(series, changed))
    assert sum(durable.new for durable in durables) == 50_000
    assert sum(durable.revised for durable in durables) == 100
    assert (await store.read(series, ALWAYS)).close.tolist() == changed.close.tolist()
    as_of = durables[0].batch.fetched_us - 1
    assert (await store.read(series, ALWAYS, as_of_us=as_of)).equals(old)
    await store.upkeep.forget_before({Interval.M1: MONDAY_US + 60 * DAY_US})
    assert (await store.holding(series.id)).first_us == MONDAY_US + 60 * DAY_US


async def test_of_a_compressed_chunk_any_number_of_bars_is_revised(store: Store) -> None:
    series, bars = await a_series(store), minutes(150_000, MONDAY_US + 30 * MINUTE_US)
    await store.put(cut(series, bars))
    if store.has_timescale:
        await store.upkeep.compress_now()
    changed = replace(bars, close=bars.close + 0.01)
    durables = await store.put(cut(series, changed))
    assert sum(durable.revised for durable in durables) == len(bars)
    assert (await store.read(series, ALWAYS)).close.tolist() == changed.close.tolist()


async def test_of_a_compressed_chunk_any_number_of_bars_is_forgotten(store: Store) -> None:
    series, bars = await a_series(store), minutes(150_000)
    await store.put(cut(series, bars))
    if store.has_timescale:
        await store.upkeep.compress_now()
    last_us = int(bars.time[-1])
    await store.upkeep.forget_before({Interval.M1: last_us})
    assert (await store.holding(series.id)).bars == 1


async def test_whole_chunks_are_dropped_once_nobody_keeps_anything_of_them(store: Store, annex: Annex) -> None:
    minute, daily = await a_series(store), await a_series(store, Interval.D1, symbol="MSFT")
    bars = minutes(130, MONDAY_US, DAY_US)  # into May
    await store.put([batch(minute, bars), batch(daily, flat([MONDAY_US + 40 * DAY_US]))])  # in February
    chunks = "SELECT count(*) FROM timescaledb_information.chunks WHERE hypertable_name = 'bars'"
    before = await annex.run(scalar, chunks) if store.has_timescale else 0

    cutoff = MONDAY_US + 100 * DAY_US
    assert await store.upkeep.forget_before({Interval.M1: cutoff}) == 1
    assert (await store.read(minute, ALWAYS)).equals(bars.pick(slice(100, None)))
    assert (await store.coverage(minute.id)).complete == Ranges((TimeRange(cutoff, int(bars.time[-1]) + MINUTE_US),))
    assert len(await store.read(daily, ALWAYS)) == 1
    if store.has_timescale:
        assert await annex.run(scalar, chunks) == before - 2, "of February a day is kept"

    assert await store.upkeep.forget_before({Interval.M1: cutoff, Interval.D1: cutoff}) == 1
    assert len(await store.read(daily, ALWAYS)) == 0
    assert not (await store.coverage(daily.id)).complete
    assert len(await store.read(minute, ALWAYS)) == 30
    if store.has_timescale:
        assert await annex.run(scalar, chunks) == before - 3


async def test_sixty_years_of_days_are_stored_and_read(store: Store) -> None:
    series = await a_series(store, Interval.D1)
    bars = minutes(365 * 60, MONDAY_US - 365 * 60 * DAY_US, DAY_US)
    await store.put([batch(series, bars)])
    assert (await store.read(series, ALWAYS)).equals(bars)


@pytest.mark.parametrize("after_days", [30, None])
async def test_when_chunks_are_compressed_is_a_setting(
    database_url: str, annex: Annex, tmp_path: Path, after_days: int | None
) -> None:
    async with open_store(database_url, tmp_path, compress_after_days=after_days) as store:
        if store.has_timescale:
            query = "SELECT config->>'compress_after' FROM timescaledb_information.jobs WHERE hypertable_name = 'bars'"
            assert await annex.run(scalar, query) == (after_days and f"{after_days} days")


async def test_the_views_show_what_the_store_reads(store: Store, annex: Annex) -> None:
    minute, daily = await a_series(store), await a_series(store, Interval.D1)
    await store.put([batch(minute, minutes(5)), batch(daily, minutes(1), days(0, 1))])

    async def rows(conn: Connection, query: str) -> list[tuple[object, ...]]:
        return [tuple(row) for row in await conn.fetch(query)]

    seen = await annex.run(
        rows, "SELECT symbol, provider, interval, close FROM time_series_data ORDER BY interval, time"
    )
    assert [row[:3] for row in seen] == [("AAPL", "demo", "1d")] + [("AAPL", "demo", "1m")] * 5
    assert [row[3] for row in seen[1:]] == (await store.read(minute, ALWAYS)).close.tolist()
    (day,) = await annex.run(rows, "SELECT date::text, symbol, open FROM daily_ohlcv")
    assert day[:2] == ("2024-01-01", "AAPL")
    (forming,) = await annex.run(rows, "SELECT DISTINCT metadata->'forming' FROM time_series_data")
    assert forming == ("false",)


async def test_a_bar_that_was_built_from_ticks_shows_their_number_and_average_price(store: Store, annex: Annex) -> None:
    series = await a_series(store)
    await store.put([batch(series, minutes(2))])

    async def add_and_select(conn: Connection) -> list[str]:
        insert = "INSERT INTO bar_extras (series_id, time, vwap, trades) VALUES ($1, $2, 100.25, 42)"
        await conn.execute(insert, series.id, to_datetime(MONDAY_US))
        query = "SELECT (metadata - 'batch')::text AS said FROM time_series_data WHERE symbol = 'AAPL' ORDER BY time"
        return [row["said"] for row in await conn.fetch(query)]

    with_extras, without = (json.loads(said) for said in await annex.run(add_and_select))
    assert without == dict.fromkeys(("forming", "revised", "repaired", "backfilled"), False)
    assert with_extras == without | {"vwap": 100.25, "trades": 42}
    await store.upkeep.forget_before({Interval.M1: MONDAY_US + DAY_US})
    assert await annex.run(scalar, "SELECT count(*) FROM bar_extras") == 0


@pytest.mark.shared
async def test_compression_saves_seventy_per_cent_of_real_minutes(store: Store, shared_data: Path) -> None:
    truth = {}
    for folder in sorted((shared_data / "lean" / "crypto" / "coinbase" / "minute").iterdir()):
        series = await a_series(store, symbol=folder.name.upper())
        truth[series] = lean_minutes(folder, "201804*_trade.zip")  # one chunk; each has some 100 KB of fixed costs
        await store.put(cut(series, truth[series]))
    if store.has_timescale:
        await store.upkeep.compress_now()
        compression = await store.upkeep.compression()
        assert compression.after_bytes < 0.3 * compression.before_bytes
    for series, bars in truth.items():
        assert (await store.read(series, ALWAYS)).equals(bars)


def lean_minutes(folder: Path, names: str) -> Bars:
    """Zipped CSV without a header: milliseconds since midnight, open, high, low, close, volume; dates in the names."""
    parts = []
    for path in sorted(folder.glob(names)):
        with zipfile.ZipFile(path) as whole:
            rows = np.loadtxt(io.BytesIO(whole.read(whole.namelist()[0])), delimiter=",", ndmin=2)
        midnight = np.datetime64(f"{path.name[:4]}-{path.name[4:6]}-{path.name[6:8]}", "us").astype(np.int64)
        parts.append(Bars.of(midnight + (rows[:, 0] * 1_000).astype(np.int64), *rows[:, 1:6].T))
    return Bars.concat(parts)
