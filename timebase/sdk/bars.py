"""Bars on the plugin's side: columns without numpy."""

from array import array
from collections.abc import Iterable
from datetime import datetime
from operator import le
from typing import Any, Self

from timebase.model.timerange import to_us
from timebase.wire.columns import Column, as_column, column_bytes

Row = tuple[int | datetime, float, float, float, float, float]
NAMES = ("time", "open", "high", "low", "close", "volume")


class Bars:
    """Bars of one series, as columns: arrays, memoryviews, numpy arrays or plain lists.

    Shape: six columns of one length.
    Units: `time` int µs since 1970-01-01 UTC, the period's *opening* instant (aware datetimes and datetime64 are
        converted); daily bars 00:00 UTC of the trading date. Prices in the quote currency per unit, `volume` in units
        traded.
    Order: ascending is fastest; anything else is sorted when it is sent.
    Raises: ValueError when columns differ in length, TypeError or ValueError when they are not numbers.
    """

    __slots__ = NAMES

    def __init__(
        self,
        time: Iterable[int | datetime],
        open: Iterable[float],
        high: Iterable[float],
        low: Iterable[float],
        close: Iterable[float],
        volume: Iterable[float],
    ) -> None:
        self.time: Column = as_column(as_us(time), "q")
        self.open: Column = as_column(open, "d")
        self.high: Column = as_column(high, "d")
        self.low: Column = as_column(low, "d")
        self.close: Column = as_column(close, "d")
        self.volume: Column = as_column(volume, "d")
        lengths = {name: len(getattr(self, name)) for name in NAMES}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"columns have one length, not {lengths}")

    @classmethod
    def from_rows(cls, rows: Iterable[Row]) -> Self:
        """Bars from (time, open, high, low, close, volume) rows."""
        columns = list(zip(*rows, strict=True)) or [()] * len(NAMES)
        if len(columns) != len(NAMES):
            raise ValueError(f"a row is {', '.join(NAMES)}, not {len(columns)} values")
        return cls(*columns)

    def __len__(self) -> int:
        return len(self.time)

    def ascending(self) -> Self:
        """These bars in the order of their time; themselves when they are so already."""
        if all(map(le, self.time, self.time[1:])):
            return self
        order = sorted(range(len(self)), key=self.time.__getitem__)
        time, *floats = (getattr(self, name) for name in NAMES)
        return type(self)(
            array("q", map(time.__getitem__, order)), *(array("d", map(c.__getitem__, order)) for c in floats)
        )

    def column_bytes(self, first: int, end: int) -> dict[str, memoryview | bytes]:
        """The wire's bytes of rows [first, end), by name."""
        return {name: column_bytes(getattr(self, name), first, end) for name in NAMES}


def as_us(time: Any) -> Iterable[int]:  # noqa: ANN401
    """Lists may hold aware datetimes, numpy and pandas columns datetime64 (UTC where they name no zone); else µs."""
    if getattr(getattr(time, "dtype", None), "kind", "") == "M":
        in_us = time.to_numpy("datetime64[us]") if hasattr(time, "to_numpy") else time.astype("datetime64[us]")
        return in_us.astype("int64")  # type: ignore[no-any-return]
    if isinstance(time, list | tuple):
        return [to_us(at) if isinstance(at, datetime) else at for at in time]
    return time  # type: ignore[no-any-return]
