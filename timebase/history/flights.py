"""Single flight: whoever asks for a series while it is being fetched waits for that fetch and shares its outcome.

A flight runs in the server's nursery, not in its first asker's task: an asker that gives up does not take the others'
answer with it, and what was fetched for nobody is still stored.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import trio

from timebase.errors import TimeBaseError, Unavailable
from timebase.history.cover import FAR_US
from timebase.model.receipt import Attempt
from timebase.model.timerange import Ranges, TimeRange


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
    """One fetch under way: which ranges it brings, what it brought, and how it ended.

    `is_live`: its ranges reach to the present of the moment when it started.
    """

    def __init__(self, ranges: Ranges, *, is_live: bool = False) -> None:
        self.ranges = ranges
        self.is_live = is_live
        self.catch = Catch()
        self.error: TimeBaseError | None = None
        self.landed = trio.Event()

    def leaves(self, wanted: Ranges) -> Ranges:
        """What of `wanted` it does not bring. Who asked a moment after it started asks for no more than it brings."""
        left = wanted - self.ranges
        return left - Ranges((TimeRange(self.ranges.parts[-1].end_us, FAR_US),)) if self.is_live else left


class Flights:
    """The fetches under way, one at most per series."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._by_series: dict[int, Flight] = {}

    def join(
        self, series_id: int, ranges: Ranges, fetch: Callable[[Flight], Awaitable[None]], *, is_live: bool = False
    ) -> Flight:
        """The flight under way for the series, whatever it brings; a new one for `ranges` when there is none."""
        flight = self._by_series.get(series_id)
        if flight is None:
            flight = self._by_series[series_id] = Flight(ranges, is_live=is_live)
            self._nursery.start_soon(self._fly, series_id, flight, fetch)
        return flight

    async def _fly(self, series_id: int, flight: Flight, fetch: Callable[[Flight], Awaitable[None]]) -> None:
        try:
            await fetch(flight)
        except TimeBaseError as exc:
            flight.error = exc
        except trio.Cancelled:
            flight.error = Unavailable("the server is stopping")
            raise
        finally:
            del self._by_series[series_id]
            flight.landed.set()
