"""Names that change: what was asked for under the wrong one leaves the series, and what the ledger said of it."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from integration.market import ALWAYS, MONDAY_US, a_series, batch, days, minutes

from timebase.model.alias import Alias, Aliases
from timebase.model.bars import Bars
from timebase.model.instrument import CorporateAction
from timebase.model.interval import Interval
from timebase.model.timerange import DAY_US, Ranges
from timebase.storage.annex import Annex, Connection, open_annex
from timebase.storage.faults import StoreFault
from timebase.storage.store import Store

CHANGE_US = MONDAY_US + DAY_US
GUARD = Aliases.of([Alias("META", CHANGE_US)])


@pytest.fixture
async def annex(database_url: str) -> AsyncIterator[Annex]:
    async with open_annex(database_url) as opened:
        yield opened


async def rows(conn: Connection, query: str) -> list[tuple[object, ...]]:
    return [tuple(row) for row in await conn.fetch(query)]


def revised(bars: Bars) -> Bars:
    every_hundredth = np.arange(len(bars)) % 100 == 0
    return replace(bars, close=bars.close + 0.01 * every_hundredth)


async def test_bars_that_were_asked_for_under_a_name_of_another_are_set_aside(store: Store, annex: Annex) -> None:
    series, other = await a_series(store, symbol="META"), await a_series(store, symbol="AAPL")
    bars = minutes(2 * 1440)
    actions = tuple(CorporateAction(MONDAY_US + at * DAY_US, "split", 2.0) for at in range(2))
    for each in (series, other):
        await store.put([batch(each, bars, actions=actions)])
        await store.put([batch(each, revised(bars))])
    if store.has_timescale:
        await store.upkeep.roll_up()
        await store.upkeep.compress_now()
    known_us = (await store.provenance(series.id, ALWAYS, 1))[0].fetched_us

    assert await store.upkeep.apply_aliases(GUARD) == 1
    kept = revised(bars).pick(slice(1440, None))
    assert (await store.read(series, ALWAYS)).close.tolist() == kept.close.tolist()
    assert len(await store.read(series, ALWAYS, as_of_us=known_us)) == 1440
    assert (await store.coverage(series.id)).settled == Ranges((days(1, 2),))
    assert [action.ex_date_us for action in await store.actions(series.instrument_id, "demo")] == [CHANGE_US]
    aside = await store.quarantined(series.id, ALWAYS, 10_000)
    assert (len(aside), {row.rule for row in aside}) == (1440 + 15, {"another_instrument"})
    assert len(await annex.run(rows, "SELECT time FROM hourly_ohlcv WHERE symbol = 'META'")) == 24
    assert len(await store.read(other, ALWAYS)) == 2 * 1440
    assert await store.upkeep.apply_aliases(GUARD) == 0


async def test_a_name_that_is_given_later_lets_its_range_be_asked_for(store: Store) -> None:
    series = await a_series(store, Interval.D1, symbol="META")
    await store.upkeep.apply_aliases(GUARD)
    await store.put([batch(series, minutes(5, CHANGE_US, DAY_US))])
    before = await store.coverage(series.id)
    assert await store.upkeep.apply_aliases(Aliases.of([Alias("META", CHANGE_US, "FB")])) == 0
    assert (await store.coverage(series.id)).complete == before.complete
    assert await store.upkeep.apply_aliases(Aliases()) == 0


async def test_names_are_listed_with_their_dates(store: Store, annex: Annex) -> None:
    given = [Alias("META", CHANGE_US, "FB"), Alias("META", CHANGE_US - DAY_US), Alias("C", CHANGE_US, "B", "acme")]
    await store.upkeep.apply_aliases(Aliases.of(given))
    query = "SELECT symbol, provider, native, isfinite(since), until::text FROM dated_aliases ORDER BY symbol, until"
    change, before = "2024-01-02 00:00:00+00", "2024-01-01 00:00:00+00"
    assert await annex.run(rows, query) == [
        ("C", "acme", "B", False, change),
        ("C", "acme", "C", True, "infinity"),
        ("META", "", None, False, before),
        ("META", "", "FB", True, change),
        ("META", "", "META", True, "infinity"),
    ]


async def test_no_two_names_can_hold_at_once(store: Store, annex: Annex) -> None:
    await store.upkeep.apply_aliases(GUARD)

    async def insert(conn: Connection) -> None:
        since = datetime(2024, 1, 2, tzinfo=UTC)
        query = "INSERT INTO aliases SELECT id, '', $1, 'METV' FROM instruments WHERE symbol = 'META'"
        await conn.execute(query, since)

    with pytest.raises(StoreFault, match="duplicate key"):
        await annex.run(insert)
