"""Columns <-> the bytes of PostgreSQL's binary COPY, of any table whose rows are fixed width. Pure.

Source: PostgreSQL manual, COPY, "Binary Format": 19 bytes of header, then per row an int16 count of fields and per
field an int32 length and its big-endian bytes, then int16 -1.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
PG_EPOCH_US = 946_684_800_000_000  # 2000-01-01, where PostgreSQL's timestamps begin
CHUNK_ROWS = 8_192  # 700 KB per message: larger ones are not faster


def row_dtype(wire: Mapping[str, str]) -> np.dtype[np.void]:
    """A row of the columns in `wire`: name -> how its bytes are read, as in `>f8`."""
    fields: list[tuple[str, str]] = [("fields", ">i2")]
    for name, kind in wire.items():
        fields += [(f"{name}_length", ">i4"), (name, kind)]
    return np.dtype(fields)


def blank_rows(n: int, dtype: np.dtype[np.void]) -> NDArray[np.void]:
    """Rows with their counts and lengths filled in."""
    row = np.zeros(1, dtype)
    names = dtype.names or ()
    row["fields"] = len(names) // 2
    for length, name in zip(names[1::2], names[2::2], strict=True):
        row[length] = dtype[name].itemsize
    return np.repeat(row, n)


def raw(rows: NDArray[np.void]) -> memoryview:
    return rows.view(np.uint8).data


class ColumnReader:
    """Grows columns from the bytes of a COPY of the columns in `wire`, as they arrive. `time` comes out as our µs.

    Memory: the columns grow in place (realloc moves no pages on Linux) and bytes are decoded a megabyte at a time, so
    that a reading needs little more than its result.
    """

    _AT_ONCE = 1 << 20

    def __init__(self, wire: Mapping[str, str]) -> None:
        self._names = tuple(wire)
        self._dtype = row_dtype(wire)
        self._waiting = bytearray()
        self._skip = len(HEADER)
        self._n = 0
        self._columns = [np.empty(0, np.dtype(kind).newbyteorder("=")) for kind in wire.values()]

    async def feed(self, data: bytes) -> None:
        """One piece of the COPY; awaitable because asyncpg wants its sinks so."""
        self._waiting += data
        if len(self._waiting) >= self._AT_ONCE:
            self._decode()

    def _decode(self) -> None:
        n = (len(self._waiting) - self._skip) // self._dtype.itemsize
        if n <= 0:
            return
        rows = np.frombuffer(self._waiting, self._dtype, n, self._skip)
        self._grow(self._n + n)
        for column, name in zip(self._columns, self._names, strict=True):
            column[self._n : self._n + n] = rows[name]
            if name == "time":
                column[self._n : self._n + n] += PG_EPOCH_US
        self._n += n
        del rows  # the bytearray cannot shrink while an array looks into it
        del self._waiting[: self._skip + n * self._dtype.itemsize]
        self._skip = 0

    def _grow(self, n: int) -> None:
        if n > len(self._columns[0]):
            room = max(n, len(self._columns[0]) * 3 // 2)
            for column in self._columns:
                column.resize(room, refcheck=False)

    def columns(self) -> list[NDArray[np.generic]]:
        """All of them, once everything was fed."""
        self._decode()
        for column in self._columns:
            column.resize(self._n, refcheck=False)
        return list(self._columns)
