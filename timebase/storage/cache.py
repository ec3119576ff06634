"""A cache that is bounded by bytes, for columns and for rendered answers."""

from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class ByteLru(Generic[K, V]):
    """Keeps what was used last, up to `max_bytes`. Keys that go stale must carry what makes them so (a generation)."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self.hits = 0
        self.misses = 0
        self._held: OrderedDict[K, tuple[V, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: K) -> V | None:
        held = self._held.get(key)
        if held is None:
            self.misses += 1
            return None
        self.hits += 1
        self._held.move_to_end(key)
        return held[0]

    def put(self, key: K, value: V, nbytes: int) -> None:
        """Hold `value`, which takes `nbytes`. What is larger than the whole cache is not held."""
        self.drop(key)
        if nbytes > self.max_bytes:
            return
        self._held[key] = (value, nbytes)
        self.bytes += nbytes
        while self.bytes > self.max_bytes:
            _, (_, freed) = self._held.popitem(last=False)
            self.bytes -= freed

    def drop(self, key: K) -> None:
        held = self._held.pop(key, None)
        if held is not None:
            self.bytes -= held[1]
