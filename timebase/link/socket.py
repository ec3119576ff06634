"""pynng behind a typed face, and where its exceptions end."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

import anyio.lowlevel
from pynng.exceptions import NNGException
from pynng.nng import Pair0, Pipe

from timebase.wire.codec import MAX_MESSAGE_BYTES

_BUFFERED = 16
"""Messages that may wait inside nng on either side: small ones; bars are bounded by their credit long before."""


class LinkClosed(Exception):
    """There is no connection and nothing left of the last one."""


class Socket:
    """One end of a pair. Works on asyncio and trio; all of it may be called by several tasks at once."""

    def __init__(self, pair: Pair0) -> None:
        self._pair = pair

    @classmethod
    @contextmanager
    def open(cls, on_gone: Callable[[], None]) -> Iterator[Self]:
        """`on_gone` is called, in a thread of nng's, when the first peer's connection is lost.

        Later ones do not count: a second peer is turned away by nng, which closes its connection too.
        """
        first: list[int] = []

        def on_connect(pipe: Pipe) -> None:
            first.append(pipe.id)
            del first[1:]

        def on_disconnect(pipe: Pipe) -> None:
            if pipe.id in first:
                on_gone()

        pair = Pair0(recv_max_size=MAX_MESSAGE_BYTES, recv_buffer_size=_BUFFERED, send_buffer_size=_BUFFERED)  # type: ignore[no-untyped-call]
        with pair:
            pair.add_pre_pipe_connect_cb(on_connect)  # type: ignore[no-untyped-call]
            pair.add_post_pipe_remove_cb(on_disconnect)  # type: ignore[no-untyped-call]
            yield cls(pair)

    def listen(self, address: str) -> None:
        self._pair.listen(address)  # type: ignore[no-untyped-call]

    def dial(self, address: str) -> None:
        """Returns at once, connects when it can: a blocking dial to a dead peer can abort the process."""
        self._pair.dial(address, block=False)  # type: ignore[no-untyped-call]

    async def receive(self) -> bytes:
        try:
            message: bytes = await self._pair.arecv()  # type: ignore[no-untyped-call]
        except NNGException as problem:
            raise LinkClosed(str(problem)) from problem
        except asyncio.CancelledError:
            await _cancelled_by_anyio()
            raise
        return message

    def receive_nowait(self) -> bytes:
        """Raises: LinkClosed when nothing has arrived."""
        try:
            message: bytes = self._pair.recv(block=False)  # type: ignore[no-untyped-call]
        except NNGException as problem:
            raise LinkClosed(str(problem)) from problem
        return message

    async def send(self, message: bytes) -> None:
        try:
            await self._pair.asend(message)  # type: ignore[no-untyped-call]
        except NNGException as problem:
            raise LinkClosed(str(problem)) from problem
        except asyncio.CancelledError:
            await _cancelled_by_anyio()
            raise

    def send_nowait(self, message: bytes) -> bool:
        """From any thread; False when there is no room for it now."""
        try:
            self._pair.send(message, block=False)  # type: ignore[no-untyped-call]
        except NNGException:
            return False
        return True


async def _cancelled_by_anyio() -> None:
    """pynng raises a CancelledError of its own, which no anyio scope knows for its own; this raises the scope's."""
    await anyio.lowlevel.checkpoint()
