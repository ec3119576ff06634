"""Single flight: whoever asks for a series while it is being fetched waits for that fetch and shares its outcome.

A flight runs in the server's nursery, not in its first asker's task: an asker that gives up does not take the others'
answer with it, and what was fetched for nobody is still stored.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import trio

from timebase.errors import TimeBaseError
from timebase.model.receipt import Attempt
from timebase.model.timerange import Ranges


@dataclass(slots=True)
class Catch:
    """What fetching brought."""

    attempts: list[Attempt] = field(default_factory=list)
    new: int = 0
    revised: int = 0
    warnings: list[str] = field(default_factory=list)

    def add(self, other: "Catch") -> None:
        self.attempts += other.attempts
        self.new += other.new
        self.revised += other.revised
        self.warnings += [w for w in other.warnings if w not in self.warnings]


class Flight:
    """One fetch under way: which ranges it brings, what it brought, and how it ended."""

    def __init__(self, ranges: Ranges) -> None:
        self.ranges = ranges
        self.catch = Catch()
        self.error: TimeBaseError | None = None
        self.landed = trio.Event()


class Flights:
    """The fetches under way, one at most per series."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._by_series: dict[int, Flight] = {}

    def join(self, series_id: int, ranges: Ranges, fetch: Callable[[Flight], Awaitable[None]]) -> Flight:
        """The flight under way for the series, whatever it brings; a new one for `ranges` when there is none."""
        flight = self._by_series.get(series_id)
        if flight is None:
            flight = self._by_series[series_id] = Flight(ranges)
            self._nursery.start_soon(self._fly, series_id, flight, fetch)
        return flight

    async def _fly(self, series_id: int, flight: Flight, fetch: Callable[[Flight], Awaitable[None]]) -> None:
        try:
            await fetch(flight)
        except TimeBaseError as exc:
            flight.error = exc
        finally:
            del self._by_series[series_id]
            flight.landed.set()
