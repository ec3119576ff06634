"""What a batch brings goes to the sockets in the hub's own turn: waking a task for each follower costs more."""

from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from timebase.streaming.event import Event

if TYPE_CHECKING:
    from timebase.streaming.follower import Follower


class Outlet(Protocol):
    """Where a follower's events go, as long as it takes them at once; else they wait for who awaits `Follower.next`."""

    @property
    def is_free(self) -> bool:
        """Whether all that was sent has gone out, so that more would go out now."""
        ...

    def send(self, events: list[Event]) -> None:
        """Only while `is_free`. Raises: nothing."""
        ...


class Round:
    """Who is given something while it is open; each is served once, when the whole batch is there."""

    def __init__(self) -> None:
        self.is_open = False
        self._given: dict[Follower, None] = {}

    def add(self, follower: "Follower") -> None:
        self._given[follower] = None

    def __enter__(self) -> None:
        self.is_open = True

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None) -> None:
        self.is_open = False
        given, self._given = self._given, {}
        for follower in given:
            follower.serve()
