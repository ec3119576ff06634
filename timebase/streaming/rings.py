"""What is kept for those who come back, of all channels together: with a hundred busy ones a few minutes."""

from collections import deque

from timebase.streaming.event import Event
from timebase.streaming.topic import Topic

RING_BYTES = 64 << 20
EVENT_BYTES = 1_024  # an event of one row: six small arrays
ROW_BYTES = 40


class Rings:
    """The numbered events of all topics in the order in which they came; the oldest go when there are too many."""

    def __init__(self, limit: int = RING_BYTES) -> None:
        self._limit = limit
        self._kept: deque[tuple[Topic, Event]] = deque()
        self.nbytes = 0

    def remember(self, topic: Topic, event: Event) -> None:
        bare = event.bare()
        topic.ring.append(bare)
        self._kept.append((topic, bare))
        self.nbytes += _size(bare)
        while self.nbytes > self._limit:
            of, oldest = self._kept.popleft()
            self.nbytes -= _size(oldest)
            of.forget(oldest)


def _size(event: Event) -> int:
    return EVENT_BYTES + ROW_BYTES * len(event)
