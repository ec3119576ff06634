"""Live batches over a real database: ticks, the bars they closed, and what is known of them, in one commit."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from integration.market import ALWAYS, MONDAY_US, batch, flat, minutes
from integration.tape import a_feed, barred, cut_tape, quotes, same_ticks, ticked, trades, update, word

from timebase.clock import now_us
from timebase.model.bars import Flag, Outcome
from timebase.model.collected import Collected
from timebase.model.feed import FeedKind
from timebase.model.interval import Interval
from timebase.model.live import BarStatus, LiveBatch
from timebase.model.ticks import TickPlace, Trades
from timebase.model.timerange import DAY_US, HOUR_US, MINUTE_US, SECOND_US, Ranges, TimeRange
from timebase.storage.annex import Annex, Connection, open_annex
from timebase.storage.delivery import Delivery
from timebase.storage.gather import Gathered, gather
from timebase.storage.housekeeping import Retention, forget_old
from timebase.storage.put_live import put_live
from timebase.storage.store import Store, open_store


@pytest.fixture(autouse=True, params=["one by one", "copied"])
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few ticks are stored in another way than many, and nothing may differ."""
    if request.param == "copied":
        monkeypatch.setattr("timebase.storage.put_live.FEW_TICKS", -1)


@pytest.fixture
async def annex(database_url: str) -> AsyncIterator[Annex]:
    async with open_annex(database_url) as opened:
        yield opened


async def stored_trades(store: Store, feed_id: int = 1) -> Trades:
    feed = await a_feed(store, id=feed_id)
    assert feed.ticks is not None
    return (await store.read_trades(feed.ticks, ALWAYS))[0]


# --- ticks


async def test_trades_come_out_as_they_went_in_with_the_commit_that_brought_them(store: Store) -> None:
    feed, tape = await a_feed(store), trades(50_000)
    assert feed.ticks is not None
    (first,) = await store.put_live([ticked(feed, tape.pick(slice(20_000)))])
    (second,) = await store.put_live([ticked(feed, tape.pick(slice(20_000, None)))])
    assert first.commit_id is not None
    assert second.commit_id is not None
    assert first.commit_id < second.commit_id
    read, commit_ids = await store.read_trades(feed.ticks, ALWAYS)
    assert same_ticks(read, tape)
    assert commit_ids.tolist() == [first.commit_id] * 20_000 + [second.commit_id] * 30_000


async def test_quotes_come_out_as_they_went_in(store: Store) -> None:
    feed, given = await a_feed(store, kind=FeedKind.QUOTES), quotes(10_000)
    assert feed.ticks is not None
    await store.put_live([ticked(feed, given)])
    read, commit_ids = await store.read_quotes(feed.ticks, ALWAYS)
    assert same_ticks(read, given)
    assert len(set(commit_ids.tolist())) == 1


async def test_trades_of_one_instant_keep_the_order_in_which_they_came(store: Store) -> None:
    feed, tape = await a_feed(store), trades(1_000, first_id=0, step_us=0)
    await store.put_live(list(cut_tape(feed, tape, 100)))
    assert same_ticks(await stored_trades(store), tape)


async def test_a_limit_keeps_the_oldest_or_the_newest(store: Store) -> None:
    feed, tape = await a_feed(store), trades(100)
    assert feed.ticks is not None
    await store.put_live([ticked(feed, tape)])
    oldest, _ = await store.read_trades(feed.ticks, ALWAYS, limit=10)
    newest, _ = await store.read_trades(feed.ticks, ALWAYS, limit=10, newest_first=True)
    assert same_ticks(oldest, tape.pick(slice(10)))
    assert same_ticks(newest, tape.pick(slice(90, None)))
    within, _ = await store.read_trades(feed.ticks, TimeRange(MONDAY_US + 5_000, MONDAY_US + 8_000))
    assert within.id.tolist() == [6, 7, 8]


async def test_a_page_goes_on_where_the_one_before_was_cut_also_within_an_instant(store: Store) -> None:
    feed, tape = await a_feed(store), trades(50, first_id=0, step_us=0)
    assert feed.ticks is not None
    (done,) = await store.put_live([ticked(feed, tape)])
    assert done.commit_id is not None
    after = TickPlace(MONDAY_US, done.commit_id, 20)
    rest, _ = await store.read_trades(feed.ticks, ALWAYS, after=after)
    assert same_ticks(rest, tape.pick(slice(20, None)))


async def test_a_trade_with_a_number_is_stored_once_however_often_it_is_told(store: Store) -> None:
    feed, tape = await a_feed(store), trades(3_000)
    await store.put_live([ticked(feed, tape.pick(slice(2_000)))])
    await store.put_live([ticked(feed, tape.pick(slice(1_000, None)))])
    await store.put_live([ticked(feed, tape), ticked(feed, tape)])
    assert same_ticks(await stored_trades(store), tape)


async def test_trades_without_a_number_are_never_taken_for_copies(store: Store) -> None:
    feed, tape = await a_feed(store), Trades.of([MONDAY_US] * 3, [1.0] * 3, [2.0] * 3)
    await store.put_live([ticked(feed, tape)])
    await store.put_live([ticked(feed, tape)])
    assert len(await stored_trades(store)) == 6


async def test_the_last_of_the_batches_that_share_a_commit_says_so(store: Store) -> None:
    feed, tape = await a_feed(store), trades(100)
    done = await store.put_live([ticked(feed, tape.pick(slice(at, at + 10))) for at in range(0, 100, 10)])
    assert len({each.commit_id for each in done}) == 1
    assert [each.is_last for each in done] == [False] * 9 + [True]


async def test_one_delivery_is_made_once_however_often_it_is_tried(store: Store) -> None:
    feed, tape = await a_feed(store), trades(100, first_id=0)
    delivery = Delivery("me")
    work = [replace(ticked(feed, tape), updates=(update(feed, minutes(2)),))]
    (first,) = await store.put_live(work, delivery)
    (again,) = await store.put_live(work, delivery)
    assert first.commit_id == again.commit_id
    assert same_ticks(await stored_trades(store), tape)
    assert len(await store.provenance(feed.bars[Interval.M1].id, ALWAYS)) == 1
    await store.put_live(work, Delivery("me"))
    assert len(await stored_trades(store)) == 200


async def locked_by(conn: Connection, what: Gathered) -> list[tuple[object, ...]]:
    """The locks with which that is stored: key and mode."""
    async with conn.transaction():
        await put_live(conn, what, Delivery("me"))
        held = "SELECT objid::integer, mode FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
        return await rows(conn, f"{held} ORDER BY 1")


async def test_what_is_compared_with_what_is_stored_is_locked_until_the_commit(store: Store, annex: Annex) -> None:
    """Retention, aliases and another server on the database read, decide and write: nothing may come in between."""
    feed, unnumbered = await a_feed(store), trades(10, first_id=0)
    assert feed.ticks is not None
    minute = feed.bars[Interval.M1].id
    with_bars = gather([replace(ticked(feed, trades(10)), updates=(update(feed, minutes(2)),))], MONDAY_US, set())
    assert await annex.run(locked_by, with_bars) == sorted(
        [(0, "ShareLock"), (minute, "ExclusiveLock"), (feed.ticks.id, "ExclusiveLock")]
    )
    assert await annex.run(locked_by, gather([ticked(feed, unnumbered)], MONDAY_US, set())) == []


async def test_two_servers_that_store_the_same_trades_at_once_store_them_once(store: Store, annex: Annex) -> None:
    """The second waits for the first, and only then looks at what is stored."""
    feed, tape = await a_feed(store), trades(10)
    stored, may_commit = trio.Event(), trio.Event()
    token = trio.lowlevel.current_trio_token()

    async def first(conn: Connection) -> None:
        go_on = asyncio.Event()
        loop = asyncio.get_running_loop()

        async def wait() -> None:
            await may_commit.wait()
            loop.call_soon_threadsafe(go_on.set)

        async with conn.transaction():
            await put_live(conn, gather([ticked(feed, tape)], MONDAY_US, set()), Delivery("first"))
            token.run_sync_soon(stored.set)
            token.run_sync_soon(nursery.start_soon, wait)
            await go_on.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(annex.run, first)
        await stored.wait()
        nursery.start_soon(store.put_live, [ticked(feed, tape)], Delivery("second"))
        await _until_one_waits(annex)
        may_commit.set()
    assert same_ticks(await stored_trades(store), tape)


async def _until_one_waits(annex: Annex) -> None:
    here = "database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    waiting = f"SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND {here}"
    with trio.fail_after(20):
        while not await annex.run(rows, waiting):  # noqa: ASYNC110
            await trio.sleep(0.01)


async def test_a_trade_that_was_taken_back_is_there_with_its_cancellation(store: Store) -> None:
    feed = await a_feed(store)
    tape = Trades.of([MONDAY_US] * 3, [1.0, 1.0, 1.1], [5.0] * 3, id=[7] * 3, flags=[0, 1, 2])
    await store.put_live([ticked(feed, tape)])
    await store.put_live([ticked(feed, tape)])
    assert same_ticks(await stored_trades(store), tape)


async def test_many_series_go_in_one_commit_and_are_told_apart(store: Store) -> None:
    feeds = [await a_feed(store, f"S{n}-USD", id=n) for n in range(30)]
    tapes = [trades(200, seed=n) for n in range(30)]
    done = await store.put_live([ticked(f, t) for f, t in zip(feeds, tapes, strict=True)])
    assert len({each.commit_id for each in done}) == 1
    for feed, tape in zip(feeds, tapes, strict=True):
        assert feed.ticks is not None
        assert same_ticks((await store.read_trades(feed.ticks, ALWAYS))[0], tape)


async def test_series_of_ticks_are_not_taken_for_series_of_bars(store: Store) -> None:
    feed = await a_feed(store)
    series = await store.series_of(feed.instrument.id)
    assert {each.interval for each in series} == {Interval.M1, Interval.M5}
    assert await store.tick_series_of(feed.instrument.id, "trades") == (feed.ticks,)
    assert await store.tick_series_of(feed.instrument.id, "quotes") == ()


async def test_a_symbol_that_is_recorded_is_known(store: Store) -> None:
    feed = await a_feed(store)
    assert await store.known_instrument("BTC-USDT") is None  # its series of bars have nothing yet
    await store.put_live([ticked(feed, trades(1))])
    assert await store.known_instrument("BTC-USDT") == feed.instrument
    assert await store.list_symbols() == (feed.instrument,)


# --- bars


async def test_a_closed_bar_is_stored_with_its_extras_its_provenance_and_its_claim(store: Store, annex: Annex) -> None:
    feed, bars = await a_feed(store), minutes(3)
    series = feed.bars[Interval.M1]
    await store.put_live([barred(update(feed, bars, vwap=100.25))])
    assert (await store.read(series, ALWAYS)).equals(bars)
    covered = TimeRange(MONDAY_US, MONDAY_US + 3 * MINUTE_US)
    assert (await store.coverage(series.id)).complete == Ranges((covered,))
    (known,) = await store.provenance(series.id, ALWAYS)
    assert (known.reason, known.outcome, known.covers, known.bars) == ("live", Outcome.COMPLETE, covered, 3)
    assert await extras(annex) == [(100.25, 7)] * 3


async def test_forming_and_missing_bars_are_only_shown(store: Store) -> None:
    feed, (one, two, three) = await a_feed(store), (flat([MONDAY_US + n * MINUTE_US], n + 1.0) for n in range(3))
    await store.put_live([
        barred(update(feed, one), update(feed, two, BarStatus.MISSING), update(feed, three, BarStatus.FORMING)),
    ])  # fmt: skip
    assert (await store.read(feed.bars[Interval.M1], ALWAYS)).equals(one)
    (claimed,) = (await store.coverage(feed.bars[Interval.M1].id)).complete.parts
    assert claimed == TimeRange(MONDAY_US, MONDAY_US + MINUTE_US)


async def test_between_two_closed_bars_nothing_is_claimed(store: Store) -> None:
    feed = await a_feed(store)
    await store.put_live([barred(update(feed, flat([MONDAY_US, MONDAY_US + 5 * MINUTE_US])))])
    complete = (await store.coverage(feed.bars[Interval.M1].id)).complete
    assert [part.length_us for part in complete.parts] == [MINUTE_US, MINUTE_US]


async def test_a_revision_leaves_what_was_known_before_readable(store: Store, annex: Annex) -> None:
    feed = await a_feed(store)
    series = feed.bars[Interval.M1]
    await store.put_live([barred(update(feed, flat([MONDAY_US], 1.0)))])
    before_us = now_us()
    await store.put_live([barred(update(feed, flat([MONDAY_US], 2.0), BarStatus.REVISED, vwap=2.0))])
    now = await store.read(series, ALWAYS)
    assert (now.close.tolist(), now.flags.tolist()) == ([2.0], [Flag.REVISED])
    then = await store.read(series, ALWAYS, as_of_us=before_us)
    assert (then.close.tolist(), then.flags.tolist()) == ([1.0], [0])
    assert await extras(annex) == [(2.0, 7)]


async def test_a_bar_closed_and_revised_in_one_commit_has_both_versions(store: Store, annex: Annex) -> None:
    feed = await a_feed(store)
    series = feed.bars[Interval.M1]
    await store.put_live([
        barred(update(feed, flat([MONDAY_US, MONDAY_US + MINUTE_US], 1.0))),
        barred(update(feed, flat([MONDAY_US], 2.0), BarStatus.REVISED)),
        barred(update(feed, flat([MONDAY_US + 2 * MINUTE_US], 3.0))),
    ])  # fmt: skip
    assert (await store.read(series, ALWAYS)).close.tolist() == [2.0, 1.0, 3.0]
    assert (await store.read(series, ALWAYS, as_of_us=now_us())).close.tolist() == [2.0, 1.0, 3.0]
    assert await annex.run(values, "SELECT close FROM bar_revisions") == [1.0]


async def test_a_live_bar_over_the_same_of_history_changes_nothing_of_it(store: Store, annex: Annex) -> None:
    feed, bars = await a_feed(store), minutes(10)
    series = feed.bars[Interval.M1]
    await store.put([batch(series, bars)])
    await store.put_live([barred(update(feed, bars))])
    assert (await store.read(series, ALWAYS)).equals(bars)
    assert await annex.run(values, "SELECT count(*) FROM bar_revisions") == [0]
    history, live = sorted(await annex.run(values, "SELECT id FROM batches"))
    assert history < live
    assert await annex.run(values, "SELECT DISTINCT batch_id FROM bars") == [history]


async def test_a_live_bar_closes_the_forming_one_of_history(store: Store) -> None:
    feed = await a_feed(store)
    series = feed.bars[Interval.M1]
    await store.put([batch(series, flat([MONDAY_US], 1.0, [Flag.FORMING]))])
    await store.put_live([barred(update(feed, flat([MONDAY_US], 2.0)))])
    read = await store.read(series, ALWAYS)
    assert (read.close.tolist(), read.flags.tolist()) == ([2.0], [0])
    assert len((await store.coverage(series.id)).complete.parts) == 1


async def test_hours_are_never_out_of_date_behind_live_minutes(store: Store, annex: Annex) -> None:
    feed = await a_feed(store)
    for price, status in ((1.0, BarStatus.CLOSED), (2.0, BarStatus.REVISED)):
        await store.put_live([barred(update(feed, flat([MONDAY_US], price), status))])
        assert await annex.run(rows, "SELECT symbol, high FROM hourly_ohlcv") == [("BTC-USDT", price)]
        if store.has_timescale:
            await store.upkeep.roll_up()
            assert await annex.run(rows, "SELECT symbol, high FROM hourly_ohlcv") == [("BTC-USDT", price)]


async def test_caches_hear_of_live_bars(store: Store) -> None:
    feed = await a_feed(store)
    minute, five = feed.bars[Interval.M1], feed.bars[Interval.M5]
    before = store.generation(minute.id)
    await store.put_live([replace(ticked(feed, trades(3)), updates=(update(feed, flat([MONDAY_US])),))])
    assert store.generation(minute.id) > before
    assert store.generation(five.id) == 0


# --- when it was recorded


async def test_what_was_recorded_is_from_up_to_down(store: Store) -> None:
    feed = await a_feed(store)
    assert feed.ticks is not None
    at = [MONDAY_US + n * SECOND_US for n in range(100)]
    await store.put_live([LiveBatch(words=(word(feed, True, at[10]),))])
    await store.put_live([ticked(feed, trades(1, first_us=at[12]), at[12])])
    await store.put_live([LiveBatch(words=(word(feed, False, at[20], "the vendor hung up"), word(feed, True, at[30])))])
    await store.put_live([ticked(feed, trades(1, first_id=2, first_us=at[40]), at[40])])
    everything = TimeRange(MONDAY_US, at[99])
    known = await store.recorded(feed.ticks, everything)
    assert known == Ranges((TimeRange(at[10], at[20]), TimeRange(at[30], at[40] + 1)))
    assert await store.recorded(feed.ticks, TimeRange(at[15], at[25])) == Ranges((TimeRange(at[15], at[20]),))


async def test_after_a_crash_without_a_word_it_was_recorded_until_its_last_tick(
    database_url: str, tmp_path: Path
) -> None:
    for first_id, first_us in ((1, MONDAY_US), (100, MONDAY_US + HOUR_US)):
        async with open_store(database_url, tmp_path) as store:
            feed = await a_feed(store)
            assert feed.ticks is not None
            await store.put_live([ticked(feed, trades(10, first_id, first_us), first_us + SECOND_US)])  # heard later
            known = await store.recorded(feed.ticks, TimeRange(MONDAY_US, MONDAY_US + DAY_US))
    assert known == Ranges((
        TimeRange(MONDAY_US, MONDAY_US + 9_001), TimeRange(MONDAY_US + HOUR_US, MONDAY_US + HOUR_US + 9_001)
    ))  # fmt: skip


# --- retention, views


async def test_a_series_was_first_heard_with_its_first_trade_since_its_feed_came_up(store: Store) -> None:
    feed, up_us = await a_feed(store), MONDAY_US
    had, came = trades(1, first_us=up_us - 9 * DAY_US), trades(3, first_id=2, first_us=up_us + 5)
    minutes, stranger = feed.bars[Interval.M1], (await a_feed(store, provider="other", id=2)).bars[Interval.M1]
    assert await store.first_heard_us(minutes) is None
    await store.put_live([LiveBatch(words=(word(feed, True, up_us),)), ticked(feed, had)])
    await store.put_live([ticked(feed, came)])
    assert await store.first_heard_us(minutes) == up_us + 5
    assert await store.first_heard_us(stranger) is None


async def test_a_tape_was_first_heard_with_its_first_trade(store: Store) -> None:
    feed = await a_feed(store)
    await store.put_live([LiveBatch(words=(word(feed, True, MONDAY_US + 900 * DAY_US),)), ticked(feed, trades(3))])
    assert await store.first_heard_us(feed.bars[Interval.M5]) == MONDAY_US


async def test_the_list_says_since_when_a_series_is_collected_by_name_or_by_whom_the_router_takes(store: Store) -> None:
    feed = await a_feed(store)
    assert await store.collected_since_us(feed.bars[Interval.M1]) is None
    await store.collect(Collected("BTC-USDT", Interval.M1))
    await store.collect(Collected("BTC-USDT", Interval.M5, "other"))
    since_us = await store.collected_since_us(feed.bars[Interval.M1])
    assert since_us is not None
    assert abs(now_us() - since_us) < HOUR_US
    assert await store.collected_since_us(feed.bars[Interval.M5]) is None


async def test_ticks_that_are_too_old_are_gone_and_bars_stay(store: Store) -> None:
    feed, now = await a_feed(store), now_us()
    old, new = trades(100, first_us=now - 40 * DAY_US), trades(100, first_id=1_000, first_us=now - DAY_US)
    bars = minutes(3, first_us=now // MINUTE_US * MINUTE_US - 40 * DAY_US)
    await store.put_live([replace(ticked(feed, old), updates=(update(feed, bars),)), ticked(feed, new)])
    await forget_old(store, Retention(ticks_days=None))
    assert len(await stored_trades(store)) == 200
    await forget_old(store, Retention(ticks_days=30))
    assert same_ticks(await stored_trades(store), new)
    assert (await store.read(feed.bars[Interval.M1], ALWAYS)).equals(bars)
    assert feed.ticks is not None
    (kept,) = (await store.recorded(feed.ticks, TimeRange(now - 100 * DAY_US, now))).parts
    assert kept.start_us >= now - 31 * DAY_US


async def test_compressed_ticks_are_read_and_told_apart_as_before(store: Store) -> None:
    feed, tape = await a_feed(store), trades(20_000, step_us=20 * SECOND_US)
    await store.put_live(list(cut_tape(feed, tape.pick(slice(10_000)), 1_000)))
    if store.has_timescale:
        await store.upkeep.compress_now()
    await store.put_live([ticked(feed, tape.pick(slice(5_000, None)))])
    assert same_ticks(await stored_trades(store), tape)


async def test_the_views_show_ticks_with_their_names(store: Store, annex: Annex) -> None:
    feed, quoted = await a_feed(store), await a_feed(store, kind=FeedKind.QUOTES, id=2)
    tape = Trades.of([MONDAY_US] * 2, [1.5] * 2, [2.0] * 2, [1, 0], [9, 0])
    await store.put_live([ticked(feed, tape), ticked(quoted, quotes(1))])
    seen = await annex.run(rows, "SELECT symbol, provider, price, size, side, id, flags FROM trades_data")
    assert seen == [("BTC-USDT", "demo", 1.5, 2.0, "buy", 9, 0), ("BTC-USDT", "demo", 1.5, 2.0, None, None, 0)]
    assert await annex.run(rows, "SELECT symbol, bid, ask_size FROM quotes_data") == [("BTC-USDT", 100.0, 2.5)]


async def rows(conn: Connection, query: str) -> list[tuple[object, ...]]:
    return [tuple(row) for row in await conn.fetch(query)]


async def values(conn: Connection, query: str) -> list[object]:
    return [row[0] for row in await conn.fetch(query)]


async def extras(annex: Annex) -> list[tuple[object, ...]]:
    return await annex.run(rows, "SELECT vwap, trades FROM bar_extras ORDER BY series_id, time")
