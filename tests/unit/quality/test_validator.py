import logging
import math
from datetime import UTC, datetime
from functools import partial

import numpy as np
import pytest
import trio

from timebase.clock import now_us
from timebase.model.bars import Bars, Batch, Flag, Outcome
from timebase.model.instrument import AssetClass
from timebase.model.interval import Interval
from timebase.model.series import Series
from timebase.model.timerange import DAY_US, MINUTE_US, TimeRange, to_us
from timebase.quality.validator import run_validator, validate

T0 = to_us(datetime(2024, 1, 8, tzinfo=UTC))
NOW = to_us(datetime(2024, 6, 1, tzinfo=UTC))


def minutes(n, start=T0):
    flat = np.full(n, 10.0)
    return Bars.of(np.arange(n) * MINUTE_US + start, flat, flat + 1, flat - 1, flat, flat * 0)


def batch(bars, *, interval=Interval.M1, covers=None, fetched=NOW, **rest):
    series = Series(1, 1, "AAPL", "demo", interval)
    covers = covers or TimeRange(T0, T0 + 1000 * MINUTE_US)
    return Batch(7, series, covers, Outcome.COMPLETE, "history", fetched, bars, **rest)


def test_a_clean_batch_keeps_its_very_columns():
    bars = minutes(100)

    good = validate(batch(bars), AssetClass.STOCK)

    assert good.bars is bars
    assert good.refused == ()
    assert good.warnings == ()


def test_rows_outside_the_asked_range_are_dropped_with_a_warning_and_not_quarantined():
    good = validate(batch(minutes(10), covers=TimeRange(T0 + 2 * MINUTE_US, T0 + 5 * MINUTE_US)), AssetClass.STOCK)

    assert good.bars.time.tolist() == [T0 + i * MINUTE_US for i in (2, 3, 4)]
    assert good.refused == ()
    assert good.warnings == ("7 bars dropped: outside the asked range",)


def test_descending_rows_are_sorted_and_said():
    good = validate(batch(minutes(5).pick(slice(None, None, -1))), AssetClass.STOCK)

    assert good.bars.equals(minutes(5))
    assert good.warnings == ("5 bars came unsorted and were sorted",)


def test_a_missing_volume_becomes_zero_and_the_bar_says_repaired():
    bars = minutes(3)
    bars.volume[1] = math.nan

    good = validate(batch(bars), AssetClass.STOCK)

    assert good.bars.volume.tolist() == [0.0, 0.0, 0.0]
    assert good.bars.flags.tolist() == [0, Flag.REPAIRED, 0]
    assert math.isnan(bars.volume[1])
    assert bars.flags.tolist() == [0, 0, 0]
    assert good.warnings == ("1 bar had no volume; it is given as 0",)


@pytest.mark.parametrize(
    ("fetched", "forming"),
    [(T0 + 5 * MINUTE_US, []), (T0 + 5 * MINUTE_US - 1, [4]), (T0 + 3 * MINUTE_US + 1, [3, 4])],
)
def test_bars_whose_period_is_not_over_are_marked_forming(fetched, forming):
    bars = minutes(5)

    good = validate(batch(bars, fetched=fetched), AssetClass.STOCK)

    assert np.flatnonzero(good.bars.flags & Flag.FORMING).tolist() == forming
    assert not bars.flags.any()


@pytest.mark.parametrize(
    ("interval", "opening", "end"),
    [
        (Interval.D1, datetime(2024, 2, 28, tzinfo=UTC), datetime(2024, 2, 29, tzinfo=UTC)),
        (Interval.W1, datetime(2024, 2, 26, tzinfo=UTC), datetime(2024, 3, 4, tzinfo=UTC)),
        (Interval.MO1, datetime(2024, 2, 1, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC)),
        (Interval.MO1, datetime(2024, 12, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_period_is_over_exactly_at_its_end(interval, opening, end):
    bars = minutes(1, to_us(opening))
    around = TimeRange(to_us(opening), to_us(end))

    def flags(fetched):
        return validate(
            batch(bars, interval=interval, covers=around, fetched=fetched), AssetClass.STOCK
        ).bars.flags.tolist()

    assert flags(to_us(end)) == [0]
    assert flags(to_us(end) - 1) == [Flag.FORMING]


def test_what_the_provider_already_said_stays_in_the_batch():
    came = batch(minutes(1), warnings=("thin",), is_last=True, why="", settled_us=NOW - DAY_US)

    good = validate(came, AssetClass.STOCK)

    assert (good.warnings, good.is_last, good.settled_us) == (("thin",), True, NOW - DAY_US)


def test_a_batch_without_bars_passes_as_it_is():
    came = batch(Bars.empty(), is_last=True)

    assert validate(came, AssetClass.STOCK).bars is came.bars


@pytest.mark.parametrize("column", range(7))
def test_ragged_columns_become_a_failed_batch_and_no_error_of_the_server(column):
    columns = list(minutes(5).columns())
    columns[column] = columns[column][:3]

    good = validate(batch(Bars(*columns), is_last=True), AssetClass.STOCK)

    assert (good.outcome, len(good.bars), good.is_last) == (Outcome.FAILED, 0, True)
    assert good.why.startswith("malformed")


def test_columns_of_another_type_become_a_failed_batch():
    columns = list(minutes(5).columns())
    columns[1] = columns[1].astype(np.float32)

    assert validate(batch(Bars(*columns)), AssetClass.STOCK).outcome is Outcome.FAILED


def test_garbage_times_do_not_break_the_validator():
    bars = minutes(4)
    times = np.array([-(2**63), T0, T0 + MINUTE_US, 2**63 - 1], np.int64)
    garbage = Bars(times, *bars.columns()[1:])

    good = validate(batch(garbage, covers=TimeRange(-(2**63), 2**63 - 1)), AssetClass.STOCK)

    assert good.bars.time.tolist() == [T0, T0 + MINUTE_US]


async def send_all(sender, batches):
    async with sender:
        for one in batches:
            await sender.send(one)


async def through(batches, **rest):
    raw_in, raw_out = trio.open_memory_channel(1)
    good_in, good_out = trio.open_memory_channel(1)
    with trio.fail_after(5):
        async with trio.open_nursery() as actors:
            validator = partial(run_validator, raw_out, good_in, latest_us=now_us, **rest)
            await actors.start(validator)
            actors.start_soon(send_all, raw_in, batches)
            return [good async for good in good_out]


async def test_batches_leave_one_for_one_in_the_order_they_came_and_it_ends_when_its_input_ends():
    came = [batch(minutes(n)) for n in (3, 0, 1, 2)]

    assert [len(good.bars) for good in await through(came)] == [3, 0, 1, 2]


async def test_who_knows_the_instrument_decides_what_prices_it_may_have():
    negative = minutes(1)
    below_zero = Bars(negative.time, *(column - 100 for column in negative.columns()[1:5]), *negative.columns()[5:])

    (as_stock,) = await through([batch(below_zero)])
    (as_commodity,) = await through([batch(below_zero)], asset_class=lambda _: AssetClass.COMMODITY)

    assert (len(as_stock.bars), len(as_commodity.bars)) == (0, 1)


async def test_a_follower_that_is_gone_is_let_out():
    raw_in, raw_out = trio.open_memory_channel(1)
    good_in, good_out = trio.open_memory_channel(0)
    good_out.close()
    raw_in.send_nowait(batch(minutes(1)))

    with pytest.raises(trio.BrokenResourceError):
        await run_validator(raw_out, good_in, latest_us=now_us)
    with pytest.raises(trio.BrokenResourceError):
        raw_in.send_nowait(batch(minutes(1)))


async def test_refusals_are_logged_once_per_batch(caplog):
    bars = minutes(3)
    bars.high[:] = 1.0
    with caplog.at_level(logging.WARNING):
        await through([batch(bars)])

    assert ["3 bars refused by rule high" in record.message for record in caplog.records] == [True]
