import struct
from itertools import pairwise

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from timebase.model.ticks import Quotes, Trades
from timebase.model.timerange import HOUR_US, MINUTE_US
from timebase.storage.binary_copy import HEADER, PG_EPOCH_US, TRAILER
from timebase.storage.tick_rows import (
    QUOTES_WIRE,
    TRADES_WIRE,
    QuoteReader,
    Span,
    TickRows,
    TradeKeys,
    TradeReader,
    key_spans,
    pack_ticks,
    unseen,
)


def rows_of(series: list[int], time: list[int], id: list[int], flags: list[int] | None = None) -> TickRows[Trades]:
    n = len(series)
    return TickRows(Trades.of(time, [1.0] * n, [1.0] * n, id=id, flags=flags), np.asarray(series, np.int32))


NOTHING = TradeKeys.of(rows_of([], [], []))


def test_packed_trades_have_the_bytes_that_postgresql_reads() -> None:
    trades = Trades.of([PG_EPOCH_US + 7], [1.5], [0.25], [-1], [2**40], [2])
    packed = b"".join(pack_ticks(TickRows(trades, np.asarray([3], np.int32)), TRADES_WIRE, 11))
    assert packed == struct.pack(
        ">hiqididiqiqiiiiihih", 9, 8, 7, 8, 1.5, 8, 0.25, 8, 2**40, 8, 11, 4, 0, 4, 3, 2, -1, 2, 2
    )


def test_packed_quotes_have_the_bytes_that_postgresql_reads() -> None:
    quotes = Quotes.of([PG_EPOCH_US], [1.0], [2.0], [3.0], [4.0])
    packed = b"".join(pack_ticks(TickRows(quotes, np.asarray([3], np.int32)), QUOTES_WIRE, 11))
    assert packed == struct.pack(">hiqididididiqiiii", 8, 8, 0, 8, 1.0, 8, 2.0, 8, 3.0, 8, 4.0, 8, 11, 4, 0, 4, 3)


def test_the_places_of_a_commit_go_on_over_its_pieces() -> None:
    n = 20_000
    rows = TickRows(Trades.of(np.zeros(n), np.ones(n), np.ones(n)), np.ones(n, np.int32))
    data = b"".join(pack_ticks(rows, TRADES_WIRE, 1))
    width = len(data) // n
    at = 2 + 12 * 5 + 4
    assert [struct.unpack_from(">i", data, row * width + at)[0] for row in (0, 8_191, 8_192, n - 1)] == [
        0, 8_191, 8_192, n - 1,
    ]  # fmt: skip


async def test_trades_and_quotes_are_read_wherever_the_bytes_are_cut() -> None:
    trade = struct.pack(">hiqididihiqihiq", 7, 8, 7, 8, 1.5, 8, 0.5, 2, -1, 8, 9, 2, 1, 8, 11)
    quote = struct.pack(">hiqididididiq", 6, 8, 7, 8, 1.0, 8, 2.0, 8, 3.0, 8, 4.0, 8, 11)
    for reader, row in ((TradeReader(), trade), (QuoteReader(), quote)):
        data = HEADER + row * 3 + TRAILER
        for first, last in pairwise((0, 20, 21, 60, len(data))):
            await reader.feed(data[first:last])
        ticks, commit_ids = reader.finish()
        assert ticks.time.tolist() == [PG_EPOCH_US + 7] * 3
        assert commit_ids.tolist() == [11] * 3
        if isinstance(ticks, Trades):
            assert (ticks.side.tolist(), ticks.id.tolist(), ticks.flags.tolist()) == ([-1] * 3, [9] * 3, [1] * 3)
            assert (ticks.side.dtype, ticks.flags.dtype) == (np.int8, np.int8)


def test_a_trade_is_new_once() -> None:
    rows = rows_of([1, 1, 1, 2], [5, 5, 6, 5], [7, 7, 8, 7])
    assert unseen(TradeKeys.of(rows), NOTHING).tolist() == [True, False, True, True]
    assert unseen(TradeKeys.of(rows), TradeKeys.of(rows_of([1], [6], [8]))).tolist() == [True, False, False, True]


def test_trades_without_a_number_are_all_new() -> None:
    rows = rows_of([1, 1, 1], [5, 5, 5], [0, 0, 0])
    assert unseen(TradeKeys.of(rows), TradeKeys.of(rows)).all()


def test_a_cancellation_is_not_the_trade_that_it_takes_back() -> None:
    rows = rows_of([1, 1, 1], [5, 5, 5], [7, 7, 7], [0, 1, 1])
    assert unseen(TradeKeys.of(rows), NOTHING).tolist() == [True, True, False]


@example([(1, 1, 1, 0), (1, 1, 0, 0), (1, 1, 1, 0)], [])  # one without a number between two of the same
@given(
    st.lists(st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(0, 3), st.integers(0, 1)), max_size=12),
    st.lists(st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 3), st.integers(0, 1)), max_size=6),
)
def test_new_is_what_nobody_has_seen_before(
    given: list[tuple[int, int, int, int]], stored: list[tuple[int, int, int, int]]
) -> None:
    given = sorted(given, key=lambda row: row[0])  # series after series
    keys, known = (TradeKeys.of(rows_of(*(list(c) for c in zip(*rows, strict=True)))) if rows else NOTHING
                   for rows in (given, stored))  # fmt: skip
    seen = set(stored)
    expected = []
    for row in given:
        expected.append(row not in seen or row[2] == 0)
        seen.add(row)
    assert unseen(keys, known).tolist() == expected


def test_only_where_numbered_trades_lie_is_looked_for_copies() -> None:
    rows = rows_of([1, 1, 1, 2, 2], [HOUR_US, 0, MINUTE_US, 5, 6], [3, 1, 2, 0, 9])
    assert key_spans(rows) == [Span(1, 0, MINUTE_US), Span(1, HOUR_US, HOUR_US), Span(2, 6, 6)]
    assert key_spans(rows_of([1], [1], [0])) == []


def test_a_tape_with_many_gaps_is_looked_for_as_a_whole() -> None:
    n = 100
    assert key_spans(rows_of([1] * n, [at * HOUR_US for at in range(n)], list(range(1, n + 1)))) == [
        Span(1, 0, (n - 1) * HOUR_US)
    ]
