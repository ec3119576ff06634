import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import numpy as np
import pytest
import trio
import trio.testing
from unit.aggregation.tapes import feed_of, live, told, trades_at

from timebase.aggregation.aggregator import MAX_TICKS, Aggregator, run_aggregator
from timebase.aggregation.bar_builder import Building
from timebase.model.bars import Bars, Batch, Outcome
from timebase.model.feed import FeedKind
from timebase.model.interval import Interval
from timebase.model.live import BarStatus, Live, LiveBatch
from timebase.model.series import Series
from timebase.model.ticks import Quotes
from timebase.model.timerange import MINUTE_US, TimeRange, to_us
from timebase.quality.validator import run_validator
from timebase.turn import Turn

NOON = to_us(datetime(2024, 3, 8, 12, tzinfo=UTC))
AT_ONCE = Building(lateness_us=0)


def history(demand_id: int) -> Batch:
    covers = TimeRange(NOON, NOON + MINUTE_US)
    series = Series(9, 1, "BTC-USDT", "demo", Interval.M1)
    return Batch(demand_id, series, covers, Outcome.EMPTY, "history", NOON, Bars.empty())


async def aggregated(items: Sequence[Batch | Live]) -> list[Batch | LiveBatch]:
    """What leaves when all of it is waiting."""
    good_in, good_out = trio.open_memory_channel[Batch | Live](len(items))
    ready_in, ready_out = trio.open_memory_channel[Batch | LiveBatch](len(items))
    for item in items:
        good_in.send_nowait(item)
    good_in.close()
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(run_aggregator, building=AT_ONCE), good_out, ready_in)
    return [item async for item in ready_out]


def test_trades_and_the_bars_they_close_are_in_one_batch() -> None:
    aggregator, feed = Aggregator(AT_ONCE), feed_of([Interval.M1])
    aggregator.take([live(feed, trades=trades_at(-30, 1, since=NOON))])

    batch = aggregator.take([live(feed, trades=trades_at(61, since=NOON), received_us=5)])

    assert [(ticks.feed, ticks.received_us) for ticks in batch.ticks] == [(feed, 5)]
    assert [update.status for update in batch.updates] == [BarStatus.CLOSED, BarStatus.FORMING]


def test_what_waits_becomes_one_batch_with_one_forming_bar_of_each_series() -> None:
    aggregator, feed = Aggregator(AT_ONCE), feed_of([Interval.M1, Interval.M5])

    batch = aggregator.take([live(feed, trades=trades_at(second, since=NOON)) for second in range(10)])

    assert [len(ticks.trades or ()) for ticks in batch.ticks] == [10]
    assert [(update.status, int(update.trades[0])) for update in batch.updates] == [(BarStatus.FORMING, 10)] * 2


def test_forming_bars_are_made_only_for_series_that_somebody_follows() -> None:
    feed = feed_of([Interval.M1, Interval.M5])
    aggregator = Aggregator(AT_ONCE, is_followed=lambda series: series.interval is Interval.M5)

    batch = aggregator.take([live(feed, trades=trades_at(1, since=NOON))])

    assert [update.series.interval for update in batch.updates] == [Interval.M5]


def test_a_feed_that_went_down_makes_its_bars_missing_and_the_word_comes_after_its_data() -> None:
    aggregator, feed = Aggregator(AT_ONCE), feed_of([Interval.M1])
    cut = live(feed, is_up=False, reason="cut")

    batch = aggregator.take([
        live(feed, trades=trades_at(-30, 1, since=NOON)),
        cut,
        live(feed, is_up=True),
        live(feed, trades=trades_at(121, 181, since=NOON)),
    ])  # fmt: skip

    assert told(batch.updates, Interval.M1, BarStatus.MISSING) == [
        (NOON + minute * MINUTE_US, "missing", 0) for minute in (-1, 0, 1, 2)
    ]
    assert batch.words[0] is not cut.arrivals[0]
    assert batch.words[0] == cut.arrivals[0]
    assert [word.is_up for word in batch.words] == [False, True]


def test_a_pulse_closes_what_no_trade_closes() -> None:
    aggregator, feed = Aggregator(AT_ONCE), feed_of([Interval.M1])
    aggregator.take([live(feed, trades=trades_at(-30, 1, since=NOON))])

    batch = aggregator.take([live(feed, pulse_us=NOON + MINUTE_US)])

    assert told(batch.updates, Interval.M1) == [(NOON, "closed", 0)]
    assert [word.pulse_us for word in batch.words] == [NOON + MINUTE_US]


def test_a_feed_made_anew_goes_on_where_the_old_one_left_and_misses_what_lies_between() -> None:
    aggregator, feed = Aggregator(AT_ONCE), feed_of([Interval.M1])
    aggregator.take([live(feed, trades=trades_at(-30, 1, since=NOON))])
    anew = replace(feed, id=2)

    batch = aggregator.take([live(anew, trades=trades_at(125, 181, since=NOON))])

    assert told(batch.updates, Interval.M1, BarStatus.MISSING) == [
        (NOON + minute * MINUTE_US, "missing", 0) for minute in (0, 1, 2)
    ]
    assert {update.feed.id for update in batch.updates} == {2}


def test_quotes_pass_as_they_came() -> None:
    feed = feed_of([], kind=FeedKind.QUOTES)
    quotes = Quotes.of([NOON], [1.0], [1.0], [1.1], [1.0])

    batch = Aggregator(AT_ONCE).take([live(feed, quotes=quotes), live(feed, quotes=quotes)])

    assert [len(ticks.quotes or ()) for ticks in batch.ticks] == [2]
    assert batch.updates == ()


def test_ready_bars_are_closed_once() -> None:
    feed = feed_of([Interval.M1], kind=FeedKind.BARS, interval=Interval.M1)
    bars = Bars.of([NOON], [1.0], [1.0], [1.0], [1.0], [1.0])

    batch = Aggregator(AT_ONCE).take([live(feed, bars=bars), live(feed, bars=bars)])

    assert told(batch.updates, Interval.M1) == [(NOON, "closed", 0)]
    assert batch.ticks == ()


def test_trades_that_come_too_late_are_stored_and_said_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    aggregator, feed = Aggregator(Building(lateness_us=0, keep_us=MINUTE_US)), feed_of([Interval.M1])
    for second in range(0, 600, 20):
        aggregator.take([live(feed, trades=trades_at(second, since=NOON))])

    with caplog.at_level(logging.WARNING):
        batches = [aggregator.take([live(feed, trades=trades_at(3, 4, since=NOON))]) for _ in range(4)]

    assert [len(batch.ticks) for batch in batches] == [1, 1, 1, 1]
    assert all(told(batch.updates, Interval.M1, BarStatus.REVISED) == [] for batch in batches)
    assert [record.getMessage() for record in caplog.records] == [
        "trades:BTC-USDT of demo: 2 came too late to revise a bar, which stands as it was told"
    ]


async def test_history_passes_untouched_between_what_came_before_and_after_it() -> None:
    feed = feed_of([Interval.M1])
    batches = [history(1), history(2)]
    trades = [live(feed, trades=trades_at(second, since=NOON)) for second in range(4)]

    left = await aggregated([trades[0], trades[1], batches[0], trades[2], batches[1], trades[3]])

    assert [type(item) for item in left] == [LiveBatch, Batch, LiveBatch, Batch, LiveBatch]
    assert [item for item in left if isinstance(item, Batch)] == batches
    assert sum(len(t.trades or ()) for item in left if isinstance(item, LiveBatch) for t in item.ticks) == 4


async def test_what_comes_while_the_next_stage_is_busy_is_one_batch_when_it_is_free() -> None:
    feed, turn = feed_of([Interval.M1]), Turn()
    good_in, good_out = trio.open_memory_channel[Batch | Live](3)
    ready_in, ready_out = trio.open_memory_channel[Batch | LiveBatch](3)
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(run_aggregator, building=AT_ONCE, turn=turn), good_out, ready_in)
        for second in range(3):
            await good_in.send(live(feed, trades=trades_at(second, since=NOON)))
            await trio.testing.wait_all_tasks_blocked()
        assert ready_out.statistics().current_buffer_used == 0
        with turn.free():
            batch = await ready_out.receive()
        assert isinstance(batch, LiveBatch)
        assert [len(ticks.trades or ()) for ticks in batch.ticks] == [3]
        good_in.close()


async def test_what_the_stages_before_hold_comes_with_it() -> None:
    feed, turn = feed_of([Interval.M1]), Turn()
    raw_in, raw_out = trio.open_memory_channel[Batch | Live](1)
    good_in, good_out = trio.open_memory_channel[Batch | Live](1)
    ready_in, ready_out = trio.open_memory_channel[Batch | LiveBatch](1)

    async def stream() -> None:
        async with raw_in:
            for second in range(12):
                await raw_in.send(live(feed, trades=trades_at(second, since=NOON)))

    async with trio.open_nursery() as nursery:
        await nursery.start(partial(run_validator, latest_us=lambda: NOON + MINUTE_US), raw_out, good_in)
        await nursery.start(partial(run_aggregator, building=AT_ONCE, turn=turn), good_out, ready_in)
        nursery.start_soon(stream)
        await trio.testing.wait_all_tasks_blocked()
        with turn.free():
            batch = await ready_out.receive()
    assert isinstance(batch, LiveBatch)
    assert [len(ticks.trades or ()) for ticks in batch.ticks] == [12]


async def test_small_messages_that_never_cease_are_shown_all_the_same() -> None:
    feed = feed_of([Interval.M1])
    good_in, good_out = trio.open_memory_channel[Batch | Live](0)
    ready_in, ready_out = trio.open_memory_channel[Batch | LiveBatch](0)

    async def stream() -> None:
        while True:
            await good_in.send(live(feed, trades=trades_at(1, since=NOON)))

    async with trio.open_nursery() as nursery:
        await nursery.start(partial(run_aggregator, building=AT_ONCE), good_out, ready_in)
        nursery.start_soon(stream)
        batch = await ready_out.receive()
        nursery.cancel_scope.cancel()
    assert isinstance(batch, LiveBatch)
    assert 100 < sum(len(ticks.trades or ()) for ticks in batch.ticks) < 200


async def test_a_full_batch_of_history_does_not_wait_for_the_next_one() -> None:
    good_in, good_out = trio.open_memory_channel[Batch | Live](3)
    ready_in, _ready_out = trio.open_memory_channel[Batch | LiveBatch](0)
    nothing = np.zeros(MAX_TICKS)
    full = replace(history(1), bars=Bars.of(np.arange(MAX_TICKS), nothing, nothing, nothing, nothing, nothing))
    for _ in range(3):
        good_in.send_nowait(full)
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(run_aggregator, building=AT_ONCE), good_out, ready_in)
        await trio.testing.wait_all_tasks_blocked()
        assert good_out.statistics().current_buffer_used == 2
        nursery.cancel_scope.cancel()


async def test_the_aggregator_ends_when_its_input_ends_and_closes_its_outlet() -> None:
    assert await aggregated([live(feed_of([Interval.M1]), trades=trades_at())]) == []


async def test_the_aggregator_lets_its_failure_out() -> None:
    def asked(_: Series) -> bool:
        raise RuntimeError("nobody knows")

    good_in, good_out = trio.open_memory_channel[Batch | Live](1)
    ready_in, ready_out = trio.open_memory_channel[Batch | LiveBatch](1)
    good_in.send_nowait(live(feed_of([Interval.M1]), trades=trades_at(1, since=NOON)))

    with pytest.raises(RuntimeError, match="nobody knows"):
        await run_aggregator(good_out, ready_in, building=AT_ONCE, is_followed=asked)

    with pytest.raises(trio.EndOfChannel):
        await ready_out.receive()


def test_feeds_of_two_providers_do_not_mix() -> None:
    ours, theirs = feed_of([Interval.M1]), replace(feed_of([Interval.M1]), id=2, provider="other")

    batch = Aggregator(AT_ONCE).take([
        live(ours, trades=trades_at(1, since=NOON)),
        live(theirs, trades=trades_at(2, 3, since=NOON)),
        live(ours, trades=trades_at(4, since=NOON)),
    ])  # fmt: skip

    assert [(update.feed.provider, int(update.trades[0])) for update in batch.updates] == [("demo", 2), ("other", 2)]
