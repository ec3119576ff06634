"""The plugin's end of the link, on asyncio or trio. Loaded by every plugin: no numpy here."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from timebase.errors import Unavailable
from timebase.link.socket import Socket
from timebase.wire.codec import MAX_MESSAGE_BYTES
from timebase.wire.envelope import Message, unpack_message


class PluginLink:
    def __init__(self, socket: Socket) -> None:
        self._socket = socket

    async def receive(self) -> Message:
        """Raises: Malformed, which from the core means that the two do not fit together; LinkClosed."""
        return unpack_message(await self._socket.receive())

    async def send(self, message: bytes) -> None:
        """Raises: Unavailable when `message` is too long for the link; nng would drop the connection without a word."""
        if len(message) > MAX_MESSAGE_BYTES:
            raise Unavailable(f"a message of {len(message)} bytes does not fit the link's {MAX_MESSAGE_BYTES}")
        await self._socket.send(message)

    def send_nowait(self, message: bytes) -> bool:
        """From any thread; False when there is no room for it now."""
        return len(message) <= MAX_MESSAGE_BYTES and self._socket.send_nowait(message)


@contextmanager
def open_plugin_link(address: str, on_gone: Callable[[], None]) -> Iterator[PluginLink]:
    """Dial the core. `on_gone` is called, in a thread of nng's, when the connection is lost."""
    with Socket.open(on_gone) as socket:
        socket.dial(address)
        yield PluginLink(socket)
