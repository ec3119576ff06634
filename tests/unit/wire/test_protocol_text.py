"""schema/protocol.md says what the code does: its bytes, its types, its codes and its limits."""

import json
import re

import msgpack
import pytest

from timebase.errors import PROVIDER_ERRORS
from timebase.house import SCHEMA
from timebase.link.inflow import WORDS
from timebase.model.feed import FeedKind
from timebase.model.instrument import AssetClass
from timebase.model.interval import Interval
from timebase.wire.codec import MAX_ITEMS, MAX_MESSAGE_BYTES
from timebase.wire.envelope import BATCH_ROWS, Type, unpack_message
from timebase.wire.instruments import ACTION_KINDS
from timebase.wire.streams import LAYOUTS, MAX_FEEDS, Layout

TEXT = (SCHEMA / "protocol.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^(\{.*\})\n([0-9a-f ]+)$", TEXT, re.MULTILINE)


def columns(value: dict[str, object]) -> dict[str, object]:
    return {
        key: bytes.fromhex(item.removeprefix("hex:")) if isinstance(item, str) and item.startswith("hex:") else item
        for key, item in value.items()
    }


@pytest.mark.parametrize(("told", "hexed"), EXAMPLES)
def test_the_examples_are_the_messages_they_say(told: str, hexed: str) -> None:
    data = bytes.fromhex(hexed)
    assert msgpack.unpackb(data) == json.loads(told, object_hook=columns)
    assert unpack_message(data).type in set(Type)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 10


@pytest.mark.parametrize("word", [*Type, *PROVIDER_ERRORS, *ACTION_KINDS])
def test_every_type_code_and_kind_is_written_down(word: str) -> None:
    assert f"`{word}`" in TEXT


def test_every_class_and_interval_is_written_down() -> None:
    assert f"`{' '.join(AssetClass)}`" in TEXT
    assert f"`{' '.join(Interval)}`" in TEXT


@pytest.mark.parametrize("limit", [MAX_ITEMS, MAX_MESSAGE_BYTES, BATCH_ROWS, MAX_FEEDS, WORDS])
def test_every_limit_is_written_down(limit: int) -> None:
    assert f"{limit:,}" in TEXT


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=lambda layout: layout.type.value)
def test_every_column_of_a_stream_is_in_its_row_and_int64_columns_are_told(layout: Layout) -> None:
    named = ", ".join(f"`{name}`" for name in ("feeds", "counts", *layout.names))
    assert f"| plugin | `{layout.type.value}` | {named} |" in TEXT
    whole = [name for name, kind in zip(layout.names, layout.kinds, strict=True) if kind == "q" and name != "time"]
    assert all(f"`{name}` is an int64 column" in TEXT for name in whole)


def test_every_kind_of_feed_is_written_down() -> None:
    assert f"`kind` is {', '.join(f'`{kind}`' for kind in list(FeedKind)[:-1])} or `{list(FeedKind)[-1]}`" in TEXT


def test_only_known_types_are_in_the_tables() -> None:
    spoken = re.findall(r"^\| (?:core|plugin) \| `(\w+)` \|", TEXT, re.MULTILINE)
    assert set(spoken) == set(Type)
