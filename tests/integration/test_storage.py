"""The store over a real database: what goes in comes out, with what is known about it."""

from pathlib import Path

import numpy as np
import pytest
import trio
from integration.market import ALWAYS, MONDAY_US, a_series, batch, cut, days, flat, minutes

from timebase.clock import now_us
from timebase.model.bars import Bars, Batch, Flag, Outcome, Refused
from timebase.model.collected import Collected
from timebase.model.instrument import AssetClass, CorporateAction, Instrument
from timebase.model.interval import Interval
from timebase.model.timerange import DAY_US, MINUTE_US, Ranges, TimeRange
from timebase.storage.migrate import migrations
from timebase.storage.queries.providers import ProviderRow
from timebase.storage.store import Store, open_store

HOUR_AGO, NOW = now_us() - 60 * MINUTE_US, now_us()


# --- instruments and series


async def test_a_fresh_store_knows_no_symbol(store: Store) -> None:
    assert await store.instrument("AAPL") is None


async def test_instruments_come_back_with_ids_in_the_order_given(store: Store) -> None:
    given = [Instrument(0, symbol, AssetClass.STOCK) for symbol in ("MSFT", "AAPL", "MSFT")]
    known = await store.upsert_instruments(given)
    assert [instrument.symbol for instrument in known] == ["MSFT", "AAPL", "MSFT"]
    assert all(instrument.id for instrument in known)
    assert await store.instrument("AAPL") == known[1]


async def test_what_a_provider_leaves_out_does_not_wipe_what_another_said(store: Store) -> None:
    await store.upsert_instruments([Instrument(0, "SPY", AssetClass.STOCK, "SPDR S&P 500", "USD", "NYSE Arca")])
    (known,) = await store.upsert_instruments([Instrument(0, "SPY", AssetClass.ETF, timezone="America/New_York")])
    assert known == Instrument(known.id, "SPY", AssetClass.ETF, "SPDR S&P 500", "USD", "NYSE Arca", "America/New_York")


async def test_symbols_are_listed_by_page(store: Store) -> None:
    symbols = ["BTC-USD", "AAPL", "AMZN", "EUR-USD"]
    await store.upsert_instruments([Instrument(0, symbol, AssetClass.STOCK, f"{symbol} Inc.") for symbol in symbols])
    await store.upsert_instruments([Instrument(0, "ETH-USD", AssetClass.CRYPTO)])
    first = await store.list_symbols(limit=2)
    rest = await store.list_symbols(after=first[-1].symbol)
    assert [instrument.symbol for instrument in (*first, *rest)] == sorted([*symbols, "ETH-USD"])
    assert [i.symbol for i in await store.list_symbols("usd", AssetClass.CRYPTO)] == ["ETH-USD"]
    assert [i.symbol for i in await store.list_symbols("amzn inc")] == ["AMZN"]
    assert await store.list_symbols("%") == ()


async def test_near_symbols_are_those_that_were_meant(store: Store) -> None:
    symbols = ["AAPL", "MSFT", "BTC-USD", "GOOGL"]
    await store.upsert_instruments([Instrument(0, symbol, AssetClass.STOCK) for symbol in symbols])
    assert (await store.near_symbols("appl"))[0] == "AAPL"
    assert (await store.near_symbols("BTCUSD"))[0] == "BTC-USD"
    assert await store.near_symbols("zzzzzzzz") == ()


async def test_a_series_is_made_once_also_by_many_at_the_same_time(store: Store) -> None:
    (instrument,) = await store.upsert_instruments([Instrument(0, "AAPL", AssetClass.STOCK)])
    found = set()

    async def ask() -> None:
        found.add(await store.series(instrument, "demo", Interval.M1))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(ask)
    assert set(await store.series_of(instrument.id)) == found
    assert len(found) == 1


# --- bars in and out


async def test_bars_come_out_as_they_went_in(store: Store) -> None:
    series, bars = await a_series(store), minutes(150_000)
    durables = await store.put(cut(series, bars))
    assert [durable.new for durable in durables] == [65_536, 65_536, 18_928]
    assert (await store.read(series, ALWAYS)).equals(bars)


async def test_a_reading_is_half_open_and_limited_at_either_end(store: Store) -> None:
    series, bars = await a_series(store), minutes(10)
    await store.put([batch(series, bars)])
    inside = TimeRange(int(bars.time[2]), int(bars.time[8]))
    assert (await store.read(series, inside)).equals(bars.pick(slice(2, 8)))
    assert (await store.read(series, inside, limit=2)).equals(bars.pick(slice(2, 4)))
    newest = await store.read(series, inside, limit=2, newest_first=True)
    assert newest.equals(bars.pick(slice(6, 8)))
    assert all(column.flags.c_contiguous for column in newest.columns())


async def test_the_extremes_of_numbers_survive(store: Store) -> None:
    series = await a_series(store, Interval.D1)
    odd = [5e-324, -37.63, 1.7976931348623157e308, 0.1 + 0.2]
    bars = Bars.of([-2_208_988_800_000_000 + n * DAY_US for n in range(4)], odd, odd, odd, odd, odd, [0, 1, 2, 8])
    await store.put([batch(series, bars)])
    assert (await store.read(series, TimeRange(-(10**16), 0))).equals(bars)


async def test_the_same_answer_again_changes_nothing(store: Store) -> None:
    series, bars = await a_series(store), minutes(1_000)
    await store.put([batch(series, bars)])
    (durable,) = await store.put([batch(series, bars)])
    assert (durable.new, durable.revised) == (0, 0)
    assert (await store.read(series, ALWAYS)).equals(bars)
    assert (await store.holding(series.id)).bars == 1_000


async def test_only_new_rows_of_an_overlapping_answer_are_stored(store: Store) -> None:
    series, bars = await a_series(store), minutes(1_000)
    await store.put([batch(series, bars.pick(slice(300, 600)))])
    (durable,) = await store.put([batch(series, bars)])
    assert durable.new == 700
    assert (await store.read(series, ALWAYS)).equals(bars)


async def test_a_few_rows_far_apart_are_compared_with_what_lies_there(store: Store) -> None:
    series = await a_series(store)
    stored = minutes(1_000)
    await store.put([batch(series, stored)])
    far = flat([int(stored.time[10]), int(stored.time[20]), MONDAY_US + 4_000 * DAY_US])
    (durable,) = await store.put([batch(series, far)])
    assert (durable.new, durable.revised) == (1, 2)
    assert (await store.holding(series.id)).bars == 1_001


async def test_batches_of_many_series_share_one_put_in_any_mixture(store: Store) -> None:
    a, b, c = [await a_series(store, symbol=symbol) for symbol in "ABC"]
    bars = minutes(300_000)
    mixed = [
        batch(a, bars.pick(slice(100_000))), batch(b, bars.pick(slice(50_000))),
        batch(a, bars.pick(slice(100_000, 200_000))), batch(c, Bars.empty(), days(0, 1), outcome=Outcome.EMPTY),
        batch(b, bars.pick(slice(40_000, 60_000))), batch(a, bars.pick(slice(200_000, None))),
        batch(a, bars.pick(slice(5))),
    ]  # fmt: skip
    durables = await store.put(mixed)
    assert [durable.new for durable in durables] == [100_000, 50_000, 100_000, 0, 10_000, 100_000, 0]
    assert (await store.read(a, ALWAYS)).equals(bars)
    assert (await store.read(b, ALWAYS)).equals(bars.pick(slice(60_000)))
    assert (await store.coverage(c.id)).empty == Ranges((days(0, 1),))


async def test_the_holding_says_how_much_there_is(store: Store) -> None:
    series, bars = await a_series(store), minutes(3)
    assert (await store.holding(series.id)).first_us is None
    await store.put([batch(series, bars)])
    holding = await store.holding(series.id)
    assert (holding.bars, holding.first_us, holding.last_us) == (3, MONDAY_US, MONDAY_US + 2 * MINUTE_US)


async def test_two_servers_on_one_database_do_not_disturb_each_other(
    store: Store, database_url: str, tmp_path: Path
) -> None:
    async with open_store(database_url, tmp_path) as other:
        series, bars = await a_series(store), minutes(20_000)
        assert await a_series(other) == series
        pieces = cut(series, bars, 500)

        async def put(one: Store, mine: list[Batch]) -> None:
            for piece in mine:
                await one.put([piece])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(put, store, pieces[:30])
            nursery.start_soon(put, other, pieces[10:][::-1])
        for each in (store, other):
            assert (await each.read(series, ALWAYS)).equals(bars)
            assert (await _afresh(each, series.id)).complete == Ranges(
                (TimeRange(MONDAY_US, MONDAY_US + 20_000 * MINUTE_US),)
            )


# --- revisions, and what was known before


async def test_a_closed_bar_that_changes_is_revised_and_the_old_one_stays_readable(store: Store) -> None:
    series = await a_series(store)
    old, new = minutes(10), minutes(10)
    new.close[4] += 1
    await store.put([batch(series, old, fetched_us=HOUR_AGO)])
    (durable,) = await store.put([batch(series, new, fetched_us=NOW)])
    assert (durable.new, durable.revised) == (0, 1)
    now = await store.read(series, ALWAYS)
    assert now.flags.tolist() == [0, 0, 0, 0, Flag.REVISED, 0, 0, 0, 0, 0]
    assert np.array_equal(now.close, new.close)
    assert (await store.read(series, ALWAYS, as_of_us=NOW - 1)).equals(old)
    assert (await store.read(series, ALWAYS, as_of_us=NOW)).equals(now)
    assert len(await store.read(series, ALWAYS, as_of_us=HOUR_AGO - 1)) == 0


async def test_every_version_of_a_bar_can_be_read(store: Store) -> None:
    series = await a_series(store)
    for version in range(5):
        await store.put([batch(series, flat([MONDAY_US], version), fetched_us=HOUR_AGO + version)])
    for version in range(5):
        (close,) = (await store.read(series, ALWAYS, as_of_us=HOUR_AGO + version)).close
        assert close == version


async def test_a_limit_counts_what_was_known_then(store: Store) -> None:
    series, bars = await a_series(store), minutes(10)
    await store.put([batch(series, bars.pick(slice(None, None, 2)), days(0, 1), fetched_us=HOUR_AGO)])
    await store.put([batch(series, bars, fetched_us=NOW)])
    then = await store.read(series, ALWAYS, limit=2, newest_first=True, as_of_us=HOUR_AGO)
    assert then.time.tolist() == [MONDAY_US + 6 * MINUTE_US, MONDAY_US + 8 * MINUTE_US]


async def test_what_was_settled_then_is_not_what_is_settled_now(store: Store) -> None:
    series, bars = await a_series(store), minutes(10)
    await store.put([batch(series, bars, days(0, 1), fetched_us=HOUR_AGO)])
    await store.put([batch(series, bars.pick(slice(0)), days(1, 2), outcome=Outcome.EMPTY, fetched_us=NOW - 1)])
    await store.put([batch(series, bars.pick(slice(0)), days(2, 3), outcome=Outcome.FAILED, fetched_us=NOW - 1)])
    assert (await store.coverage(series.id)).settled == Ranges((days(0, 2),))
    assert await store.settled_then(series, ALWAYS, NOW) == Ranges((days(0, 2),))
    assert await store.settled_then(series, days(0, 3), HOUR_AGO) == Ranges((days(0, 1),))
    assert await store.settled_then(series, days(1, 3), HOUR_AGO) == Ranges()
    assert await store.settled_then(series, ALWAYS, HOUR_AGO - 1) == Ranges()


async def test_what_was_not_over_then_was_not_settled(store: Store) -> None:
    series = await a_series(store, Interval.D1)
    noon_us = MONDAY_US + DAY_US + 12 * 60 * MINUTE_US
    asked = TimeRange(MONDAY_US, noon_us)
    await store.put([batch(series, flat([MONDAY_US]), asked, fetched_us=noon_us)])
    await store.put([batch(series, flat([MONDAY_US, MONDAY_US + DAY_US]), days(0, 2), fetched_us=NOW)])
    assert await store.settled_then(series, ALWAYS, noon_us) == Ranges((days(0, 1),))


async def test_a_forming_bar_that_closes_leaves_no_revision(store: Store) -> None:
    series = await a_series(store)
    await store.put([batch(series, flat([MONDAY_US], 1.0, [Flag.FORMING]), fetched_us=HOUR_AGO)])
    (durable,) = await store.put([batch(series, flat([MONDAY_US], 2.0), fetched_us=NOW)])
    assert durable.revised == 0
    assert (await store.read(series, ALWAYS)).equals(flat([MONDAY_US], 2.0))
    assert len(await store.read(series, ALWAYS, as_of_us=HOUR_AGO)) == 0


async def test_a_closed_bar_is_not_overwritten_by_a_forming_one(store: Store) -> None:
    series = await a_series(store)
    await store.put([batch(series, flat([MONDAY_US], 2.0))])
    await store.put([batch(series, flat([MONDAY_US], 1.0, [Flag.FORMING]))])
    assert (await store.read(series, ALWAYS)).equals(flat([MONDAY_US], 2.0))


async def test_a_revision_of_many_bars_at_once(store: Store) -> None:
    series = await a_series(store)
    await store.put(cut(series, minutes(100_000, seed=1)))
    new = minutes(100_000, seed=2)
    durables = await store.put(cut(series, new))
    assert sum(durable.revised for durable in durables) == 100_000
    stored = await store.read(series, ALWAYS)
    assert np.array_equal(stored.close, new.close)
    assert (stored.flags == Flag.REVISED).all()


# --- coverage


async def test_coverage_is_noted_with_the_bars(store: Store) -> None:
    series = await a_series(store, Interval.D1)
    await store.put([batch(series, flat([MONDAY_US]), days(0, 5))])
    await store.put([batch(series, Bars.empty(), days(5, 7), outcome=Outcome.EMPTY)])
    await store.put([batch(series, Bars.empty(), days(6, 9), outcome=Outcome.FAILED, why="timeout")])
    coverage = await store.coverage(series.id)
    assert coverage.complete == Ranges((days(0, 5),))
    assert coverage.empty == Ranges((days(5, 7),))
    assert coverage.failed == Ranges((days(7, 9),))
    assert coverage.settled == Ranges((days(0, 7),))


async def test_the_newest_word_wins(store: Store) -> None:
    series = await a_series(store, Interval.D1)
    for outcome in (Outcome.FAILED, Outcome.PARTIAL, Outcome.EMPTY, Outcome.COMPLETE):
        await store.put([batch(series, Bars.empty(), days(0, 5), outcome=outcome)])
        coverage = await store.coverage(series.id)
        assert getattr(coverage, outcome.value) == Ranges((days(0, 5),))
        held = [each for each in Outcome if getattr(coverage, each.value)]
        assert held == [outcome]


async def test_a_ledger_with_many_holes_is_kept_exactly(store: Store, database_url: str) -> None:
    series = await a_series(store, Interval.D1)
    await store.put([batch(series, Bars.empty(), days(n, n + 1)) for n in range(0, 600, 2)])
    expected = Ranges(tuple(days(n, n + 1) for n in range(0, 600, 2)))
    assert (await store.coverage(series.id)).complete == expected
    assert (await _afresh(store, series.id)).complete == expected
    await store.put([batch(series, Bars.empty(), days(0, 600))])
    assert (await _afresh(store, series.id)).complete == Ranges((days(0, 600),))


async def _afresh(store: Store, series_id: int):
    """The coverage as the database has it."""
    store._touch(series_id)
    return await store.coverage(series_id)


async def test_a_put_makes_a_new_generation_of_its_series_only(store: Store) -> None:
    a, b = await a_series(store, symbol="A"), await a_series(store, symbol="B")
    before = store.generation(a.id), store.generation(b.id)
    await store.put([batch(a, minutes(3))])
    assert store.generation(a.id) > before[0]
    assert store.generation(b.id) == before[1]
    assert (await store.coverage(a.id)).generation == store.generation(a.id)


# --- quarantine, actions, provenance


async def test_refused_rows_lie_in_quarantine_under_their_rule(store: Store) -> None:
    series = await a_series(store, Interval.D1)
    wrong = Bars.of([MONDAY_US + DAY_US], [float("nan")], [float("inf")], [-1.0], [0.0], [1.0])
    answer = batch(series, flat([MONDAY_US]), days(0, 3), refused=(Refused("finite", wrong),), fetched_us=NOW)
    for _ in range(2):  # the same answer twice is there once
        await store.put([answer])
    (row,) = await store.quarantined(series.id, days(0, 3))
    assert (row.time_us, row.rule, row.high, row.fetched_us) == (MONDAY_US + DAY_US, "finite", float("inf"), NOW)
    coverage = await store.coverage(series.id)
    assert coverage.refused == Ranges((days(1, 2),))
    assert coverage.complete == Ranges((days(0, 1), days(2, 3)))


async def test_actions_are_kept_once_in_order_and_the_newest_word_wins(store: Store) -> None:
    series = await a_series(store, Interval.D1)
    split, dividend = CorporateAction(MONDAY_US, "split", 4.0), CorporateAction(0, "dividend", 0.2, "USD")
    corrected = CorporateAction(0, "dividend", 0.25, "USD")
    await store.put([batch(series, flat([MONDAY_US]), actions=(split, dividend))])
    await store.put([batch(series, flat([MONDAY_US]), actions=(split, corrected))])
    assert await store.actions(series.instrument_id, "demo") == (corrected, split)
    assert await store.actions(series.instrument_id, "other") == ()


async def test_texts_and_dates_of_strangers_break_nothing(store: Store) -> None:
    series = await a_series(store, Interval.D1)
    odd = (CorporateAction(10**18, "split", 2.0), CorporateAction(0, "spl\0it", float("nan"), "\ud800"))
    await store.put([batch(series, flat([MONDAY_US]), actions=odd, warnings=("a\nb", "\0"), why="\ud800")])
    (action,) = await store.actions(series.instrument_id, "demo")
    assert action.kind == "spl�it"
    (seen,) = await store.provenance(series.id, days(0, 1))
    assert seen.warnings == ("a b", "�")


async def test_every_answer_leaves_its_provenance(store: Store) -> None:
    series = await a_series(store, Interval.D1)
    await store.put([batch(series, flat([MONDAY_US]), days(0, 2), fetched_us=HOUR_AGO)])
    await store.put([batch(series, Bars.empty(), days(1, 3), outcome=Outcome.FAILED, why="timeout", reason="backfill")])
    newest, oldest = await store.provenance(series.id, days(0, 9))
    assert (newest.outcome, newest.why, newest.reason, newest.covers) == ("failed", "timeout", "backfill", days(1, 3))
    assert (oldest.bars, oldest.fetched_us) == (1, HOUR_AGO)
    assert await store.provenance(series.id, days(5, 9)) == ()


# --- providers and budgets


async def test_providers_are_listed_as_they_are_now(store: Store) -> None:
    await store.put_providers([ProviderRow("b", "B", "1", True), ProviderRow("a", "A", "1", True, '{"x": 1}')])
    await store.put_providers([ProviderRow("b", "B", "2", False, capabilities='["historical_data"]')])
    assert await store.providers() == (
        ProviderRow("a", "A", "1", True, '{"x": 1}'),
        ProviderRow("b", "B", "2", False, capabilities='["historical_data"]'),
    )


async def test_budgets_are_remembered_until_they_are_pruned(store: Store) -> None:
    await store.take_budget("yahoo", HOUR_AGO, 2)
    await store.take_budget("yahoo", NOW, 1, "AAPL 1d")
    assert await store.load_budget_takes(0) == [("yahoo", HOUR_AGO, 2, None), ("yahoo", NOW, 1, "AAPL 1d")]
    assert len(await store.load_budget_takes(NOW)) == 1
    await store.prune_budget_takes(NOW)
    assert len(await store.load_budget_takes(0)) == 1


# --- retention


async def test_what_is_too_old_is_forgotten_together_with_the_claim_to_have_it(store: Store) -> None:
    minute, daily = await a_series(store), await a_series(store, Interval.D1)
    bars = minutes(3 * 1440)
    await store.put([batch(minute, bars), batch(daily, flat([MONDAY_US]))])
    cutoff = MONDAY_US + DAY_US
    assert await store.upkeep.forget_before({Interval.M1: cutoff}) == 1
    assert (await store.read(minute, ALWAYS)).equals(bars.pick(slice(1440, None)))
    assert (await store.coverage(minute.id)).complete == Ranges((days(1, 3),))
    assert len(await store.read(daily, ALWAYS)) == 1
    assert await store.upkeep.forget_before({Interval.M1: cutoff}) == 0


# --- the collector's list


async def test_what_is_collected_is_on_the_list_once_and_in_order(store: Store) -> None:
    best = Collected("BTC-USDT", Interval.M1)
    lines = (Collected("AAPL", Interval.D1, "demo"), best, Collected("BTC-USDT", Interval.M1, "demo"))
    for line in (*reversed(lines), best):
        await store.collect(line)
    assert set(await store.collected()) == set(lines)
    assert [line.symbol for line in await store.collected()] == ["AAPL", "BTC-USDT", "BTC-USDT"]
    await store.uncollect(best)
    await store.uncollect(best)
    assert best not in await store.collected()
    assert len(await store.collected()) == 2


# --- the database itself


async def test_the_store_says_how_it_is(store: Store) -> None:
    await store.ping()
    health = store.health()
    assert store.is_up
    assert health["schema"] == max(name for name in migrations() if store.has_timescale or ".timescale." not in name)


@pytest.mark.parametrize("symbol", ["", "'; DROP TABLE bars; --", "日経", "A" * 10_000])
async def test_strange_symbols_are_only_strange(store: Store, symbol: str) -> None:
    assert await store.instrument(symbol) is None
    assert await store.near_symbols(symbol) == ()
    assert await store.list_symbols(symbol) == ()
