"""Whatever happens to a tape on its way, the bars are those of the tape.

A failing case prints its seed, and a blob that replays it.
"""

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.aggregation.tapes import bars_of, builder_of, cut, same, standing, told, whole

from timebase.aggregation.rebuild import rebuild
from timebase.model.interval import Interval
from timebase.model.live import BarStatus, BarUpdate
from timebase.model.ticks import TradeFlag, Trades
from timebase.model.timerange import HOUR_US, MINUTE_US, SECOND_US

T0 = 1_704_067_200_000_000  # 2024-01-01
LATENESS_US = 2 * SECOND_US
LONG_AGO_US = 30 * 24 * HOUR_US

replayed = settings(print_blob=True, max_examples=60, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def tape_of(rng: np.random.Generator, n: int, *, has_ids: bool = True) -> Trades:
    """Real tapes stand still and jump: many trades in one microsecond, none for minutes."""
    steps = rng.choice(
        [0, 0, 1, 500_000, 3_000_000, 61_000_000, 400_000_000], n, p=[0.2, 0.2, 0.1, 0.3, 0.15, 0.04, 0.01]
    )
    prices = np.round(100 + np.cumsum(rng.normal(0, 0.3, n)), 2)
    ids = np.arange(1, n + 1) if has_ids else None
    return Trades.of(T0 + 30 * SECOND_US + np.cumsum(steps), prices, rng.random(n), id=ids)


def cuts_of(rng: np.random.Generator, n: int) -> list[int]:
    return sorted(rng.integers(1, max(2, n), rng.integers(0, 12)).tolist())


def shuffled(rng: np.random.Generator, trades: Trades) -> Trades:
    """None comes later than a newer one by more than the lateness; at one instant they keep their order."""
    delay = rng.integers(0, LATENESS_US + 1, len(trades))
    same_time = np.concatenate(([0], np.cumsum(trades.time[1:] != trades.time[:-1])))
    delay = delay[same_time] if len(trades) else delay
    return trades.pick(np.argsort(trades.time + delay, kind="stable"))


def run(batches: Iterable[Trades], **building: object) -> list[BarUpdate]:
    builder = builder_of(lateness_us=LATENESS_US, keep_us=LONG_AGO_US, keep_trades=1 << 20, **building)
    updates: list[BarUpdate] = []
    for batch in batches:
        builder.take(batch)
        builder.forming(tuple(Interval))
        updates += builder.closed()
    return updates


def bounds(interval: Interval, trades: Trades) -> tuple[int, int]:
    """What the feed could see whole: after the period of the first trade, before that of the watermark."""
    first, newest = int(trades.time.min()), int(trades.time.max()) - LATENESS_US
    return interval.end_us(interval.floor_us(first)), interval.floor_us(newest)


def assert_as_rebuilt(updates: list[BarUpdate], tape: Trades) -> None:
    rebuilt = rebuild(tape)
    for interval in Interval:
        since, until = bounds(interval, tape)
        held = {stamp: bar for stamp, bar in standing(updates, interval).items() if bar[5]}
        assert same(held, whole(rebuilt, interval, since=since, until=until)), interval


@given(seeds, st.integers(1, 400), st.booleans())
@replayed
def test_bars_are_those_of_the_tape_however_it_is_cut_and_shuffled(seed: int, n: int, has_ids: bool) -> None:
    rng = np.random.default_rng(seed)
    tape = tape_of(rng, n, has_ids=has_ids)

    updates = run(cut(shuffled(rng, tape), cuts_of(rng, n)))

    assert_as_rebuilt(updates, tape)
    for interval in Interval:
        closings = [stamp for stamp, _, _ in told(updates, interval, BarStatus.CLOSED)]
        assert closings == sorted(set(closings))
        assert told(updates, interval, BarStatus.REVISED) == []


@given(seeds, st.integers(1, 300))
@replayed
def test_trades_that_are_told_twice_count_once(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    tape = tape_of(rng, n)
    twice = np.sort(np.concatenate((np.arange(n), rng.integers(0, n, n // 2))))
    again = rng.integers(0, n, n // 3)  # and long after

    updates = run(cut(Trades.concat([tape.pick(twice), tape.pick(again)]), cuts_of(rng, 2 * n)))

    assert_as_rebuilt(updates, tape)
    assert all(told(updates, interval, BarStatus.REVISED) == [] for interval in Interval)


@given(seeds, st.integers(2, 300))
@replayed
def test_late_trades_revise_each_bar_they_belong_to(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    tape = tape_of(rng, n)
    is_late = rng.random(n) < 0.1
    is_late[[0, -1]] = False  # they say when the feed joined, and how far it came

    updates = run(cut(Trades.concat([tape.pick(~is_late), tape.pick(is_late)]), cuts_of(rng, n)))

    assert_as_rebuilt(updates, tape)
    for interval in Interval:
        numbers: dict[int, list[int]] = {}
        for stamp, _, revision in told(updates, interval, BarStatus.REVISED):
            numbers.setdefault(stamp, []).append(revision)
        assert all(seen == list(range(1, len(seen) + 1)) for seen in numbers.values())


@given(seeds, st.integers(3, 300), st.booleans())
@replayed
def test_cancels_and_corrections_hold_whenever_they_come(seed: int, n: int, is_shuffled: bool) -> None:
    rng = np.random.default_rng(seed)
    tape = tape_of(rng, n)
    about = rng.integers(0, n, n // 4 + 1)
    flags = rng.choice([TradeFlag.CANCEL, TradeFlag.CORRECTION], len(about))
    said_at = np.minimum(tape.time[about] + rng.integers(0, 3 * MINUTE_US, len(about)), tape.time[-1])
    prices = np.round(tape.price[about] + rng.normal(0, 1, len(about)), 2)
    words = Trades.of(said_at, prices, rng.random(len(about)), id=tape.id[about], flags=flags)
    everything = Trades.concat([tape, words])
    everything = everything.pick(np.argsort(everything.time, kind="stable"))

    updates = run(cut(shuffled(rng, everything) if is_shuffled else everything, cuts_of(rng, len(everything))))

    assert_as_rebuilt(updates, everything)


@given(seeds, st.integers(1, 300))
@replayed
def test_pulses_close_bars_and_change_none(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    tape = tape_of(rng, n)
    builder = builder_of(lateness_us=LATENESS_US, keep_us=LONG_AGO_US)
    updates: list[BarUpdate] = []
    for batch in cut(tape, cuts_of(rng, n)):
        builder.take(batch)
        builder.pulse(int(batch.time[-1]) + 1)
        updates += builder.closed()

    assert_as_rebuilt(updates, tape)


@given(seeds, st.integers(2, 200))
@replayed
def test_what_is_forming_is_what_would_close_now(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    tape = tape_of(rng, n)
    builder = builder_of(lateness_us=LATENESS_US, keep_us=LONG_AGO_US)
    came = shuffled(rng, tape)
    edges = [*cuts_of(rng, n), n]
    for start, end in pairwise([0, *edges]):
        builder.take(came.pick(slice(start, end)))
        seen = rebuild(came.pick(slice(0, end)))
        for update in builder.forming(tuple(Interval)):
            bars = seen[update.series.interval].bars
            assert update.bars.time[0] == bars.time[-1]
            assert [c[0] for c in update.bars.columns()[1:6]] == [c[-1] for c in bars.columns()[1:6]]


@given(seeds, st.integers(3, 300), st.integers(1, 4))
@replayed
def test_no_bar_closes_that_lacks_what_was_lost_in_an_outage(seed: int, n: int, outages: int) -> None:
    rng = np.random.default_rng(seed)
    tape = tape_of(rng, n)
    builder = builder_of(lateness_us=LATENESS_US, keep_us=LONG_AGO_US)
    updates: list[BarUpdate] = []
    edges = [0, *sorted(rng.integers(0, n + 1, 2 * outages).tolist()), n]
    for start, end in zip(edges[::2], edges[1::2], strict=True):  # between them the feed is down
        part = tape.pick(slice(start, end))
        for batch in cut(shuffled(rng, part), cuts_of(rng, len(part))):
            builder.take(batch)
        builder.leave()
        updates += builder.closed()

    truth = rebuild(tape)
    for interval in Interval:
        theirs = bars_of(truth[interval])
        held = standing(updates, interval)
        assert same(held, {stamp: theirs[stamp] for stamp in held})
        over = [stamp for stamp, _, _ in told(updates, interval)]
        assert over == sorted(set(over))
        quiet = set(theirs) & set(range(min(over, default=0), max(over, default=0), interval.us)) - set(over)
        assert quiet == set() or interval is Interval.MO1
