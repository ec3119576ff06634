"""One client's socket, as hypercorn's TCPServer wants a stream, with an end to its patience."""

import trio

CHUNK = 1 << 20


class Connection:
    """A client that takes not one chunk in `stalled_s` is cut off: its answer's memory is needed elsewhere."""

    def __init__(self, stream: trio.SocketStream, stalled_s: float) -> None:
        self._stream = stream
        self._stalled_s = stalled_s
        self.socket = stream.socket
        self.closed = trio.Event()

    async def send_all(self, data: bytes) -> None:
        """Raises: BrokenResourceError, ClosedResourceError."""
        view = memoryview(data)
        for at in range(0, len(view), CHUNK):
            with trio.move_on_after(self._stalled_s) as patience:
                await self._stream.send_all(view[at : at + CHUNK])
            if patience.cancelled_caught:
                raise trio.BrokenResourceError(f"the client read nothing for {self._stalled_s:g} s")

    async def receive_some(self, max_bytes: int) -> bytes:
        return await self._stream.receive_some(max_bytes)

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        self.closed.set()
        await self._stream.aclose()

    def abort(self) -> None:
        """Close now, also under a send that hypercorn shields from being cancelled."""
        self.closed.set()
        self.socket.close()
