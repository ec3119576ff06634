import sys
from array import array

import numpy as np
import pytest

from timebase.wire.columns import as_column, column_bytes


@pytest.mark.parametrize("first", [0, 1, 3])
def test_bytes_are_little_endian_whatever_the_machine_is(first: int) -> None:
    floats = [1.0, 2.5, -0.0]
    times = [1, -1, 2**62]
    assert bytes(column_bytes(as_column(floats, "d"), first, 3)) == np.array(floats[first:], "<f8").tobytes()
    assert bytes(column_bytes(as_column(times, "q"), first, 3)) == np.array(times[first:], "<i8").tobytes()


def test_a_big_endian_machine_swaps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "byteorder", "big")
    column = as_column([1.0, 2.5], "d")
    assert bytes(column_bytes(column, 0, 2)) == np.array([1.0, 2.5]).byteswap().tobytes()


@pytest.mark.parametrize("shared", [array("d", [1.0]), np.array([1.0]), memoryview(array("d", [1.0]))])
def test_buffers_of_the_right_kind_are_shared(shared) -> None:
    column = as_column(shared, "d")
    shared[0] = 7.0
    assert column[0] == 7.0


def test_a_column_has_one_dimension() -> None:
    with pytest.raises(ValueError, match="one dimension"):
        as_column(np.zeros((2, 2)), "d")


def test_times_that_a_missing_row_made_floats_are_times_again() -> None:
    assert list(as_column(np.array([1.0, 2.0]), "q")) == [1, 2]
    with pytest.raises(ValueError, match="whole µs"):
        as_column(np.array([1.5]), "q")
