"""Vendors of WebSocket streams on the loopback: they answer, send what a test plays, and have every fault on demand."""

import gzip
import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

PATIENCE_S = 20.0


class SocketVendor:
    """What all such vendors share: connections, and what came in on them.

    `is_mute`: takes what it is sent, pings too, and answers nothing.
    """

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[dict[str, Any]] = []
        self.is_mute = False
        self.accepted = 0
        self._open: dict[ServerConnection, set[str]] = {}
        self._changed = threading.Condition()

    def serve(self, connection: ServerConnection) -> None:
        """The life of one connection, in a thread of its own."""
        with self._changed:
            self.accepted += 1
            self._open[connection] = self.streams_of(connection)
            self._changed.notify_all()
        try:
            for text in connection:
                request = json.loads(text)
                with self._changed:
                    self.requests.append(request)
                    if not self.is_mute:
                        self.take(self._open[connection], request)
                    self._changed.notify_all()
                if not self.is_mute:
                    self.reply(connection, request)
        except ConnectionClosed:
            pass
        finally:
            with self._changed:
                del self._open[connection]
                self._changed.notify_all()

    def streams_of(self, connection: ServerConnection) -> set[str]:
        """What a connection is subscribed to from its first moment."""
        return set()

    def take(self, streams: set[str], request: dict[str, Any]) -> None:
        """Change a connection's subscriptions as it asks."""

    def reply(self, connection: ServerConnection, request: dict[str, Any]) -> None:
        """Answer a request."""

    def send(self, stream: str, text: str | bytes) -> None:
        """To every connection that has the stream."""
        with self._changed:
            open_ = [connection for connection, streams in self._open.items() if stream in streams]
        for connection in open_:
            with suppress(ConnectionClosed):
                connection.send(text)

    def hang_up(self, code: int = 1006) -> None:
        """Close every connection, with a close frame unless `code` is 1006."""
        for connection in self._connections():
            if code == 1006:
                connection.socket.shutdown(2)
            else:
                connection.close(code, "as a test wants it")

    def send_half_a_frame(self) -> None:
        """A frame that says 126 bytes or more and ends after ten, and then nothing any more."""
        for connection in self._connections():
            connection.socket.sendall(b"\x81\x7e\x04\x00" + b'{"stream":')

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Every connection stands still: open, and not even a ping is answered."""
        held = self._connections()
        for connection in held:
            connection.protocol_mutex.acquire()
        try:
            yield
        finally:
            for connection in held:
                connection.protocol_mutex.release()

    def wait(self, holds: Callable[[], bool]) -> None:
        """Until it holds, as far as connections and requests go. Raises: TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(holds, PATIENCE_S):
                raise TimeoutError(f"nothing came of it; {self.accepted} connections, asked {self.requests[-3:]}")

    def has(self, stream: str) -> bool:
        return any(stream in streams for streams in self._open.values())

    @property
    def n_open(self) -> int:
        return len(self._open)

    def _connections(self) -> list[ServerConnection]:
        with self._changed:
            return list(self._open)


class BinanceStreams(SocketVendor):
    """Combined streams: /stream?streams=a/b, SUBSCRIBE, UNSUBSCRIBE, LIST_SUBSCRIPTIONS."""

    def streams_of(self, connection: ServerConnection) -> set[str]:
        assert connection.request is not None
        return set(urlsplit(connection.request.path).query.removeprefix("streams=").split("/"))

    def take(self, streams: set[str], request: dict[str, Any]) -> None:
        if request["method"] == "SUBSCRIBE":
            streams.update(request["params"])
        elif request["method"] == "UNSUBSCRIBE":
            streams.difference_update(request["params"])

    def reply(self, connection: ServerConnection, request: dict[str, Any]) -> None:
        is_list = request["method"] == "LIST_SUBSCRIPTIONS"
        result = sorted(self._open[connection]) if is_list else None
        connection.send(json.dumps({"result": result, "id": request["id"]}))

    def forget(self, stream: str) -> None:
        """Serve a stream no more, without a word."""
        with self._changed:
            for streams in self._open.values():
                streams.discard(stream)

    def play(self, messages: Iterable[str]) -> int:
        """Send messages as they were recorded to those who follow their streams. Returns how many."""
        n = 0
        for text in messages:
            self.send(json.loads(text)["stream"], text)
            n += 1
        return n


class YahooStreams(SocketVendor):
    """Yahoo's WebSocket: {"subscribe": [symbol, …]} and {"unsubscribe": [symbol, …]}, neither of which it answers."""

    def take(self, streams: set[str], request: dict[str, Any]) -> None:
        streams.update(request.get("subscribe", ()))
        streams.difference_update(request.get("unsubscribe", ()))


@contextmanager
def open_sockets(vendor: SocketVendor) -> Iterator[None]:
    """The vendor listens on 127.0.0.1 until the block is left."""
    with serve(vendor.serve, "127.0.0.1", 0, ping_interval=None) as server:
        vendor.url = f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            vendor.hang_up()
            thread.join()


def recorded_frames(file: Path) -> Iterator[str]:
    """The frames of a recording, `receive_ns {json}` a line, that belong to a combined stream."""
    with gzip.open(file, "rt") as lines:
        for line in lines:
            text = line.partition(" ")[2].rstrip("\n")
            if text.startswith('{"stream"'):
                yield text
