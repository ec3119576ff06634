"""msgpack, bounded: the only importer of msgpack on the road from plugin to core."""

from collections.abc import Callable, Mapping
from itertools import count

import msgpack

from timebase.errors import Malformed

MAX_MESSAGE_BYTES = 4 << 20
"""Above this nng closes the connection without a word, so senders split: BATCH_ROWS rows are 3 MiB."""

MAX_ITEMS = 20_000
"""Items of one array or map, and arrays and maps of one message; columns are binary and do not count.

Without it 4 MB of nested empty maps become 300 MB of objects.
"""


def pack(message: Mapping[str, object]) -> bytes:
    """Raises: TypeError on a value that msgpack has no form for, OverflowError on an integer beyond 64 bits."""
    packed: bytes = msgpack.packb(message)
    return packed


def unpack(data: bytes) -> dict[str, object]:
    """Raises: Malformed, whatever `data` is."""
    hook = _counting_hook()
    try:
        message = msgpack.unpackb(
            data, max_array_len=MAX_ITEMS, max_map_len=MAX_ITEMS, max_ext_len=0, list_hook=hook, object_hook=hook
        )
    except (ValueError, TypeError, RecursionError) as problem:
        raise Malformed(f"not a msgpack message ({len(data)} bytes): {problem or type(problem).__name__}") from problem
    if not isinstance(message, dict):
        raise Malformed(f"a message is a map, not {type(message).__name__}")
    return message


def _counting_hook() -> Callable[[object], object]:
    seen = count(1)

    def hook(container: object) -> object:
        if next(seen) > MAX_ITEMS:
            raise ValueError(f"more than {MAX_ITEMS} arrays and maps")
        return container

    return hook
