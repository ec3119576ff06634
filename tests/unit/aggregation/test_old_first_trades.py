"""Vendors begin with the last trade they have, however old it is: since then anything may be missing."""

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.aggregation.tapes import builder_of, cut, feed_of, live, same, standing, told, trades_at, whole

from timebase.aggregation.aggregator import Aggregator
from timebase.aggregation.bar_builder import BarBuilder, Building
from timebase.aggregation.rebuild import rebuild
from timebase.model.interval import Interval
from timebase.model.live import BarStatus, BarUpdate
from timebase.model.ticks import Trades
from timebase.model.timerange import DAY_US, HOUR_US, MINUTE_US, SECOND_US, to_us

M1 = Interval.M1
NOON = to_us(datetime(2024, 3, 8, 12, tzinfo=UTC))
MADE = NOON + 20 * SECOND_US  # when the connection was made
AGES = [365 * DAY_US, HOUR_US, 2 * MINUTE_US, 21 * SECOND_US, SECOND_US]
LATENESS_US = 2 * SECOND_US

replayed = settings(print_blob=True, max_examples=60, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def minutes(updates: Sequence[BarUpdate], *statuses: BarStatus) -> list[tuple[int, str]]:
    """(minute after noon, status)"""
    return [((stamp - NOON) // MINUTE_US, status) for stamp, status, _ in told(updates, M1, *statuses)]


def old(*ages_us: int, number: int = 1) -> Trades:
    n = len(ages_us)
    times = sorted(MADE - age_us for age_us in ages_us)
    return Trades.of(times, [7.0] * n, [1.0] * n, id=range(number, number + n))


def take(builder: BarBuilder, *batches: Trades) -> list[BarUpdate]:
    for batch in batches:
        builder.take(batch)
    return list(builder.closed())


@pytest.mark.parametrize("lateness_us", [0, LATENESS_US])
@pytest.mark.parametrize("age_us", AGES)
@pytest.mark.parametrize("is_one_batch", [True, False])
def test_an_old_first_trade_does_not_make_the_period_whole_in_which_a_feed_joined(
    age_us: int, lateness_us: int, is_one_batch: bool
) -> None:
    builder = builder_of(since_us=MADE, lateness_us=lateness_us, fills_quiet=True)
    parts = [old(age_us), trades_at(30, 59, 61, 100, 125, since=NOON)]

    updates = take(builder, *([Trades.concat(parts)] if is_one_batch else parts))

    assert minutes(updates) == [(0, "missing"), (1, "closed")]
    assert all(told(updates, interval, BarStatus.CLOSED) == [] for interval in Interval if interval is not M1)


@pytest.mark.parametrize("cuts", [[], [1], [1, 2], [2]])
def test_what_a_vendor_begins_with_is_whole_only_in_itself(cuts: Sequence[int]) -> None:
    builder = builder_of(since_us=MADE)

    updates = take(builder, *cut(old(200 * SECOND_US, 90 * SECOND_US, 21 * SECOND_US), cuts), trades_at(30, since=NOON))
    updates += take(builder, trades_at(61, 125, since=NOON))

    assert minutes(updates) == [(-3, "missing"), (-2, "closed"), (0, "missing"), (1, "closed")]


def test_a_pulse_of_the_present_joins_behind_an_old_first_trade() -> None:
    builder = builder_of(since_us=MADE)
    take(builder, old(HOUR_US))
    builder.pulse(NOON + 25 * SECOND_US)
    builder.pulse(NOON + 70 * SECOND_US)

    updates = take(builder, trades_at(70, 130, since=NOON))

    assert minutes(updates) == [(0, "missing"), (1, "closed")]


def test_an_old_first_trade_is_nothing_that_forms() -> None:
    builder = builder_of([M1], since_us=MADE, lateness_us=LATENESS_US)
    take(builder, old(HOUR_US))

    assert builder.forming([M1]) == ()

    take(builder, trades_at(30, since=NOON))
    assert [int(update.bars.time[0]) for update in builder.forming([M1])] == [NOON]


@pytest.mark.parametrize("age_us", AGES)
def test_an_old_first_trade_after_an_outage_does_not_say_since_when_the_feed_is_back(age_us: int) -> None:
    builder = builder_of(since_us=NOON - DAY_US)
    take(builder, trades_at(-700, -615, -605, since=NOON))
    builder.leave()
    builder.come(MADE)

    updates = take(builder, old(age_us, number=90), trades_at(30, 61, 125, since=NOON))

    assert minutes(updates, BarStatus.MISSING) == [(minute, "missing") for minute in range(-11, 1)]
    assert minutes(updates, BarStatus.CLOSED) == [(1, "closed")]


def test_a_tape_is_believed_from_its_first_trade_on() -> None:
    builder = builder_of(since_us=MADE)
    day = NOON - 365 * DAY_US

    updates = take(builder, trades_at(-30, 1, since=day), trades_at(61, 125, since=day))

    assert [status for _, status, _ in told(updates, M1)] == ["missing", "closed", "closed"]


def test_a_feed_that_came_up_again_is_judged_by_when_it_did() -> None:
    aggregator, feed = Aggregator(Building(lateness_us=0)), feed_of([M1], since_us=NOON - DAY_US)
    batch = aggregator.take([
        live(feed, trades=trades_at(-605, since=NOON), received_us=NOON - 605 * SECOND_US),
        live(feed, is_up=False, reason="cut"),
        live(feed, is_up=True, received_us=MADE),
        live(feed, trades=old(90 * SECOND_US, number=90), received_us=MADE + 1),
        live(feed, trades=trades_at(30, 61, 125, since=NOON), received_us=NOON + 125 * SECOND_US),
    ])  # fmt: skip

    assert minutes(batch.updates, BarStatus.CLOSED) == [(1, "closed")]


def tape_around(rng: np.random.Generator, n: int) -> Trades:
    """A tape that goes on for a while after the connection was made; what is before it is what the vendor had."""
    steps = rng.choice([1, 9, 500_000, 3_000_000, 61_000_000, 400_000_000], n, p=[0.2, 0.2, 0.3, 0.2, 0.06, 0.04])
    time = np.cumsum(steps)
    time = time - time[n // 3 + 1] + MADE
    return Trades.of(time, np.round(100 + np.cumsum(rng.normal(0, 0.3, n)), 2), rng.random(n), id=np.arange(1, n + 1))


def lived(batches: Sequence[Trades]) -> list[BarUpdate]:
    return take(builder_of(since_us=MADE, lateness_us=LATENESS_US), *batches)


@given(seeds, st.integers(4, 300))
@replayed
def test_bars_are_those_of_what_came_since_however_it_is_cut_and_shuffled(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    tape = tape_around(rng, n)
    had = rng.choice(np.flatnonzero(tape.time < MADE), rng.integers(1, 9))
    came = tape.pick(np.union1d(had, np.flatnonzero(tape.time >= MADE)))
    delay = rng.integers(0, LATENESS_US + 1, len(came))
    shuffled = came.pick(np.argsort(came.time + delay, kind="stable"))

    updates = lived(cut(shuffled, sorted(rng.integers(1, n, 8).tolist())))

    since = tape.pick(tape.time >= MADE)
    truth, newest = rebuild(tape), int(tape.time.max()) - LATENESS_US
    for interval in Interval:
        assert told(updates, interval) == told(lived([came]), interval), interval
        joined = interval.floor_us(int(since.time.min()))
        held = {at: bar for at, bar in standing(updates, interval).items() if at >= interval.floor_us(MADE)}
        expected = whole(truth, interval, since=interval.end_us(joined), until=interval.floor_us(newest))
        assert same(held, expected), interval
