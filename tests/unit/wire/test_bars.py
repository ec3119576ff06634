import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from timebase.errors import Malformed
from timebase.model.interval import Interval
from timebase.sdk.bars import Bars as SdkBars
from timebase.wire.bars import EARLIEST_US, LATEST_US, parse_bars
from timebase.wire.envelope import Message, Type, pack_message, unpack_message

prices = st.floats(width=64)
rows = st.lists(st.tuples(st.integers(EARLIEST_US, LATEST_US), *[prices] * 5))


@given(rows)
def test_what_the_sdk_sends_is_what_the_core_reads(given_rows: list[tuple[float, ...]]) -> None:
    sent = SdkBars.from_rows(given_rows)  # type: ignore[arg-type]
    n = len(given_rows)
    bars = parse_bars(unpack_message(pack_message(Type.BARS, 1, n=n, **sent.column_bytes(0, n))))
    assert len(bars) == n
    for name, column in zip(
        ("time", "open", "high", "low", "close", "volume"), zip(*given_rows, strict=True), strict=False
    ):
        assert np.array_equal(getattr(bars, name), np.array(column), equal_nan=name != "time")
    assert not bars.flags.any()


@pytest.mark.parametrize("at_us", [EARLIEST_US, LATEST_US])
@pytest.mark.parametrize("interval", Interval)
def test_every_time_that_passes_has_an_end_of_its_period(at_us: int, interval: Interval) -> None:
    assert interval.end_us(interval.floor_us(at_us)) > at_us


@pytest.mark.parametrize("at_us", [EARLIEST_US - 1, LATEST_US + 1, 1_700_000_000_000_000_000])
def test_times_beyond_the_calendar_are_malformed(at_us: int) -> None:
    with pytest.raises(Malformed, match="µs since 1970"):
        parse_bars(message(1, time=np.array([at_us]).tobytes()))


@pytest.mark.parametrize("n", [-1, 0, 2, 2**63])
def test_columns_of_another_length_than_n_are_malformed(n: int) -> None:
    with pytest.raises(Malformed, match="rows are"):
        parse_bars(message(n))


def test_plugins_are_spared_numpy() -> None:
    code = "import sys, timebase.sdk.run; print('numpy' in sys.modules, 'trio' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["False", "False"]


def message(n: int, **changed: object) -> Message:
    columns = dict.fromkeys(("time", "open", "high", "low", "close", "volume"), bytes(8))
    return Message(Type.BARS, 1, {"n": n, **columns, **changed})
