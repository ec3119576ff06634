"""A lean WebSocket load generator: N clients that count events and note how old they are when they arrive.

Run: python ws_load.py PORT PATH CLIENTS SECONDS [MESSAGE …]   prints one line of JSON
Each client sends its MESSAGE (they take the messages in turn) and reads frames of JSON, one event or an array of them.
An event's age is the wall clock less its `time` in ms; of each frame only the last event's is noted.
It counts from WARM_UP_S after every client has been told something.
Words before the first message: `stalled=1` lets the first client stop reading after its subscription; `closed=MS` notes
closed minute bars only, and their age from the end of their minute and MS more, when the watermark passes it.
"""

import asyncio
import base64
import json
import os
import re
import sys
import time

import uvloop

KINDS = (b'"type":"trade"', b'"type":"bar"', b'"type":"quote"')
DROPPED = b'"type":"dropped"'
TIME = re.compile(rb'"time":([0-9.]+)')
CLOSED = re.compile(rb'"status":"closed","time":([0-9.]+)')
MINUTE_MS = 60_000.0
WARM_UP_S = 1.0
PATIENCE_S = 60.0
POLL_S = 0.05


class Seen:
    """What all clients together have seen. `lateness_ms` not None: of closed bars only."""

    def __init__(self, lateness_ms: float | None) -> None:
        self.lateness_ms = lateness_ms
        self.events = 0
        self.frames = 0
        self.drops = 0
        self.lost = 0
        self.silent = 0  # clients that were told nothing yet
        self.ages_ms: list[float] = []
        self.counts_from = float("inf")


class Client(asyncio.Protocol):
    """One WebSocket client, as little as one can be: server frames are not masked and are not fragmented by us."""

    def __init__(self, port: int, path: str, message: str, seen: Seen, *, is_stalled: bool = False) -> None:
        self.head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        key = base64.b64encode(os.urandom(16)).decode()
        self.head += f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        self.message = message
        self.seen = seen
        self.buffer = bytearray()
        self.is_open = False
        self.is_stalled = is_stalled
        self.is_closing = False
        self.is_told = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        transport.write(self.head.encode())

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not self.is_open:
            head, found, rest = bytes(self.buffer).partition(b"\r\n\r\n")
            if not found:
                return
            if b" 101 " not in head.split(b"\r\n", 1)[0]:
                raise SystemExit(f"no WebSocket: {head!r}")
            self.is_open = True
            self.buffer = bytearray(rest)
            if self.message:
                self.send(1, self.message.encode())
            if self.is_stalled:
                self.transport.pause_reading()
                return
        while self.take_frame():
            pass

    def take_frame(self) -> bool:
        size, start = self._size()
        if size < 0 or len(self.buffer) < start + size:
            return False
        opcode, body = self.buffer[0] & 0x0F, bytes(self.buffer[start : start + size])
        del self.buffer[: start + size]
        if opcode == 9:
            self.send(10, body)
        elif opcode == 1:
            if not self.is_told:
                self.is_told = True
                self.seen.silent -= 1
            self.note(body)
        return True

    def _size(self) -> tuple[int, int]:
        buffer = self.buffer
        if len(buffer) < 2:
            return -1, 0
        size = buffer[1] & 0x7F
        if size < 126:
            return size, 2
        width = 2 if size == 126 else 8
        if len(buffer) < 2 + width:
            return -1, 0
        return int.from_bytes(buffer[2 : 2 + width], "big"), 2 + width

    def note(self, body: bytes) -> None:
        now = time.time()
        if now < self.seen.counts_from:
            return
        self.seen.frames += 1
        self.seen.events += sum(body.count(kind) for kind in KINDS)
        self.seen.drops += body.count(DROPPED)
        if self.seen.lateness_ms is not None:
            ripe_after_ms = MINUTE_MS + self.seen.lateness_ms
            self.seen.ages_ms += [now * 1e3 - float(time) - ripe_after_ms for time in CLOSED.findall(body)]
        elif found := TIME.findall(body):
            self.seen.ages_ms.append(now * 1e3 - float(found[-1]))

    def send(self, opcode: int, body: bytes) -> None:
        size = len(body)
        length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
        self.transport.write(bytes([0x80 | opcode]) + length + b"\0\0\0\0" + body)  # masked by nothing

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.is_closing and not self.is_stalled:
            self.seen.lost += 1


async def main() -> None:
    port, path, clients, seconds, *words = sys.argv[1:]
    messages = [word for word in words if word.startswith("{")] or [""]
    options = dict(word.split("=") for word in words if not word.startswith("{"))
    lateness_ms = float(options["closed"]) if "closed" in options else None
    seen, loop, living = Seen(lateness_ms), asyncio.get_running_loop(), []
    stalled = int("stalled" in options)
    seen.silent = int(clients) - stalled
    for number in range(int(clients)):
        message = messages[number % len(messages)]
        made = Client(int(port), path, message, seen, is_stalled=number < stalled)
        await loop.create_connection(lambda c=made: c, "127.0.0.1", int(port))
        living.append(made)
    for _ in range(int(PATIENCE_S / POLL_S)):
        if not seen.silent:
            break
        await asyncio.sleep(POLL_S)
    else:
        raise SystemExit(f"{seen.silent} clients are told nothing")
    await asyncio.sleep(WARM_UP_S)
    seen.counts_from = time.time()
    await asyncio.sleep(float(seconds))
    spent = time.time() - seen.counts_from
    events, frames, drops = seen.events, seen.frames, seen.drops
    ages = sorted(seen.ages_ms) or [0.0]
    for each in living:
        each.is_closing = True
        each.transport.abort()
    report = {"events": events, "frames": frames, "drops": drops, "lost": seen.lost, "seconds": spent}
    report |= {f"p{q}_ms": ages[min(len(ages) - 1, len(ages) * q // 100)] for q in (50, 99)}
    print(json.dumps(report))


if __name__ == "__main__":
    uvloop.run(main())
