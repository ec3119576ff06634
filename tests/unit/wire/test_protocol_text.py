"""schema/protocol.md says what the code does: its bytes, its types, its codes and its limits."""

import json
import re

import msgpack
import pytest

from timebase.errors import PROVIDER_ERRORS
from timebase.house import SCHEMA
from timebase.model.instrument import AssetClass
from timebase.model.interval import Interval
from timebase.wire.codec import MAX_ITEMS, MAX_MESSAGE_BYTES
from timebase.wire.envelope import BATCH_ROWS, Type, unpack_message
from timebase.wire.instruments import ACTION_KINDS

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
    assert len(EXAMPLES) == 6


@pytest.mark.parametrize("word", [*Type, *PROVIDER_ERRORS, *ACTION_KINDS])
def test_every_type_code_and_kind_is_written_down(word: str) -> None:
    assert f"`{word}`" in TEXT


def test_every_class_and_interval_is_written_down() -> None:
    assert f"`{' '.join(AssetClass)}`" in TEXT
    assert f"`{' '.join(Interval)}`" in TEXT


@pytest.mark.parametrize("limit", [MAX_ITEMS, MAX_MESSAGE_BYTES, BATCH_ROWS])
def test_every_limit_is_written_down(limit: int) -> None:
    assert f"{limit:,}" in TEXT


def test_only_known_types_are_in_the_tables() -> None:
    spoken = re.findall(r"^\| (?:core|plugin) \| `(\w+)` \|", TEXT, re.MULTILINE)
    assert set(spoken) == set(Type)
