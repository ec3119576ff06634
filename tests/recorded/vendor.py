"""A vendor on the loopback: plays answers, faults among them, and remembers every request that it saw.

The plugins' vendor libraries talk to it for real, over HTTP, through their `base_url` option.
"""

import json
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, unquote, urlsplit

# Longer than any test waits for; the server's end cuts it short.
SLOW_S = 30.0


@dataclass(frozen=True, slots=True)
class Seen:
    """One request: `path` without its percent signs, `query` the last value of each name."""

    method: str
    path: str
    query: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back; a `body` that is not bytes goes out as JSON. `is_slow` holds it back, `is_cut` hangs up."""

    body: object = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    is_slow: bool = False
    is_cut: bool = False


Handler = Callable[[Seen], Answer]


class Vendor:
    """What the loopback vendor will say, and what it was asked."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.seen: list[Seen] = []
        self.closing = threading.Event()
        self._handlers: list[tuple[str, Handler]] = []
        self._next: list[tuple[str, deque[Answer]]] = []

    def serve(self, path: str, handler: Handler) -> None:
        """Every request below `path` goes to `handler`; later calls win."""
        self._handlers.insert(0, (path, handler))

    def play(self, path: str, *answers: Answer) -> None:
        """The next requests below `path` get these, in order, before the handlers are asked again."""
        self._next.append((path, deque(answers)))

    def always(self, path: str, answer: Answer) -> None:
        self.serve(path, lambda _seen: answer)

    def asked(self, path: str) -> list[Seen]:
        """The requests below `path`, in the order they came."""
        return [seen for seen in self.seen if seen.path.startswith(path)]

    def answer(self, seen: Seen) -> Answer:
        self.seen.append(seen)
        for path, answers in self._next:
            if seen.path.startswith(path) and answers:
                return answers.popleft()
        for path, handler in self._handlers:
            if seen.path.startswith(path):
                return handler(seen)
        return Answer(b"nothing here", status=404)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet: two would wait 40 ms for an acknowledgement
    vendor: Vendor

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        split = urlsplit(self.path)
        answer = self.vendor.answer(Seen(self.command, unquote(split.path), dict(parse_qsl(split.query))))
        if answer.is_slow:
            self.vendor.closing.wait(SLOW_S)
        if answer.is_slow or answer.is_cut:
            self.close_connection = True
            return
        is_raw = isinstance(answer.body, bytes)
        body = answer.body if is_raw else json.dumps(answer.body).encode()
        self.send_response(answer.status)
        kind = "text/plain" if is_raw else "application/json"
        for name, value in {"Content-Type": kind, **answer.headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815 - the name is the base class's

    def log_message(self, *_: object) -> None:
        """Silence: `Vendor.seen` is the log."""


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Silence: a client that was killed, or gave up waiting, is what many tests are about."""


@contextmanager
def open_vendor() -> Iterator[Vendor]:
    """A vendor that listens on 127.0.0.1 until the block is left."""
    server = _Server(("127.0.0.1", 0), _Handler, bind_and_activate=True)
    vendor = Vendor(f"http://127.0.0.1:{server.server_address[1]}")
    server.RequestHandlerClass = type("Handler", (_Handler,), {"vendor": vendor})
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield vendor
    finally:
        vendor.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


def nobody_listens() -> str:
    """The URL of a port that refuses connections."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"
