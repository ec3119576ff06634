"""backlog -> [carrier] -> the link, at the core's pace: whatever gathers while there is no credit leaves as one."""

from collections.abc import Awaitable, Callable, Iterable, Sequence

import anyio

from timebase.model.feed import FeedKind
from timebase.sdk.backlog import Backlog
from timebase.sdk.threads import Soon
from timebase.wire.columns import Column

PULSE_S = 0.1
"""Between two pulses where nothing else leaves: a watermark need not be finer, and a thousand feeds may pulse."""

Send = Callable[[bytes], Awaitable[None]]


class Carrier:
    """Puts may come from any thread; everything else is the event loop's."""

    def __init__(self, send: Send, credit: int, batch_rows: int, soon: Soon) -> None:
        self._send = send
        self._credit = anyio.Semaphore(credit)
        self._backlog = Backlog(batch_rows)
        self._soon = soon
        self._work = anyio.Event()
        self._room = anyio.Event()
        self._is_idle = False
        self._pulse_at = 0.0

    @property
    def strays(self) -> int:
        return self._backlog.strays

    async def run(self) -> None:
        """Carry until cancelled."""
        while True:
            if self._backlog.has_rows:
                await self._credit.acquire()
                await self._carry_rows()
            elif self._backlog.has_word or (self._backlog.has_pulse and anyio.current_time() >= self._pulse_at):
                await self._carry_words()
            else:
                await self._wait_for_work()

    def grant(self, n: int) -> None:
        for _ in range(n):
            self._credit.release()

    def want(self, feeds: Iterable[int]) -> None:
        self._backlog.want(feeds)

    def drop(self, feed: int) -> None:
        """See Backlog."""
        self._backlog.drop(feed)
        self._tell_room()

    async def room(self) -> None:
        """Returns when there is room again."""
        while self._backlog.is_full:
            await self._room.wait()

    # --- from any thread ---

    def put_row(self, kind: FeedKind, feed: int, row: Sequence[float]) -> bool:
        """See Backlog."""
        is_in = self._backlog.put_row(kind, feed, row)
        self._wake()
        return is_in

    def put_columns(self, kind: FeedKind, feed: int, columns: Sequence[Column], first: int) -> int:
        """See Backlog."""
        end = self._backlog.put_columns(kind, feed, columns, first)
        self._wake()
        return end

    def put_pulse(self, feeds: Sequence[int], time_us: int) -> None:
        """See Backlog."""
        self._backlog.put_pulse(feeds, time_us)
        self._wake()

    def put_word(self, word: bytes) -> bool:
        """See Backlog."""
        is_in = self._backlog.put_word(word)
        self._wake()
        return is_in

    def put_last_words(self, words: Sequence[bytes]) -> None:
        """See Backlog."""
        self._backlog.put_last_words(words)
        self._wake()

    def _wake(self) -> None:
        if self._is_idle:
            self._is_idle = False
            self._soon(lambda: self._work.set())

    # --- in the loop ---

    async def _carry_rows(self) -> None:
        if anyio.current_time() >= self._pulse_at:
            self._backlog.close_pulses()
        message = self._backlog.take_rows()
        self._tell_room()
        if message is None:
            self._credit.release()
        else:
            await self._send(message)

    async def _carry_words(self) -> None:
        self._pulse_at = anyio.current_time() + PULSE_S
        words = self._backlog.take_words()
        self._tell_room()
        for word in words:
            await self._send(word)

    def _tell_room(self) -> None:
        self._room.set()
        self._room = anyio.Event()

    async def _wait_for_work(self) -> None:
        self._work = anyio.Event()
        self._is_idle = True  # from here on a put wakes us; what was put just before is seen now
        if self._backlog.has_rows or self._backlog.has_word:
            self._is_idle = False
            return
        wait_s = self._pulse_at - anyio.current_time() if self._backlog.has_pulse else None
        with anyio.move_on_after(wait_s):
            await self._work.wait()
        self._is_idle = False
