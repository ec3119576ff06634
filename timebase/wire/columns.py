"""Columns as the wire has them: the raw little-endian bytes of int64 or float64, without numpy.

Anything with the buffer protocol goes through without a copy (array, memoryview, numpy); what only iterates is copied
once.
"""

import sys
from array import array
from collections.abc import Iterable, Sequence
from typing import Any, Literal

Kind = Literal["q", "d"]
"""As in `array`: int64 or float64."""

ITEM_BYTES = 8
Column = memoryview
"""One-dimensional, contiguous, native 64-bit items."""

_NATIVE = {"q": {"q", "l"}, "d": {"d"}}


def as_column(values: Iterable[float], kind: Kind) -> Column:
    """`values` as a column, shared where memory allows and copied where not.

    Raises: TypeError or ValueError when they are not numbers, OverflowError beyond 64 bits.
    """
    to_numpy = getattr(values, "to_numpy", None)  # a pandas or polars series, without importing either
    given: Any = to_numpy() if to_numpy is not None else values
    try:
        view = memoryview(given)
    except TypeError:
        return memoryview(array(kind, given))
    if view.ndim != 1:
        raise ValueError(f"a column has one dimension, not {view.ndim}")
    if view.format.lstrip("@=") in _NATIVE[kind] and view.itemsize == ITEM_BYTES and view.c_contiguous:
        return view
    return memoryview(array(kind, _exact(list(given), kind)))


def _exact(values: Sequence[float], kind: Kind) -> Iterable[float]:
    """Whole floats may be times (pandas makes them where a row was missing); others are a fault."""
    if kind == "d":
        return values
    whole = [int(value) for value in values]
    if whole != values:
        raise ValueError("times are whole µs")
    return whole


def column_bytes(column: Column, first: int, end: int) -> memoryview | bytes:
    """The wire's bytes of rows [first, end); a view of the column where the machine is little-endian."""
    part = column[first:end]
    if sys.byteorder == "little":
        return part.cast("B")
    swapped = array("q", part.cast("B").cast("q"))
    swapped.byteswap()
    return swapped.tobytes()
