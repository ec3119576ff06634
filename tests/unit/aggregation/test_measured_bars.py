import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.aggregation.tapes import cut

from timebase.aggregation.measured_bars import Measure, MeasuredBars, measured_bars
from timebase.model.ticks import TradeFlag, Trades


def tape_of(seed: int, n: int) -> Trades:
    rng = np.random.default_rng(seed)
    time = 1_700_000_000_000_000 + np.cumsum(rng.integers(0, 3, n))
    return Trades.of(time, np.round(100 + rng.normal(0, 1, n), 2), rng.random(n) * 10, id=np.arange(1, n + 1))


def test_a_bar_closes_with_the_trade_that_fills_it() -> None:
    tape = Trades.of([1, 2, 3, 4, 5], [10.0, 12.0, 9.0, 11.0, 8.0], [1.0, 1.0, 5.0, 1.0, 1.0])

    ticks = measured_bars(tape, measure=Measure.TICKS, every=2)
    volume = measured_bars(tape, measure=Measure.VOLUME, every=3.0)
    dollars = measured_bars(tape, measure=Measure.DOLLARS, every=60.0)

    assert (ticks.bars.time.tolist(), ticks.trades.tolist()) == ([1, 3], [2, 2])
    assert (volume.bars.time.tolist(), volume.bars.volume.tolist()) == ([1], [7.0])
    assert (dollars.bars.time.tolist(), dollars.bars.high.tolist()) == ([1], [12.0])
    assert volume.bars.close.tolist() == [9.0]
    assert volume.vwap.tolist() == [pytest.approx((10 + 12 + 45) / 7)]


@given(st.integers(0, 2**32 - 1), st.integers(1, 500), st.sampled_from(Measure), st.integers(1, 60), st.data())
@settings(print_blob=True, deadline=None)
def test_measured_bars_do_not_depend_on_how_the_tape_is_cut(
    seed: int, n: int, measure: Measure, every: int, data: st.DataObject
) -> None:
    tape = tape_of(seed, n)
    limit = every * (100.0 if measure is Measure.DOLLARS else 1.0)
    whole = measured_bars(tape, measure=measure, every=limit)
    pieces = MeasuredBars(measure, limit)

    built = [
        pieces.take(part.time, part.price, part.size)
        for part in cut(tape, data.draw(st.lists(st.integers(1, n), max_size=20)))
    ]

    for ours, theirs in zip(zip(*(b.bars.columns() for b in built), strict=True), whole.bars.columns(), strict=True):
        assert np.array_equal(np.concatenate(ours), theirs)
    assert np.array_equal(np.concatenate([b.vwap for b in built]), whole.vwap)
    counted = whole.trades.sum() + pieces.forming().trades.sum()
    assert counted == n
    if measure is Measure.VOLUME:
        assert (whole.bars.volume >= limit).all()
    if measure is Measure.TICKS:
        assert (whole.trades == every).all()


def test_what_was_taken_back_fills_no_bar() -> None:
    tape = tape_of(1, 10)
    cancel = Trades.of([tape.time[-1]], [0.0], [0.0], id=[4], flags=[TradeFlag.CANCEL])
    shuffled = Trades.concat([cancel, tape.pick(np.random.default_rng(1).permutation(10)), tape])

    bars = measured_bars(shuffled, measure=Measure.TICKS, every=3)

    assert bars.trades.tolist() == [3, 3, 3]
    assert bars.bars.close.tolist() == tape.price[[2, 6, 9]].tolist()


@pytest.mark.parametrize("every", [0, -1.0, float("nan")])
def test_a_bar_of_nothing_is_refused(every: float) -> None:
    with pytest.raises(ValueError, match="more than"):
        MeasuredBars(Measure.VOLUME, every)
