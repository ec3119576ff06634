"""gaps of one series -> [fetcher] -> a demand of its provider per gap -> the road -> durable.

Raises what the provider answered (ProviderError), or StoreUnavailable when it could not be kept.
"""

from contextlib import ExitStack
from dataclasses import dataclass, replace

import trio

from timebase.clock import now_us
from timebase.errors import ProviderError, StoreUnavailable, Unavailable, UpstreamTimeout
from timebase.history.cover import Gaps, Head, align, find_gaps
from timebase.history.flights import Catch, Flight, Flights
from timebase.history.tickets import Ticket, Tickets
from timebase.model.demand import Demand, Question
from timebase.model.instrument import Instrument
from timebase.model.series import Series
from timebase.model.timerange import SECOND_US, Ranges
from timebase.router.rank import Candidate
from timebase.router.router import Router
from timebase.storage.store import Store
from timebase.supervisor.roster import Roster


@dataclass(frozen=True, slots=True)
class Fetched:
    """How fetching from one provider ended."""

    catch: Catch
    error: ProviderError | None = None


class Fetcher:
    """Knows what a series lacks and gets it. `nursery` outlives every question."""

    def __init__(
        self,
        *,
        store: Store,
        router: Router,
        roster: Roster,
        tickets: Tickets,
        nursery: trio.Nursery,
        refresh_s: float,
        patience_s: float,
    ) -> None:
        self._store = store
        self._router = router
        self._roster = roster
        self._tickets = tickets
        self._flights = Flights(nursery)
        self._refresh_us = int(refresh_s * SECOND_US)
        self._patience_s = patience_s
        self._heads: dict[int, Head] = {}

    def head(self, series: Series) -> Head | None:
        """The newest part of the series as it was last asked for; None: not since the server started."""
        return self._heads.get(series.id)

    def fresh_until_us(self, series: Series) -> int:
        """When the newest part of the series is to be asked for again."""
        head = self._heads.get(series.id)
        return head.asked_us + self._refresh_us if head else now_us()

    async def gaps(self, question: Question, series: Series) -> Gaps:
        """What the series lacks for the question."""
        settled = (await self._store.coverage(series.id)).settled
        head = self._heads.get(series.id)
        return find_gaps(
            question.range, settled, series.interval, now_us=now_us(), head=head, refresh_us=self._refresh_us
        )

    async def fetch(self, candidate: Candidate, question: Question, series: Series, instrument: Instrument) -> Fetched:
        """Make the candidate's series answer the question, sharing a fetch that is under way for it.

        Raises: StoreUnavailable. A provider's error is returned, with the attempts that led to it.
        """
        while True:
            wanted = await self._wanted(candidate, question, series)
            if not wanted:
                return Fetched(Catch())

            async def bring(flight: Flight) -> None:
                await self._bring(candidate, series, instrument, question, flight)

            flight = self._flights.join(series.id, wanted, bring)
            await flight.landed.wait()
            if not wanted - flight.ranges:
                if flight.error is not None and not isinstance(flight.error, ProviderError):
                    raise StoreUnavailable(str(flight.error)) from flight.error
                return Fetched(flight.catch, flight.error)

    async def _wanted(self, candidate: Candidate, question: Question, series: Series) -> Ranges:
        """What the series lacks of what the provider still keeps; all of that when the question is a refresh."""
        kept = align(candidate.reach, series.interval, now_us())
        if kept is None:
            return Ranges()
        if question.refresh:
            return Ranges((kept,))
        return (await self.gaps(question, series)).ranges & Ranges((kept,))

    async def _bring(
        self, candidate: Candidate, series: Series, instrument: Instrument, question: Question, flight: Flight
    ) -> None:
        reason = "refresh" if question.refresh else "history"
        for gap in flight.ranges.parts:
            await self._bring_one(candidate, Demand(0, series, instrument, gap, reason), flight.catch)
        settled = (await self._store.coverage(series.id)).settled
        self._heads[series.id] = Head(settled.parts[-1].end_us if settled else 0, now_us())

    async def _bring_one(self, candidate: Candidate, demand: Demand, catch: Catch) -> None:
        with ExitStack() as tickets:
            last: list[Ticket] = []

            async def ask(part: Demand) -> None:
                last[:] = [await self._ask(candidate.slug, part, tickets)]

            await self._router.fetch(candidate, demand, ask, catch.attempts)
            for ticket in last:
                await ticket.wait()
                catch.add(Catch(new=ticket.new, revised=ticket.revised, warnings=list(ticket.warnings)))

    async def _ask(self, slug: str, demand: Demand, tickets: ExitStack) -> Ticket:
        """One try at one provider, which may be silent for `patience_s` at a time."""
        handle = self._roster.get(slug)
        if handle is None:
            raise Unavailable(f"{slug} was removed")
        with trio.CancelScope() as patience:
            ticket = tickets.enter_context(self._tickets.issue(patience, self._patience_s))
            await handle.history(replace(demand, id=ticket.demand_id), began=ticket.begin)
        if patience.cancelled_caught:
            raise UpstreamTimeout(f"silent for {self._patience_s:g} s")
        return ticket
