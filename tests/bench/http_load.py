"""A lean HTTP/1.1 load generator: N connections, each asking again as soon as it is answered.

Run: python http_load.py PORT CONNECTIONS SECONDS PATH …   prints requests, errors, seconds, bytes, percentiles as JSON
Every connection takes the paths in turn. Only answers with Content-Length are understood: both servers send no other.
"""

import asyncio
import json
import sys
import time

import uvloop


class Asker(asyncio.Protocol):
    """One connection."""

    def __init__(self, paths: list[str], first: int, until: float, seen: "Seen") -> None:
        self.requests = [f"GET {p} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode() for p in paths]
        self.turn = first
        self.until = until
        self.seen = seen
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.ask()

    def ask(self) -> None:
        now = time.perf_counter()
        if now >= self.until:
            self.transport.close()
            return
        self.head, self.left, self.began = b"", -1, now
        self.transport.write(self.requests[self.turn % len(self.requests)])
        self.turn += 1

    def data_received(self, data: bytes) -> None:
        self.seen.bytes += len(data)
        if self.left < 0:
            self.head += data
            head, found, body = self.head.partition(b"\r\n\r\n")
            if not found:
                return
            self.seen.errors += not head.startswith(b"HTTP/1.1 200")
            lower = head.lower()
            at = lower.index(b"content-length:") + 15
            self.left = int(lower[at : (lower + b"\r\n").index(b"\r\n", at)]) - len(body)
        else:
            self.left -= len(data)
        if self.left == 0:
            self.seen.times.append(time.perf_counter() - self.began)
            self.ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if time.perf_counter() < self.until:
            self.seen.errors += 1
        if not self.done.done():
            self.done.set_result(None)


class Seen:
    def __init__(self) -> None:
        self.times: list[float] = []
        self.errors = 0
        self.bytes = 0


async def main() -> None:
    port, connections, seconds, *paths = sys.argv[1:]
    seen = Seen()
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    askers = []
    for number in range(int(connections)):
        _, asker = await loop.create_connection(
            lambda n=number: Asker(paths, n, began + float(seconds), seen), "127.0.0.1", int(port)
        )
        askers.append(asker.done)
    await asyncio.wait(askers, timeout=float(seconds) + 60)
    spent = time.perf_counter() - began
    times = sorted(seen.times) or [0.0]
    print(
        json.dumps(
            {
                "requests": len(seen.times),
                "errors": seen.errors,
                "seconds": spent,
                "bytes": seen.bytes,
                "p50_ms": times[len(times) // 2] * 1000,
                "p99_ms": times[len(times) * 99 // 100] * 1000,
            }
        )
    )


if __name__ == "__main__":
    uvloop.run(main())
