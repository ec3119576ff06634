"""Replies without a framework."""

import json
from enum import StrEnum
from types import MappingProxyType

import pytest

from timebase.api.exchange import Reply, dumps
from timebase.model.receipt import Attempt


def test_read_only_views_sets_and_our_values_have_a_json_form() -> None:
    content = {"a": MappingProxyType({"b": frozenset({2, 1})}), "c": Attempt("demo", "ok"), "d": StrEnum("E", ["X"]).X}
    assert json.loads(dumps(content)) == {
        "a": {"b": [1, 2]},
        "c": {"provider": "demo", "outcome": "ok", "reason": "", "ms": 0},
        "d": "x",
    }


def test_what_has_no_json_form_is_an_error() -> None:
    with pytest.raises(TypeError):
        dumps({"a": object()})


def test_an_unchanged_reply_has_neither_type_nor_length() -> None:
    assert Reply(304, headers=(("etag", "x"),)).all_headers() == [("etag", "x")]
