import pytest
from hypothesis import given
from hypothesis import strategies as st

from timebase.errors import PROVIDER_ERRORS, Malformed, ProviderError, RateLimited, Upstream, provider_error
from timebase.wire.codec import pack
from timebase.wire.envelope import Message, Type, pack_error, pack_message, parse_error, unpack_message


def test_a_message_comes_back_with_its_fields() -> None:
    message = unpack_message(pack_message(Type.HISTORY, 7, symbol="AAPL", credit=4))
    assert (message.type, message.id, message.text("symbol"), message.integer("credit")) == ("history", 7, "AAPL", 4)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"v": 1},
        {"v": 2, "id": 1, "type": "end"},
        {"v": "1", "id": 1, "type": "end"},
        {"v": 1, "id": 1.0, "type": "end"},
        {"v": 1, "id": True, "type": "end"},
        {"v": 1, "id": 1, "type": None},
    ],
)
def test_what_is_no_envelope_is_malformed(fields: dict[str, object]) -> None:
    with pytest.raises(Malformed):
        unpack_message(pack(fields))


def test_an_envelope_without_an_id_is_nobodys() -> None:
    assert unpack_message(pack({"v": 1, "type": "log"})).id == 0


ODD = [None, True, 1, 1.5, "text", b"bytes", [], [1], {}, {"a": 1}]


@pytest.mark.parametrize("value", ODD)
def test_fields_of_another_kind_are_malformed(value: object) -> None:
    message = Message("x", 1, {"f": value, "rows": value})
    readers = {
        message.text: str,
        message.binary: bytes,
        message.mapping: dict,
    }
    for read, kind in readers.items():
        if isinstance(value, kind):
            assert read("f") == value
        else:
            with pytest.raises(Malformed, match=r"f: .* wanted"):
                read("f")
    if type(value) is not int:
        with pytest.raises(Malformed):
            message.integer("f")
    if value != []:
        with pytest.raises(Malformed):
            message.texts("f")
        with pytest.raises(Malformed):
            message.rows()


def test_what_is_missing_is_its_default_or_malformed() -> None:
    message = Message("x", 1)
    assert message.text("f", "") == ""
    assert message.integer("f", 3) == 3
    assert message.texts("f") == ()
    assert message.rows() == ()
    assert message.mapping("f") == {}
    with pytest.raises(Malformed):
        message.text("f")
    with pytest.raises(Malformed):
        message.binary("f")


def test_long_text_is_cut() -> None:
    assert len(Message("x", 1, {"f": "x" * 10_000}).text("f")) == 2_000
    assert len(unpack_message(pack_error(1, Upstream("x" * 10_000))).text("message")) == 2_000


@pytest.mark.parametrize("code", PROVIDER_ERRORS)
def test_every_provider_error_survives_the_wire(code: str) -> None:
    error = provider_error(code, "why", 2.5)
    again = parse_error(unpack_message(pack_error(3, error)))
    assert (type(again), str(again)) == (type(error), "why")
    assert getattr(again, "retry_after_s", None) == getattr(error, "retry_after_s", None)


@pytest.mark.parametrize("retry_after", [None, -1, "soon", True, float("inf"), float("nan")])
def test_a_wait_that_is_none_is_not_given(retry_after: object) -> None:
    error = parse_error(Message("error", 1, {"code": "rate_limited", "message": "x", "retry_after": retry_after}))
    assert isinstance(error, RateLimited)
    assert error.retry_after_s is None


@given(st.dictionaries(st.sampled_from(["code", "message", "retry_after"]), st.sampled_from(ODD)))
def test_an_error_message_is_an_error_or_malformed(fields: dict[str, object]) -> None:
    try:
        error = parse_error(Message("error", 1, fields))
    except Malformed as malformed:
        error = malformed
    assert isinstance(error, ProviderError)
