"""Coarse bars are exactly what the finer ones say, by a reference that goes bar by bar."""

from datetime import UTC, datetime
from itertools import groupby, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from timebase.history.resample import finer, floor, periods, pieces, resample, sources
from timebase.model.bars import Bars, Flag
from timebase.model.demand import Question
from timebase.model.interval import Interval
from timebase.model.timerange import DAY_US, MINUTE_US, TimeRange, to_us

PAIRS = [(source, to) for to in Interval for source in sources(to)]
LATE_US = 10**17
START_US = to_us(datetime(2023, 12, 20, tzinfo=UTC))


@st.composite
def columns(draw: st.DrawFn, interval: Interval) -> Bars:
    """Bars with holes; whole volumes, whose sum has no rounding."""
    at = sorted(draw(st.sets(st.integers(-200, 600), max_size=80)))
    time = np.asarray([START_US + n * interval.us for n in at], np.int64)
    low = np.asarray(draw(st.lists(st.floats(1, 1e6), min_size=len(at), max_size=len(at))), np.float64)
    rise = np.asarray(draw(st.lists(st.floats(0, 10), min_size=len(at), max_size=len(at))), np.float64)
    volume = np.asarray(draw(st.lists(st.integers(0, 10**9), min_size=len(at), max_size=len(at))), np.float64)
    flags = np.asarray(draw(st.lists(st.integers(0, 15), min_size=len(at), max_size=len(at))), np.int16)
    return Bars.of(time, low + rise / 2, low + rise, low, low + rise / 3, volume, flags)


def reference(bars: Bars, to: Interval, known_us: int) -> Bars:
    rows = list(zip(*(column.tolist() for column in bars.columns()), strict=True))
    made = []
    for open_us, group in groupby(rows, key=lambda row: to.floor_us(row[0])):
        _, opens, highs, lows, closes, volumes, flags = zip(*group, strict=True)
        flag = Flag.FORMING if to.end_us(open_us) > known_us else 0
        for each in flags:
            flag |= each
        made.append((open_us, opens[0], max(highs), min(lows), closes[-1], sum(volumes), flag))
    return Bars.of(*zip(*made, strict=True)) if made else Bars.empty()


@pytest.mark.parametrize(("source", "to"), PAIRS)
@given(st.data())
def test_each_bar_is_what_its_period_held(source: Interval, to: Interval, data: st.DataObject) -> None:
    bars = data.draw(columns(source))
    known_us = START_US + data.draw(st.integers(-200, 700)) * source.us
    assert resample(bars, to, known_us).equals(reference(bars, to, known_us))


@given(columns(Interval.M1))
def test_by_steps_or_at_once_is_the_same(bars: Bars) -> None:
    by_steps = resample(resample(bars, Interval.M5, LATE_US), Interval.H1, LATE_US)
    assert by_steps.equals(resample(bars, Interval.H1, LATE_US))


@pytest.mark.parametrize("interval", Interval)
@given(st.lists(st.integers(-4 * 10**15, 4 * 10**15), max_size=20))
def test_the_floor_of_a_column_is_that_of_each(interval: Interval, times: list[int]) -> None:
    assert floor(np.asarray(times, np.int64), interval).tolist() == [interval.floor_us(at) for at in times]


def test_a_bar_is_forming_until_its_period_is_over() -> None:
    bars = Bars.of([START_US + n * MINUTE_US for n in range(60)], *[[1.0] * 60] * 5)
    assert resample(bars, Interval.H1, START_US + 60 * MINUTE_US - 1).flags.tolist() == [Flag.FORMING]
    assert resample(bars, Interval.H1, START_US + 60 * MINUTE_US).flags.tolist() == [0]


def test_days_are_made_of_nothing_and_hours_not_of_half_hours() -> None:
    assert sources(Interval.D1) == ()
    assert sources(Interval.M1) == ()
    assert sources(Interval.H1) == (Interval.M15, Interval.M5, Interval.M1)
    assert sources(Interval.W1) == sources(Interval.MO1) == (Interval.D1,)


def test_what_is_asked_for_are_whole_periods() -> None:
    thursday = to_us(datetime(2024, 2, 29, tzinfo=UTC))
    question = Question("A", Interval.MO1, TimeRange(thursday, thursday + DAY_US), limit=7, adjust="all")
    asked = finer(question, Interval.D1)
    assert (asked.interval, asked.limit, asked.adjust) == (Interval.D1, None, "raw")
    assert asked.range == TimeRange(to_us(datetime(2024, 2, 1, tzinfo=UTC)), to_us(datetime(2024, 3, 1, tzinfo=UTC)))
    assert finer(question, Interval.MO1) is question


@pytest.mark.parametrize(("source", "to"), PAIRS)
@pytest.mark.parametrize("newest_first", [True, False])
@given(start=st.integers(0, 2 * 10**15), length=st.integers(1, 10**15))
def test_pieces_are_whole_periods_that_follow_each_other(
    source: Interval, to: Interval, newest_first: bool, start: int, length: int
) -> None:
    whole = periods(TimeRange(start, start + length), to)
    parts = list(pieces(whole, to, source, newest_first=newest_first))
    if newest_first:
        parts.reverse()
    assert (parts[0].start_us, parts[-1].end_us) == (whole.start_us, whole.end_us)
    assert all(a.end_us == b.start_us for a, b in pairwise(parts))
    assert all(to.floor_us(part.start_us) == part.start_us for part in parts)
