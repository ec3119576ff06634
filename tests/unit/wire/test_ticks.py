"""Stream messages: what one side packs the other reads, and what does not fit together is refused."""

from array import array
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from timebase.errors import Malformed
from timebase.model.bars import Flag
from timebase.model.feed import FeedKind
from timebase.wire.codec import MAX_MESSAGE_BYTES
from timebase.wire.envelope import BATCH_ROWS, Message, Type, unpack_message
from timebase.wire.streams import LAYOUTS, MAX_FEEDS, Rows, pack_pulse, pack_rows
from timebase.wire.ticks import Group, parse_groups, parse_pulse


def rows(kind: FeedKind, n: int, first: int = 0, **columns: list[float]) -> Rows:
    """`n` rows of small numbers; `columns` replace those of their name."""
    layout = LAYOUTS[kind]
    counted = range(first, first + n)
    plain = {name: counted if name in {"time", "trade_id"} or code == "d" else [0] * n
             for name, code in zip(layout.names, layout.kinds, strict=True)}  # fmt: skip
    given_ = plain | columns
    return tuple(array(code, given_[name]) for name, code in zip(layout.names, layout.kinds, strict=True))


def read(data: bytes) -> list[Group]:
    return list(parse_groups(unpack_message(data)))


def test_trades_of_several_feeds_come_back_feed_by_feed() -> None:
    data = pack_rows(
        LAYOUTS[FeedKind.TRADES],
        [(7, rows(FeedKind.TRADES, 2, side=[1, -1])), (3, rows(FeedKind.TRADES, 1, 5, flags=[2]))],
    )
    seven, three = read(data)
    assert (seven.feed, three.feed) == (7, 3)
    assert seven.trades is not None
    assert three.trades is not None
    assert [column.tolist() for column in seven.trades.columns()] == [[0, 1], [0, 1], [0, 1], [1, -1], [0, 1], [0, 0]]
    assert [column.tolist() for column in three.trades.columns()] == [[5], [5], [5], [0], [5], [2]]
    assert [column.dtype.str for column in seven.trades.columns()] == ["<i8", "<f8", "<f8", "|i1", "<i8", "|i1"]


def test_flags_that_are_all_zero_do_not_travel() -> None:
    packed = [pack_rows(LAYOUTS[FeedKind.TRADES], [(1, rows(FeedKind.TRADES, 1, flags=[flag]))]) for flag in (0, 1)]
    assert ["flags" in unpack_message(data).fields for data in packed] == [False, True]


def test_quotes_and_bars_come_back() -> None:
    (quotes,) = read(pack_rows(LAYOUTS[FeedKind.QUOTES], [(1, rows(FeedKind.QUOTES, 3))]))
    assert quotes.quotes is not None
    assert [column.tolist() for column in quotes.quotes.columns()] == [[0, 1, 2]] * 5
    (bars,) = read(pack_rows(LAYOUTS[FeedKind.BARS], [(1, rows(FeedKind.BARS, 2, closed=[1, 0]))]))
    assert bars.bars is not None
    assert bars.bars.flags.tolist() == [0, Flag.FORMING]
    assert bars.bars.flags.dtype == np.int16


def test_groups_without_rows_are_left_out() -> None:
    data = pack_rows(LAYOUTS[FeedKind.QUOTES], [(1, rows(FeedKind.QUOTES, 0)), (2, rows(FeedKind.QUOTES, 1))])
    assert [group.feed for group in read(data)] == [2]


def a_message(**changed: object) -> Message:
    whole = unpack_message(pack_rows(LAYOUTS[FeedKind.TRADES], [(1, rows(FeedKind.TRADES, 2))]))
    return Message(whole.type, whole.id, {**whole.fields, **changed})


@pytest.mark.parametrize(
    "changed",
    [
        {"counts": [1]},
        {"counts": [3]},
        {"counts": [2, 0]},
        {"counts": [3, -1], "feeds": [1, 2]},
        {"counts": [-2]},
        {"counts": [2**63]},
        {"counts": [True, True], "feeds": [1, 2]},
        {"counts": 2},
        {"counts": None},
        {"feeds": []},
        {"feeds": ["1"]},
        {"feeds": [1.0]},
        {"feeds": list(range(MAX_FEEDS + 1)), "counts": [0] * (MAX_FEEDS + 1)},
        {"time": b"\0" * 15},
        {"time": [1, 2]},
        {"price": None},
        {"side": np.array([0, 2]).tobytes()},
        {"side": np.array([0, 257]).tobytes()},
        {"flags": np.array([0, -1]).tobytes()},
        {"flags": np.array([0, 128]).tobytes()},
        {"trade_id": b""},
    ],
)
def test_what_does_not_fit_together_is_malformed(changed: dict[str, object]) -> None:
    with pytest.raises(Malformed):
        parse_groups(a_message(**changed))


@pytest.mark.parametrize("wild_us", [-(2**63), 2**63 - 1, 1_700_000_000_000_000_000])
def test_a_wild_time_of_one_tick_costs_its_message_nothing(wild_us: int) -> None:
    (group,) = parse_groups(a_message(time=np.array([0, wild_us]).tobytes()))
    assert group.trades is not None
    assert group.trades.time.tolist() == [0, wild_us]


def test_more_rows_than_one_message_may_have_are_malformed() -> None:
    with pytest.raises(Malformed, match="counts"):
        parse_groups(a_message(counts=[BATCH_ROWS + 1]))


def test_a_bar_is_closed_or_it_is_not() -> None:
    with pytest.raises(Malformed, match="closed"):
        read(pack_rows(LAYOUTS[FeedKind.BARS], [(1, rows(FeedKind.BARS, 1, closed=[2]))]))


def test_a_pulse_has_a_time_of_a_calendar_year() -> None:
    assert parse_pulse(unpack_message(pack_pulse([1, 2], 5))) == ((1, 2), 5)
    for fields in ({}, {"time": 2**62}, {"time": 1.5}, {"time": 1, "feeds": ["x"]}):
        with pytest.raises(Malformed):
            parse_pulse(Message("pulse", 0, fields))


def test_the_largest_messages_fit_the_link() -> None:
    for kind, layout in LAYOUTS.items():
        one, rest = rows(kind, 1), rows(kind, BATCH_ROWS - MAX_FEEDS + 1)
        groups = [(2**62 + n, one) for n in range(MAX_FEEDS - 1)] + [(1, rest)]
        data = pack_rows(layout, groups)
        assert len(data) <= MAX_MESSAGE_BYTES
        assert len(read(data)) == MAX_FEEDS


@given(
    st.sampled_from([Type.TRADES, Type.QUOTES, Type.STREAM_BARS]),
    st.dictionaries(
        st.sampled_from(["feeds", "counts", "time", "price", "size", "side", "bid", "open", "closed"]),
        st.one_of(
            st.none(), st.integers(), st.binary(max_size=40), st.lists(st.integers(-2, 5), max_size=4), st.text()
        ),
    ),
)
def test_anything_is_groups_or_malformed(type_: Type, fields: dict[str, object]) -> None:
    with suppress(Malformed):
        list(parse_groups(Message(type_, 0, fields)))
