"""What a stream has put and the core has not got yet: bounded, in order, and ready to leave in few messages.

Pure and without waiting; may be put to from several threads at once.
"""

from array import array
from collections import deque
from collections.abc import Iterable, Sequence
from threading import Lock

from timebase.model.feed import FeedKind
from timebase.wire.columns import Column
from timebase.wire.envelope import BATCH_ROWS
from timebase.wire.streams import LAYOUTS, MAX_FEEDS, Rows, pack_pulse, pack_rows

MAX_WORDS = 100
"""Words that may wait, each behind the data put before it. A vendor's connection that flaps faster than that waits."""


class _Segment:
    """Data and pulses, in any order among themselves, and the word, if any, that leaves after them all."""

    __slots__ = ("pulses", "rows", "word")

    def __init__(self) -> None:
        self.rows: dict[FeedKind, dict[int, Rows]] = {}
        self.pulses: dict[int, int] = {}  # feed -> the newest
        self.word: bytes | None = None


class Backlog:
    """Rows by feed, so that all that waits leaves as one message per kind; words and pulses between them.

    Order: what is put for a feed leaves in the order in which it was put, but for pulses, of which the newest stands
    for all that wait and leaves after the rows.
    """

    def __init__(self, limit: int = BATCH_ROWS) -> None:
        self._limit = limit
        self._lock = Lock()
        self._count = 0
        self._open = _Segment()
        self._segments = deque([self._open])
        self._wanted: frozenset[int] = frozenset()
        self.strays = 0  # rows of feeds that were not wanted

    @property
    def is_full(self) -> bool:
        return self._count >= self._limit or len(self._segments) > MAX_WORDS

    @property
    def has_rows(self) -> bool:
        """Whether rows are next to leave."""
        return bool(self._segments[0].rows)

    @property
    def has_word(self) -> bool:
        """Whether a word is next to leave, or the last pulses of a segment that is closed."""
        return not self.has_rows and self._segments[0] is not self._open

    @property
    def has_pulse(self) -> bool:
        return not self.has_rows and bool(self._segments[0].pulses)

    def want(self, feeds: Iterable[int]) -> None:
        """Whose data is let in from now on; that of others is dropped."""
        self._wanted = frozenset(feeds)

    def drop(self, feed: int) -> None:
        """Nobody wants what waits of it."""
        with self._lock:
            for segment in self._segments:
                segment.pulses.pop(feed, None)
                for kind in list(segment.rows):
                    rows = segment.rows[kind].pop(feed, None)
                    self._count -= len(rows[0]) if rows else 0
                    if not segment.rows[kind]:
                        del segment.rows[kind]

    def put_row(self, kind: FeedKind, feed: int, row: Sequence[float]) -> bool:
        """False when there is no room.

        Raises: TypeError or OverflowError when a value is no number; nothing of the row is put then.
        """
        with self._lock:
            if self.is_full:
                return False
            if feed not in self._wanted:
                self.strays += 1
                return True
            columns = self._columns(kind, feed)
            try:
                for column, value in zip(columns, row, strict=True):
                    column.append(value)
            except BaseException:
                _level(columns)
                raise
            self._count += 1
        return True

    def put_columns(self, kind: FeedKind, feed: int, columns: Sequence[Column], first: int) -> int:
        """Put rows from `first` on, as many as there is room for. Returns the first that was not put."""
        with self._lock:
            rows = len(columns[0])
            if feed not in self._wanted:
                self.strays += rows - first
                return rows
            end = min(rows, first + max(0, self._limit - self._count)) if not self.is_full else first
            if end > first:
                for column, given in zip(self._columns(kind, feed), columns, strict=True):
                    column.frombytes(given[first:end].cast("B"))
                self._count += end - first
            return end

    def put_pulse(self, feeds: Iterable[int], time_us: int) -> None:
        with self._lock:
            pulses = self._open.pulses
            for feed in feeds:
                pulses[feed] = max(time_us, pulses.get(feed, time_us))

    def put_word(self, word: bytes) -> bool:
        """`word` leaves after all that was put before it. False when there is no room."""
        with self._lock:
            if len(self._segments) > MAX_WORDS:
                return False
            self._seal(word)
        return True

    def put_last_words(self, words: Iterable[bytes]) -> None:
        """Words that find room always: each ends a subscription, so that there are no more of them than of these."""
        with self._lock:
            for word in words:
                self._seal(word)

    def close_pulses(self) -> None:
        """Pulses that wait leave after the rows that wait now, though rows come faster than they go."""
        with self._lock:
            if self._segments[0] is self._open and self._open.pulses:
                self._seal(None)

    def take_rows(self) -> bytes | None:
        """The next data message; None when there is none after all."""
        with self._lock:
            segment = self._segments[0]
            kind = next(iter(segment.rows), None)
            if kind is None:
                return None
            feeds = segment.rows[kind]
            groups = [(feed, feeds.pop(feed)) for feed in list(feeds)[:MAX_FEEDS]]
            if not feeds:
                del segment.rows[kind]
            groups = [(feed, rows) for feed, rows in groups if rows[0]]  # a faulty row leaves nothing
            self._count -= sum(len(rows[0]) for _, rows in groups)
        return pack_rows(LAYOUTS[kind], groups) if groups else None

    def take_words(self) -> list[bytes]:
        """The pulses that wait where no rows do, and the word behind them."""
        with self._lock:
            segment = self._segments[0]
            by_time: dict[int, list[int]] = {}
            for feed, time_us in segment.pulses.items():
                by_time.setdefault(time_us, []).append(feed)
            segment.pulses = {}
            words = [
                pack_pulse(feeds[first : first + MAX_FEEDS], time_us)
                for time_us, feeds in sorted(by_time.items())
                for first in range(0, len(feeds), MAX_FEEDS)
            ]
            if segment.word is not None:
                words.append(segment.word)
            if segment is not self._open:
                self._segments.popleft()
            return words

    def _columns(self, kind: FeedKind, feed: int) -> Rows:
        feeds = self._open.rows.get(kind)
        if feeds is None:
            feeds = self._open.rows[kind] = {}
        columns = feeds.get(feed)
        if columns is None:
            columns = feeds[feed] = tuple(array(kind_) for kind_ in LAYOUTS[kind].kinds)
        return columns

    def _seal(self, word: bytes | None) -> None:
        self._open.word = word
        self._open = _Segment()
        self._segments.append(self._open)


def _level(columns: Rows) -> None:
    """Take back what a row has left in the columns before its fault."""
    rows = len(columns[-1])
    for column in columns:
        del column[rows:]
