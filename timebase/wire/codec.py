"""msgpack, bounded: the only importer of msgpack on the road from plugin to core."""

from collections.abc import Mapping

import msgpack

from timebase.errors import Malformed

MAX_MESSAGE_BYTES = 4 << 20
"""Above this nng closes the connection without a word, so senders split: BATCH_ROWS rows are 3 MiB."""

MAX_ITEMS = 20_000  # of one array or map; columns are binary and do not count


def pack(message: Mapping[str, object]) -> bytes:
    """Raises: TypeError on a value that msgpack has no form for, OverflowError on an integer beyond 64 bits."""
    packed: bytes = msgpack.packb(message)
    return packed


def unpack(data: bytes) -> dict[str, object]:
    """Raises: Malformed, whatever `data` is."""
    try:
        message = msgpack.unpackb(data, max_array_len=MAX_ITEMS, max_map_len=MAX_ITEMS, max_ext_len=0)
    except (ValueError, TypeError, RecursionError) as problem:
        raise Malformed(f"not a msgpack message ({len(data)} bytes): {problem or type(problem).__name__}") from problem
    if not isinstance(message, dict):
        raise Malformed(f"a message is a map, not {type(message).__name__}")
    return message
