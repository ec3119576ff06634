import struct
from itertools import pairwise

import numpy as np
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from timebase.model.bars import Bars
from timebase.storage.bar_rows import RowReader, pack_quarantine, pack_rows
from timebase.storage.binary_copy import HEADER, PG_EPOCH_US, TRAILER


def copy_of(rows: list[tuple[int, float, float, float, float, float, int]]) -> bytes:
    """What PostgreSQL sends for `COPY (SELECT time, open … flags) TO STDOUT (FORMAT binary)`, made by hand."""
    packed = [
        struct.pack(
            ">h iq id id id id id ih".replace(" ", ""), 7, 8, t - PG_EPOCH_US, 8, o, 8, h, 8, lo, 8, c, 8, v, 2, f
        )
        for t, o, h, lo, c, v, f in rows
    ]
    return HEADER + b"".join(packed) + TRAILER


async def read(data: bytes, cuts: list[int]) -> Bars:
    reader = RowReader()
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for first, last in pairwise(edges):
        await reader.feed(data[first:last])
    return reader.finish()


ROWS = st.lists(
    st.tuples(
        st.integers(-(10**15), 4 * 10**15), *[st.floats(allow_nan=False) for _ in range(5)], st.integers(0, 2**15 - 1)
    ),
    max_size=20,
)


@given(rows=ROWS, cuts=st.lists(st.integers(0, 1700), max_size=5))
@settings(max_examples=100, deadline=None)
def test_rows_are_read_wherever_the_bytes_are_cut(rows: list, cuts: list[int]) -> None:
    bars = trio.run(read, copy_of(rows), cuts)
    assert list(zip(*(column.tolist() for column in bars.columns()), strict=True)) == rows


async def test_many_rows_are_read_as_they_arrive() -> None:
    n = 40_000
    rows = [(t * 60_000_000, t + 0.5, t + 1.0, t - 1.0, t + 0.25, float(t), t % 4) for t in range(n)]
    data = copy_of(rows)
    bars = await read(data, list(range(0, len(data), 65_521)))
    assert len(bars) == n
    assert bars.time[-1] == (n - 1) * 60_000_000
    assert bars.close[12_345] == 12_345.25
    assert all(column.flags.c_contiguous for column in bars.columns())


async def test_no_rows_are_no_bars() -> None:
    bars = await read(copy_of([]), [])
    assert bars.equals(Bars.empty())


def test_packed_rows_have_the_bytes_that_postgresql_reads() -> None:
    bars = Bars.of([PG_EPOCH_US + 7], [1.5], [2.5], [0.5], [2.0], [10.0], [2])
    packed = b"".join(pack_rows(bars, 11, 3))
    expected = struct.pack(
        ">hiqidididididiqiiih",
        9, 8, 7, 8, 1.5, 8, 2.5, 8, 0.5, 8, 2.0, 8, 10.0, 8, 11, 4, 3, 2, 2,
    )  # fmt: skip
    assert packed == expected


@pytest.mark.parametrize("n", [0, 1, 8_192, 8_193, 20_000])
def test_rows_of_several_batches_keep_their_batch(n: int) -> None:
    bars = Bars.of(range(n), *[np.zeros(n)] * 5)
    pieces = list(pack_rows(bars, np.arange(n), 1))
    row = 2 + 7 * 12 + 8 + 6
    assert sum(len(piece) for piece in pieces) == n * row
    last = bytes(pieces[-1])[-row:] if pieces else b""
    assert n == 0 or struct.unpack_from(">q", last, 2 + 6 * 12 + 4) == (n - 1,)


def test_a_time_that_no_calendar_has_goes_to_quarantine_as_the_nearest_one() -> None:
    bars = Bars.of([-(2**63), 2**63 - 1], *[[float("nan")] * 2] * 5)
    (piece,) = pack_quarantine(bars, 1, 1, "time_range")
    first, last = (struct.unpack_from(">q", piece, at)[0] + PG_EPOCH_US for at in (6, 6 + len(piece) // 2))
    assert first == -62_135_596_800_000_000
    assert last == 253_402_300_799_000_000
