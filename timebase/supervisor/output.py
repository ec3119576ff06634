"""What a plugin's process writes to stdout and stderr -> lines of our log: bounded, and without its secrets."""

import logging
from collections.abc import Iterator

import trio

from timebase.supervisor.masking import Masking

MAX_HELD = 64 * 1024  # bytes without a line end that are held back; masking needs the whole line
LINES_PER_S = 100  # more are counted, not logged: a plugin must not fill the disk


class LineCutter:
    """Bytes as they come -> whole lines of text."""

    def __init__(self, mask: Masking) -> None:
        self._mask = mask
        self._held = b""

    def feed(self, chunk: bytes) -> Iterator[str]:
        *lines, self._held = (self._held + chunk).split(b"\n")
        if len(self._held) > MAX_HELD:
            lines.append(self._held)
            self._held = b""
        yield from filter(None, map(self._text, lines))

    def rest(self) -> Iterator[str]:
        yield from filter(None, [self._text(self._held)])
        self._held = b""

    def _text(self, line: bytes) -> str:
        return self._mask(line.decode("utf-8", "replace").rstrip())


class Output:
    """One process's lines on their way to the log. `last` is its last line on stderr: often why it died."""

    def __init__(self, logger: logging.Logger, mask: Masking) -> None:
        self._logger = logger
        self._mask = mask
        self._second = 0
        self._count = 0
        self.last = ""

    async def follow(self, stream: trio.abc.ReceiveStream, level: int) -> None:
        """Until the process closes the stream. It is read however much comes: a full pipe would stop the plugin."""
        lines = LineCutter(self._mask)
        async with stream:
            async for chunk in stream:
                for line in lines.feed(bytes(chunk)):
                    self._note(line, level)
        for line in lines.rest():
            self._note(line, level)

    def log(self, level: str, message: str) -> None:
        """A message that the plugin sent over the link."""
        number = logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
        for line in LineCutter(self._mask).feed(message.encode("utf-8", "replace") + b"\n"):
            self._note(line, number)

    def _note(self, line: str, level: int) -> None:
        if level == logging.WARNING:
            self.last = line
        second = int(trio.current_time())
        if second != self._second:
            if self._count > LINES_PER_S:
                self._logger.warning("%d more lines in one second are not shown", self._count - LINES_PER_S)
            self._second, self._count = second, 0
        self._count += 1
        if self._count <= LINES_PER_S:
            self._logger.log(level, "%s", line)
