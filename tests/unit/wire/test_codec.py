import contextlib

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from timebase.errors import Malformed
from timebase.wire.codec import MAX_ITEMS, pack, unpack

scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text()
values = st.recursive(
    scalars | st.binary(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20
)


@given(st.dictionaries(st.text(), values))
def test_what_is_packed_unpacks_the_same(message: dict[str, object]) -> None:
    assert unpack(pack(message)) == message


@given(st.binary())
def test_any_bytes_are_a_map_or_malformed(data: bytes) -> None:
    with contextlib.suppress(Malformed):
        assert isinstance(unpack(data), dict)


@given(st.dictionaries(st.text(), values, min_size=1), st.data())
def test_a_message_cut_short_is_malformed(message: dict[str, object], data: st.DataObject) -> None:
    whole = pack(message)
    end = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(Malformed):
        unpack(whole[:end])


@pytest.mark.parametrize(
    "data",
    [
        pack({}) + b"\x00",
        msgpack.packb({1: "one"}),
        b"\x81\xa1\xff\x00",
        msgpack.packb({"t": msgpack.Timestamp(1)}),
        b"\x81\xa1a" + b"\x91" * 100_000,
        b"\x81\xa1a\xdd\x7f\xff\xff\xff",
        b"\x81\xa1a\xc6\x7f\xff\xff\xff",
    ],
)
def test_what_a_message_may_not_hold_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        unpack(data)


def test_many_small_containers_are_refused_before_they_fill_memory() -> None:
    rows = [[{}] * 10_000] * 10
    with pytest.raises(Malformed, match=f"more than {MAX_ITEMS} arrays and maps"):
        unpack(pack({"rows": rows}))
