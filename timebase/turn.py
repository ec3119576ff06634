"""How a stage tells the one before it that it waits for work."""

from collections.abc import Iterator
from contextlib import contextmanager

import trio


class Turn:
    """What comes while the next stage is busy is made into one piece of work when it is free: less work, and newer."""

    def __init__(self) -> None:
        self._free = trio.Event()

    @contextmanager
    def free(self) -> Iterator[None]:
        """The next stage waits for work while the block runs."""
        self._free.set()
        try:
            yield
        finally:
            self._free = trio.Event()

    async def come(self) -> None:
        """Wait until the next stage is free."""
        await self._free.wait()
