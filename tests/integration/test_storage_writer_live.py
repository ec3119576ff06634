"""The writer and what comes live: merged, durable here or on disk, in order, once."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import trio
from integration.desk import open_desk
from integration.market import ALWAYS, MONDAY_US, a_series, batch, cut, flat, minutes
from integration.tape import a_feed, barred, cut_tape, quotes, same_ticks, ticked, trades, update, word

from timebase.model.bars import Durable
from timebase.model.feed import Feed, FeedKind
from timebase.model.interval import Interval
from timebase.model.live import BarStatus, LiveBatch
from timebase.model.ticks import Trades
from timebase.storage.delivery import Delivery
from timebase.storage.store import Store, open_store


async def tape_of(store: Store, feed: Feed) -> Trades:
    known = await store.instrument(feed.instrument.symbol)
    assert known is not None
    series = await store.tick_series(known, feed.provider, "trades")
    return (await store.read_trades(series, ALWAYS))[0]


async def test_live_and_history_come_through_one_inbox(database_url: str, tmp_path: Path) -> None:
    async with open_desk(database_url, tmp_path) as desk:
        feed, tape, bars = await a_feed(desk.store), trades(10_000), minutes(20_000)
        lives, batches = list(cut_tape(feed, tape, 500)), cut(feed.bars[Interval.M5], bars, 1_000)
        for live, old in zip(lives, batches, strict=True):
            await desk.inlet.send(live)
            await desk.inlet.send(old)
        await desk.reported(40)
        assert [each.batch for each in desk.shown] == lives
        assert [each.batch for each in desk.durables] == batches
        commits = [each.commit_id for each in desk.shown]
        assert commits == sorted(commits, key=lambda commit: commit or 0)
        assert None not in commits
        assert same_ticks(await tape_of(desk.store, feed), tape)
        assert (await desk.store.read(feed.bars[Interval.M5], ALWAYS)).equals(bars)


async def test_live_batches_that_wait_are_one_commit_and_go_before_history(database_url: str, tmp_path: Path) -> None:
    async with open_desk(database_url, tmp_path, waiting=20) as desk:
        feed = await a_feed(desk.store)
        (first,) = await desk.tell(ticked(feed, trades(1)))
        old = batch(feed.bars[Interval.M1], minutes(1))
        lives = [ticked(feed, trades(10, first_id=n * 100)) for n in range(1, 6)]
        for each in (old, *lives):  # into a buffer with room, so all of them wait at once
            desk.inlet.send_nowait(each)
        await desk.reported(7)
        assert isinstance(desk.done[-1], Durable)
        assert {each.commit_id for each in desk.shown} == {first.commit_id, desk.shown[-1].commit_id}


async def test_what_is_only_shown_travels_on_without_a_commit(database_url: str, tmp_path: Path) -> None:
    async with open_desk(database_url, tmp_path) as desk:
        feed = await a_feed(desk.store)
        forming = barred(update(feed, flat([MONDAY_US]), BarStatus.FORMING))
        (shown,) = await desk.tell(forming)
        assert (shown.batch, shown.commit_id, shown.error) == (forming, None, "")
        assert len(await desk.store.read(feed.bars[Interval.M1], ALWAYS)) == 0


async def test_while_the_database_is_away_live_batches_wait_on_disk_and_are_stored_once(
    database_url: str, tmp_path: Path
) -> None:
    async with open_desk(database_url, tmp_path) as desk:
        feed, tape, bars = await a_feed(desk.store), trades(10_000, first_id=0), minutes(3)
        quoted, given = await a_feed(desk.store, kind=FeedKind.QUOTES, id=2), quotes(500)
        first, *rest = cut_tape(feed, tape, 1_000)
        await desk.tell(first)
        await desk.plug.pull()
        closing = replace(rest[0], updates=(update(feed, bars),), words=(word(feed, False, MONDAY_US, "gone"),))
        forming = barred(update(feed, flat([MONDAY_US]), BarStatus.FORMING))
        shown = await desk.tell(closing, forming, ticked(quoted, given), *rest[1:5])
        assert [each.batch for each in shown][:2] == [closing, forming]
        assert all(each.commit_id is None and not each.error for each in shown)
        await desk.plug.push()
        await desk.tell(*rest[5:])
        await desk.emptied()
        assert same_ticks(await tape_of(desk.store, feed), tape)
        assert quoted.ticks is not None
        assert same_ticks((await desk.store.read_quotes(quoted.ticks, ALWAYS))[0], given)
        assert (await desk.store.read(feed.bars[Interval.M1], ALWAYS)).equals(bars)
        assert len((await desk.store.coverage(feed.bars[Interval.M1].id)).complete.parts) == 1


async def test_a_commit_whose_acknowledgement_got_lost_is_not_made_twice(database_url: str, tmp_path: Path) -> None:
    async with open_desk(database_url, tmp_path) as desk:
        feed, tape = await a_feed(desk.store), trades(100, first_id=0)
        work, delivery = ticked(feed, tape), Delivery(desk.spool.writer)
        await desk.store.put_live([work], delivery)
        await desk.spool.append_live([work], delivery)  # as the writer does that has not heard of it
    async with open_desk(database_url, tmp_path) as desk:
        await desk.emptied()
        assert same_ticks(await tape_of(desk.store, feed), tape)


async def test_the_spool_keeps_live_and_history_in_their_order(database_url: str, tmp_path: Path) -> None:
    async with open_desk(database_url, tmp_path) as desk:
        feed = await a_feed(desk.store)
        series = feed.bars[Interval.M1]
        await desk.plug.pull()
        for version in range(1, 6):
            if version % 2:
                await desk.hand_in(batch(series, flat([MONDAY_US], version)))
            else:
                await desk.tell(barred(update(feed, flat([MONDAY_US], version))))
    async with open_desk(database_url, tmp_path) as desk:
        await desk.emptied()
        assert (await desk.store.read(series, ALWAYS)).close.tolist() == [5.0]


async def test_a_full_spool_says_so_of_what_would_have_been_stored(database_url: str, tmp_path: Path) -> None:
    async with open_desk(database_url, tmp_path, spool_mb=1) as desk:
        feed = await a_feed(desk.store)
        await desk.plug.pull()
        (kept,) = await desk.tell(ticked(feed, trades(20_000)))
        (lost,) = await desk.tell(ticked(feed, trades(20_000, first_id=20_001)))
        (forming,) = await desk.tell(barred(update(feed, flat([MONDAY_US]), BarStatus.FORMING)))
        assert (kept.error, forming.error) == ("", "")
        assert "spool holds" in lost.error
        await desk.plug.push()
        await desk.emptied()
        assert same_ticks(await tape_of(desk.store, feed), trades(20_000))


async def test_spooled_ticks_find_their_series_by_name_in_another_database(
    database_url: str, empty_database_url: str, tmp_path: Path
) -> None:
    async with open_desk(database_url, tmp_path) as desk:
        await a_feed(desk.store, "FIRST-USD")
        feed, tape = await a_feed(desk.store, "SECOND-USD"), trades(100)
        await desk.plug.pull()
        await desk.tell(replace(ticked(feed, tape), updates=(update(feed, minutes(3)),)))
    async with open_desk(empty_database_url, tmp_path) as desk:
        await a_series(desk.store, symbol="THIRD-USD")
        await desk.emptied()
        assert same_ticks(await tape_of(desk.store, feed), tape)
        there = await a_series(desk.store, Interval.M1, "SECOND-USD")
        assert (await desk.store.read(there, ALWAYS)).equals(minutes(3))


async def test_the_database_may_go_and_come_at_any_moment_and_trades_without_numbers_are_there_once(
    database_url: str, tmp_path: Path
) -> None:
    async with open_desk(database_url, tmp_path) as desk:
        feed, tape, bars = await a_feed(desk.store), trades(400_000, first_id=0), minutes(400)
        lives = [
            replace(live, updates=(update(feed, bars.pick(slice(n, n + 1))),))
            for n, live in enumerate(cut_tape(feed, tape, 1_000))
        ]

        async def pull_and_push() -> None:
            for n in range(8):
                await trio.sleep(0.02 + 0.03 * n)
                await desk.plug.pull()
                await trio.sleep(0.05)
                await desk.plug.push()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(pull_and_push)
            for each in lives:
                await desk.inlet.send(each)
        await desk.reported(len(lives))
        await desk.emptied()
        assert not any(each.error for each in desk.shown)
        assert [each.batch for each in desk.shown] == lives
        assert same_ticks(await tape_of(desk.store, feed), tape)
        assert (await desk.store.read(feed.bars[Interval.M1], ALWAYS)).equals(bars)


async def test_it_ends_when_its_input_ends_with_every_tick_stored(database_url: str, tmp_path: Path) -> None:
    async with open_desk(database_url, tmp_path) as desk:
        feed, tape = await a_feed(desk.store), trades(100)
        for live in cut_tape(feed, tape, 1):
            await desk.inlet.send(live)
        await desk.inlet.send(LiveBatch())
    async with open_store(database_url, tmp_path) as store:
        assert same_ticks(await tape_of(store, feed), tape)
    assert len(desk.shown) == 101
    assert np.all(np.diff([each.durable_us for each in desk.shown]) >= 0)
