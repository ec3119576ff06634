"""A reply's body, compressed when the client asked for it and it pays.

Only text is: Arrow, Parquet and msgpack columns are sent as they lie in memory, and clients that offer gzip by habit
would wait ten times as long for them. Measured for 10,000 bars of JSON (486 KB): gzip 1 takes 2.6 ms and leaves 137 KB,
zstd 1 takes 0.9 ms and leaves 100 KB, which is what `zstandard` is installed for.
"""

import zlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Protocol

import trio
import zstandard

from timebase.api.exchange import Pieces, Reply
from timebase.api.negotiate import choose_encoding

FROM_BYTES = 1024
INLINE_BYTES = 256 * 1024  # 1 ms; longer ones are compressed in a thread
_GZIP = 31  # zlib's window bits for a gzip header


class Compressor(Protocol):
    def compress(self, data: bytes | memoryview, /) -> bytes: ...
    def flush(self) -> bytes: ...


async def compressed(reply: Reply, accept_encoding: str) -> Reply:
    """The same reply, packed. What the client can unpack is part of the request, so caches are told that it varies."""
    if not reply.is_text or (isinstance(reply.body, bytes) and len(reply.body) < FROM_BYTES):
        return reply
    name = choose_encoding(accept_encoding)
    if name is None:
        return reply.with_headers(("vary", "accept-encoding"))
    packed = replace(reply, body=await _pack(reply.body, name))
    return packed.with_headers(("content-encoding", name), ("vary", "accept-encoding"))


async def _pack(body: bytes | Pieces, name: str) -> bytes | Pieces:
    if isinstance(body, Pieces):
        return Pieces(lambda: _pack_pieces(body, _compressor(name)))
    if len(body) > INLINE_BYTES:
        return await trio.to_thread.run_sync(_pack_whole, body, name)
    return _pack_whole(body, name)


def _pack_whole(body: bytes, name: str) -> bytes:
    compressor = _compressor(name)
    return compressor.compress(body) + compressor.flush()


async def _pack_pieces(body: Pieces, compressor: Compressor) -> AsyncGenerator[bytes | memoryview]:
    async with aclosing(body.make()) as pieces:
        async for piece in pieces:
            packed = await trio.to_thread.run_sync(compressor.compress, piece)
            if packed:
                yield packed
    yield compressor.flush()


def _compressor(name: str) -> Compressor:
    return zstandard.ZstdCompressor(level=1).compressobj() if name == "zstd" else zlib.compressobj(1, wbits=_GZIP)
