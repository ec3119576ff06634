"""`bars` messages into columns; the core's side, so it may use numpy."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from timebase.errors import Malformed
from timebase.model.bars import Bars
from timebase.model.timerange import DAY_US
from timebase.wire.columns import ITEM_BYTES
from timebase.wire.envelope import Message

# What `datetime` can say, less a year at either end so that a period's end can be computed too.
EARLIEST_US = -718_800 * DAY_US
LATEST_US = 2_932_500 * DAY_US

FLOATS = ("open", "high", "low", "close", "volume")


def parse_bars(message: Message) -> Bars:
    """The bars of one `bars` message; the columns are views of its bytes and cannot be written to.

    Order: as sent; sorting and refusing rows is the validator's trade.
    Raises: Malformed when a column is missing, has another length than `n` says, or a time is no µs of a calendar year.
    """
    n = message.integer("n")
    time = parse_time(message, n)
    return Bars.of(time, *(parse_column(message, name, "<f8", n) for name in FLOATS))


def parse_time(message: Message, n: int) -> NDArray[np.int64]:
    """Raises: Malformed when a time is no µs of a calendar year."""
    time = parse_column(message, "time", "<i8", n)
    if n and (time.min() < EARLIEST_US or time.max() > LATEST_US):
        raise Malformed(f"time: µs since 1970 wanted, not {int(time.max())} (nanoseconds?)")
    return time


def parse_column(message: Message, name: str, dtype: str, n: int) -> NDArray[Any]:
    """Raises: Malformed when it is missing or has no `n` rows."""
    data = message.binary(name)
    if len(data) != n * ITEM_BYTES:
        raise Malformed(f"{name}: {n} rows are {n * ITEM_BYTES} bytes, not {len(data)}")
    return np.frombuffer(data, dtype)
