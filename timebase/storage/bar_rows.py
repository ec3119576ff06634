"""Columns <-> the bytes of PostgreSQL's binary COPY. Pure; rows are fixed width because every column is NOT NULL.

Source: PostgreSQL manual, COPY, "Binary Format": 19 bytes of header, then per row an int16 count of fields and per
field an int32 length and its big-endian bytes, then int16 -1.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from timebase.model.bars import Bars

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
PG_EPOCH_US = 946_684_800_000_000  # 2000-01-01, where PostgreSQL's timestamps begin
CHUNK_ROWS = 8_192  # 700 KB per message: larger ones are not faster

PRICED = ("open", "high", "low", "close", "volume")
READ_COLUMNS = ("time", *PRICED, "flags")
WRITE_COLUMNS = ("time", *PRICED, "batch_id", "series_id", "flags")
QUARANTINE_COLUMNS = ("time", *PRICED, "batch_id", "series_id", "rule")

_WIRE = {"time": ">i8", **dict.fromkeys(PRICED, ">f8"), "batch_id": ">i8", "series_id": ">i4", "flags": ">i2"}
_PG_MIN_US, _PG_MAX_US = -62_135_596_800_000_000, 253_402_300_799_000_000  # years 1 to 9999


def _row_dtype(columns: tuple[str, ...], rule: bytes = b"") -> np.dtype[np.void]:
    fields: list[tuple[str, str]] = [("fields", ">i2")]
    for name in columns:
        fields += [(f"{name}_length", ">i4"), (name, _WIRE.get(name, f"S{len(rule)}"))]
    return np.dtype(fields)


_READ = _row_dtype(READ_COLUMNS)
_WRITE = _row_dtype(WRITE_COLUMNS)


def _blank_rows(n: int, dtype: np.dtype[np.void]) -> NDArray[np.void]:
    """Rows with their counts and lengths filled in."""
    row = np.zeros(1, dtype)
    names = dtype.names or ()
    row["fields"] = len(names) // 2
    for length, name in zip(names[1::2], names[2::2], strict=True):
        row[length] = dtype[name].itemsize
    return np.repeat(row, n)


def pack_rows(
    bars: Bars, batch_id: NDArray[np.int64] | int, series_id: NDArray[np.int32] | int
) -> Iterator[memoryview]:
    """The rows of a COPY into bars, without header and trailer, in pieces."""
    for first in range(0, len(bars), CHUNK_ROWS):
        piece = slice(first, first + CHUNK_ROWS)
        part = bars.pick(piece)
        rows = _blank_rows(len(part), _WRITE)
        _fill(rows, part)
        rows["flags"] = part.flags
        rows["batch_id"] = batch_id if isinstance(batch_id, int) else batch_id[piece]
        rows["series_id"] = series_id if isinstance(series_id, int) else series_id[piece]
        yield _raw(rows)


def pack_quarantine(bars: Bars, batch_id: int, series_id: int, rule: str) -> Iterator[memoryview]:
    """The rows of a COPY into quarantine; a time that no calendar has is stored as the nearest one that it has."""
    name = rule.encode()
    for first in range(0, len(bars), CHUNK_ROWS):
        part = bars.pick(slice(first, first + CHUNK_ROWS))
        rows = _blank_rows(len(part), _row_dtype(QUARANTINE_COLUMNS, name))
        _fill(rows, part)
        rows["time"] = np.clip(part.time, _PG_MIN_US, _PG_MAX_US) - PG_EPOCH_US
        rows["batch_id"], rows["series_id"], rows["rule"] = batch_id, series_id, name
        yield _raw(rows)


def _fill(rows: NDArray[np.void], bars: Bars) -> None:
    rows["time"] = bars.time - PG_EPOCH_US
    for name in PRICED:
        rows[name] = getattr(bars, name)


def _raw(rows: NDArray[np.void]) -> memoryview:
    return rows.view(np.uint8).data


class RowReader:
    """Grows columns from the bytes of a COPY of READ_COLUMNS, as they arrive.

    Memory: the columns grow in place (realloc moves no pages on Linux) and bytes are decoded a megabyte at a time, so
    that a reading needs little more than its result.
    """

    _AT_ONCE = 1 << 20

    def __init__(self) -> None:
        self._waiting = bytearray()
        self._skip = len(HEADER)
        self._n = 0
        self._columns = [np.empty(0, dtype) for dtype in (np.int64, *[np.float64] * 5, np.int16)]

    async def feed(self, data: bytes) -> None:
        """One piece of the COPY; awaitable because asyncpg wants its sinks so."""
        self._waiting += data
        if len(self._waiting) >= self._AT_ONCE:
            self._decode()

    def _decode(self) -> None:
        n = (len(self._waiting) - self._skip) // _READ.itemsize
        if n <= 0:
            return
        rows = np.frombuffer(self._waiting, _READ, n, self._skip)
        self._grow(self._n + n)
        for column, name in zip(self._columns, READ_COLUMNS, strict=True):
            column[self._n : self._n + n] = rows[name]
        self._columns[0][self._n : self._n + n] += PG_EPOCH_US
        self._n += n
        del rows  # the bytearray cannot shrink while an array looks into it
        del self._waiting[: self._skip + n * _READ.itemsize]
        self._skip = 0

    def _grow(self, n: int) -> None:
        if n > len(self._columns[0]):
            room = max(n, len(self._columns[0]) * 3 // 2)
            for column in self._columns:
                column.resize(room, refcheck=False)

    def finish(self) -> Bars:
        self._decode()
        for column in self._columns:
            column.resize(self._n, refcheck=False)
        return Bars(*self._columns)
