"""What a plugin's process writes to stdout and stderr -> lines of our log: bounded, and without its secrets."""

import logging

import trio

from timebase.supervisor.masking import Masking

MAX_HELD = 64 * 1024  # bytes without a line end that are held back; masking needs the whole line
LINES_PER_S = 100  # more are counted, not logged: a plugin must not fill the disk
FLOOD_PAUSE_S = 0.05  # between two reads of a pipe (64 KiB) that brings more: some 1 MB/s, which costs us nothing


class LineCutter:
    """Bytes as they come -> whole lines; empty ones are left out."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, chunk: bytes) -> list[bytes]:
        *lines, self._held = (self._held + chunk).split(b"\n")
        if len(self._held) > MAX_HELD:
            lines.append(self._held)
            self._held = b""
        return [line for line in lines if line.strip()]

    def rest(self) -> list[bytes]:
        return self.feed(b"\n")


class Output:
    """One process's lines on their way to the log."""

    def __init__(self, logger: logging.Logger, mask: Masking) -> None:
        self._logger = logger
        self._mask = mask
        self._second = 0
        self._count = 0
        self._last = b""

    @property
    def last(self) -> str:
        """The last line on stderr: often why the process died."""
        return self._text(self._last)

    async def follow(self, stream: trio.abc.ReceiveStream, level: int) -> None:
        """Until the process closes the stream. It is read however much comes, but a flood is not read fast: it must not
        cost the other providers our time.
        """
        cutter = LineCutter()
        async with stream:
            async for chunk in stream:
                self._note(cutter.feed(bytes(chunk)), level)
                if self._count > LINES_PER_S:
                    await trio.sleep(FLOOD_PAUSE_S)
        self._note(cutter.rest(), level)

    def log(self, level: str, message: str) -> None:
        """A message that the plugin sent over the link."""
        number = logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
        cutter = LineCutter()
        self._note(cutter.feed(message.encode("utf-8", "replace")) + cutter.rest(), number)

    def _note(self, lines: list[bytes], level: int) -> None:
        self._begin_second()
        if lines and level == logging.WARNING:
            self._last = lines[-1]
        for line in lines[: max(0, LINES_PER_S - self._count)]:
            self._logger.log(level, "%s", self._text(line))
        self._count += len(lines)

    def _begin_second(self) -> None:
        second = int(trio.current_time())
        if second == self._second:
            return
        if self._count > LINES_PER_S:
            self._logger.warning("%d more lines in one second are not shown", self._count - LINES_PER_S)
        self._second, self._count = second, 0

    def _text(self, line: bytes) -> str:
        return self._mask(line.decode("utf-8", "replace").rstrip())
