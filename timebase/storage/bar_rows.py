"""Bars <-> the bytes of a COPY of `bars`. Pure; rows are fixed width because every column is NOT NULL."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from timebase.model.bars import Bars
from timebase.storage.binary_copy import CHUNK_ROWS, PG_EPOCH_US, ColumnReader, blank_rows, raw, row_dtype

PRICED = ("open", "high", "low", "close", "volume")
READ_COLUMNS = ("time", *PRICED, "flags")
WRITE_COLUMNS = ("time", *PRICED, "batch_id", "series_id", "flags")
QUARANTINE_COLUMNS = ("time", *PRICED, "batch_id", "series_id", "rule")

_WIRE = {"time": ">i8", **dict.fromkeys(PRICED, ">f8"), "batch_id": ">i8", "series_id": ">i4", "flags": ">i2"}
_PG_MIN_US, _PG_MAX_US = -62_135_596_800_000_000, 253_402_300_799_000_000  # years 1 to 9999


def _wire(columns: tuple[str, ...], rule: bytes = b"") -> dict[str, str]:
    return {name: _WIRE.get(name, f"S{len(rule)}") for name in columns}


_WRITE = row_dtype(_wire(WRITE_COLUMNS))


def pack_rows(
    bars: Bars, batch_id: NDArray[np.int64] | int, series_id: NDArray[np.int32] | int
) -> Iterator[memoryview]:
    """The rows of a COPY into bars, without header and trailer, in pieces."""
    for first in range(0, len(bars), CHUNK_ROWS):
        piece = slice(first, first + CHUNK_ROWS)
        part = bars.pick(piece)
        rows = blank_rows(len(part), _WRITE)
        _fill(rows, part)
        rows["flags"] = part.flags
        rows["batch_id"] = batch_id if isinstance(batch_id, int) else batch_id[piece]
        rows["series_id"] = series_id if isinstance(series_id, int) else series_id[piece]
        yield raw(rows)


def pack_quarantine(bars: Bars, batch_id: int, series_id: int, rule: str) -> Iterator[memoryview]:
    """The rows of a COPY into quarantine; a time that no calendar has is stored as the nearest one that it has."""
    name = rule.encode()
    for first in range(0, len(bars), CHUNK_ROWS):
        part = bars.pick(slice(first, first + CHUNK_ROWS))
        rows = blank_rows(len(part), row_dtype(_wire(QUARANTINE_COLUMNS, name)))
        _fill(rows, part)
        rows["time"] = np.clip(part.time, _PG_MIN_US, _PG_MAX_US) - PG_EPOCH_US
        rows["batch_id"], rows["series_id"], rows["rule"] = batch_id, series_id, name
        yield raw(rows)


def _fill(rows: NDArray[np.void], bars: Bars) -> None:
    rows["time"] = bars.time - PG_EPOCH_US
    for name in PRICED:
        rows[name] = getattr(bars, name)


class RowReader(ColumnReader):
    """Bars from the bytes of a COPY of READ_COLUMNS."""

    def __init__(self) -> None:
        super().__init__(_wire(READ_COLUMNS))

    def finish(self) -> Bars:
        return Bars(*self.columns())  # type: ignore[arg-type]
