"""The little of FlatBuffers that Arrow's messages need: tables, strings and vectors, written front to back. Pure.

Source: flatbuffers.dev, "FlatBuffers Binary Format". All offsets are unsigned and point forward, except a table's to
its vtable, which here lies directly before it; so children follow their parents and nothing has to be turned around.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

# Appends itself to the buffer and returns where it begins.
Child = Callable[[bytearray], int]


@dataclass(frozen=True, slots=True)
class Scalar:
    """`kind` is the struct module's letter: B bool or ubyte, h short, i int, q long."""

    kind: str
    value: int


def buffer(root: Child) -> bytes:
    """A whole buffer: the offset of the root table, then everything."""
    out = bytearray(4)
    struct.pack_into("<I", out, 0, root(out))
    _align(out, 8)
    return bytes(out)


def table(*fields: Scalar | Child | None) -> Child:
    """A table with its fields in the order of their ids; None leaves the field at its default."""

    def write(out: bytearray) -> int:
        size, offsets = _layout(fields)
        vtable = struct.pack(f"<HH{len(fields)}H", 4 + 2 * len(fields), size, *offsets)
        _align(out, 8, after=len(vtable))
        out += vtable
        start = len(out)
        out += bytes(size)
        struct.pack_into("<i", out, start, len(vtable))
        for each, offset in zip(fields, offsets, strict=True):
            if isinstance(each, Scalar):
                struct.pack_into(f"<{each.kind}", out, start + offset, each.value)
            elif each is not None:
                _point(out, start + offset, each)
        return start

    return write


def text(value: str) -> Child:
    def write(out: bytearray) -> int:
        _align(out, 4)
        start, raw = len(out), value.encode()
        out.extend(struct.pack("<I", len(raw)) + raw + b"\0")
        return start

    return write


def tables(children: Sequence[Child]) -> Child:
    """A vector of tables."""

    def write(out: bytearray) -> int:
        _align(out, 4)
        start = len(out)
        out.extend(struct.pack("<I", len(children)) + bytes(4 * len(children)))
        for n, child in enumerate(children, start=1):
            _point(out, start + 4 * n, child)
        return start

    return write


def structs(layout: str, rows: Sequence[tuple[int, ...]]) -> Child:
    """A vector of structs that hold longs, so that they begin at a multiple of 8."""

    def write(out: bytearray) -> int:
        _align(out, 8, after=4)
        start = len(out)
        out.extend(struct.pack("<I", len(rows)) + b"".join(struct.pack(f"<{layout}", *row) for row in rows))
        return start

    return write


def _layout(fields: Sequence[Scalar | Child | None]) -> tuple[int, list[int]]:
    """The table's size and each field's offset in it (0: left out), every field at a multiple of its own size."""
    end, offsets = 4, []
    for each in fields:
        width = 0 if each is None else struct.calcsize(each.kind) if isinstance(each, Scalar) else 4
        end = -(-end // width) * width if width else end
        offsets.append(end if width else 0)
        end += width
    return end, offsets


def _point(out: bytearray, at: int, child: Child) -> None:
    struct.pack_into("<I", out, at, child(out) - at)


def _align(out: bytearray, to: int, after: int = 0) -> None:
    """Pad so that what follows the next `after` bytes begins at a multiple of `to`."""
    out.extend(bytes(-(len(out) + after) % to))
