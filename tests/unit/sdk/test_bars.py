from array import array
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from timebase.sdk.bars import NAMES, Bars

ROWS = [(60, 1.0, 4.0, 0.5, 2.0, 10.0), (120, 2.0, 5.0, 1.5, 3.0, 20.0), (180, 3.0, 6.0, 2.5, 4.0, 30.0)]


def columns_of(bars: Bars) -> list[list[float]]:
    return [list(getattr(bars, name)) for name in NAMES]


@pytest.mark.parametrize(
    "make",
    [
        list,
        tuple,
        iter,
        lambda c: array("q" if isinstance(c[0], int) else "d", c),
        np.array,
        lambda c: np.array(c)[::1],
        lambda c: np.repeat(np.array(c), 2)[::2],
        lambda c: np.array(c, dtype="float32"),
        lambda c: np.array(c, dtype="int32" if isinstance(c[0], int) else "float64"),
        lambda c: np.array(c, dtype=">i8" if isinstance(c[0], int) else ">f8"),
        pd.Series,
        pl.Series,
    ],
)
def test_columns_may_be_anything_that_holds_numbers(make) -> None:
    bars = Bars(*(make(list(column)) for column in zip(*ROWS, strict=True)))
    assert columns_of(bars) == [list(column) for column in zip(*ROWS, strict=True)]


def test_numpy_arrays_are_shared_not_copied() -> None:
    time, price = np.arange(3), np.ones(3)
    bars = Bars(time, price, price, price, price, price)
    price[0] = 7.0
    assert bars.close[0] == 7.0


def test_rows_may_hold_datetimes() -> None:
    bars = Bars.from_rows([(datetime(2024, 1, 2, tzinfo=UTC), 1.0, 1.0, 1.0, 1.0, 0)])
    assert list(bars.time) == [1_704_153_600_000_000]


@pytest.mark.parametrize(
    "time",
    [
        np.array(["2024-01-02"], "datetime64[D]"),
        np.array(["2024-01-02"], "datetime64[ns]"),
        pd.DatetimeIndex(["2024-01-02"]),
        pd.DatetimeIndex(["2024-01-01 19:00"], tz="America/New_York"),
        pd.Series(pd.DatetimeIndex(["2024-01-02"], tz="UTC")),
    ],
)
def test_times_may_be_datetime64(time) -> None:
    bars = Bars(time, [1.0], [1.0], [1.0], [1.0], [1.0])
    assert list(bars.time) == [1_704_153_600_000_000]


def test_no_rows_are_no_bars() -> None:
    assert len(Bars.from_rows([])) == 0
    assert Bars.from_rows([]).ascending().column_bytes(0, 0)["time"] == b""


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="one length"):
        Bars([1, 2], [1.0], [1.0], [1.0], [1.0], [1.0])


def test_rows_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match="a row is time, open"):
        Bars.from_rows([(1, 1.0, 1.0)])  # type: ignore[list-item]


@pytest.mark.parametrize(
    "time",
    [[1.5], ["2024-01-01"], np.array([1.5]), np.array([[1]]), [2**63]],
)
def test_times_that_are_no_whole_microseconds_are_refused(time) -> None:
    with pytest.raises((TypeError, ValueError, OverflowError)):
        Bars(time, [1.0], [1.0], [1.0], [1.0], [1.0])


@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_sorting_keeps_rows_whole(times: list[int]) -> None:
    numbers = [float(row) for row in range(len(times))]
    bars = Bars(times, numbers, numbers, numbers, numbers, numbers).ascending()
    assert list(bars.time) == sorted(times)
    assert [times[int(row)] for row in bars.volume] == sorted(times)


def test_bars_that_ascend_are_not_copied() -> None:
    bars = Bars.from_rows(ROWS)
    assert bars.ascending() is bars
