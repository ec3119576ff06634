"""gaps of one series -> [fetcher] -> a demand of its provider per gap -> the road -> durable.

Raises what the provider answered (ProviderError), or StoreUnavailable when it could not be kept.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import trio

from timebase.clock import now_us
from timebase.errors import ProviderError, StoreUnavailable, Unavailable, UpstreamTimeout
from timebase.history.cover import Head, align, find_gaps
from timebase.history.flights import Catch, Flight, Flights
from timebase.history.tickets import Ticket, Tickets
from timebase.model.alias import Aliases
from timebase.model.demand import Demand, Question
from timebase.model.instrument import Instrument
from timebase.model.series import Series
from timebase.model.timerange import SECOND_US, Ranges, TimeRange
from timebase.router.rank import Candidate
from timebase.router.router import Router
from timebase.storage.spool import Spool
from timebase.storage.store import Store
from timebase.supervisor.roster import Roster

REPLAY_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Fetched:
    """How fetching from one provider ended."""

    catch: Catch
    error: ProviderError | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a series lacked for a question at `at_us`."""

    ranges: Ranges
    at_us: int

    @property
    def is_live(self) -> bool:
        """Whether it reaches to the present of then."""
        return bool(self.ranges) and self.ranges.parts[-1].end_us >= self.at_us


class Fetcher:
    """Knows what a series lacks and gets it. `nursery` outlives every question."""

    def __init__(
        self,
        *,
        store: Store,
        spool: Spool,
        router: Router,
        roster: Roster,
        tickets: Tickets,
        aliases: Aliases,
        nursery: trio.Nursery,
        refresh_s: float,
        patience_s: float,
    ) -> None:
        self._store = store
        self._spool = spool
        self._router = router
        self._roster = roster
        self._tickets = tickets
        self._aliases = aliases
        self._flights = Flights(nursery)
        self._refresh_us = int(refresh_s * SECOND_US)
        self._patience_s = patience_s
        self._heads: dict[int, Head] = {}
        self._checked: dict[int, int] = {}

    def head(self, series: Series) -> Head | None:
        """The part of the series that was not final when it was last asked for; None: not since the server started."""
        return self._heads.get(series.id)

    def checked_us(self, series: Series) -> int | None:
        """When its provider was last asked, since the server started."""
        return self._checked.get(series.id)

    def fresh_until_us(self, series: Series) -> int:
        """When the newest part of the series is to be asked for again."""
        head = self._heads.get(series.id)
        return head.asked_us + self._refresh_us if head else now_us()

    def nameless(self, series: Series) -> Ranges:
        """When no symbol of its provider means the instrument: then there is nothing to ask for."""
        return self._aliases.nameless(series.symbol, series.provider, series.interval)

    async def settled(self, series: Series) -> Ranges:
        """What need not be asked for, or cannot."""
        return (await self._store.coverage(series.id)).settled | self.nameless(series)

    async def gaps(self, question: Question, series: Series) -> Ranges:
        """What the series lacks for the question."""
        settled = await self.settled(series)
        # Who heals a gap knows that there is something new; a question that was answered a moment ago does not hold it.
        head = self._heads.get(series.id) if question.reason == "history" else None
        return find_gaps(
            question.range, settled, series.interval, now_us=now_us(), head=head, refresh_us=self._refresh_us
        )

    async def fetch(self, candidate: Candidate, question: Question, series: Series, instrument: Instrument) -> Fetched:
        """Make the candidate's series answer the question, sharing a fetch that is under way for it.

        Raises: StoreUnavailable. A provider's error is returned, with the attempts that led to it.
        """

        async def bring(flight: Flight) -> None:
            await self._bring(candidate, series, instrument, question, flight)

        await self._replayed()
        wanted = await self._wanted(candidate, question, series)
        while wanted.ranges:
            flight = self._flights.join(series.id, wanted.ranges, bring, is_live=wanted.is_live)
            await flight.landed.wait()
            left = flight.leaves(wanted.ranges)
            if not left:
                if flight.error is not None and not isinstance(flight.error, ProviderError):
                    raise StoreUnavailable(str(flight.error)) from flight.error
                return Fetched(flight.catch, flight.error)
            if question.refresh:
                wanted = replace(wanted, ranges=left)
            else:
                wanted = await self._wanted(candidate, question, series)
        return Fetched(Catch())

    async def _replayed(self) -> None:
        """Wait for what was spooled while the database was away: the ledger does not know of it yet.

        Raises: StoreUnavailable while it is still away.
        """
        while len(self._spool):
            await self._store.ping()
            await trio.sleep(REPLAY_POLL_S)

    async def _wanted(self, candidate: Candidate, question: Question, series: Series) -> Wanted:
        """What the series lacks of what the provider still keeps; all of that when the question is a refresh."""
        at_us = now_us()
        kept = align(candidate.reach, series.interval, at_us)
        if kept is None:
            return Wanted(Ranges(), at_us)
        if question.refresh:
            return Wanted(Ranges((kept,)) - self.nameless(series), at_us)
        return Wanted((await self.gaps(question, series)) & Ranges((kept,)), at_us)

    async def _bring(
        self, candidate: Candidate, series: Series, instrument: Instrument, question: Question, flight: Flight
    ) -> None:
        reason = "refresh" if question.refresh and question.reason == "history" else question.reason
        for gap in flight.ranges.parts:
            for demand in self._demands(series, instrument, gap, reason):
                await self._bring_one(candidate, demand, flight.catch)
        asked_us = self._checked[series.id] = now_us()
        young = flight.ranges - await self.settled(series)
        if young:
            last = young.parts[-1]
            self._heads[series.id] = Head(asked_us, last.start_us, None if flight.is_live else last.end_us)

    def _demands(self, series: Series, instrument: Instrument, gap: TimeRange, reason: str) -> Iterator[Demand]:
        """A gap in which the instrument changes its name is asked for in parts, each under the name of then."""
        for name in self._aliases.names(series.symbol, series.provider, series.interval):
            part = gap.intersect(name.range)
            if part is not None:
                yield Demand(0, series, replace(instrument, symbol=name.native), part, reason, name.range)

    async def _bring_one(self, candidate: Candidate, demand: Demand, catch: Catch) -> None:
        """One gap. A retry goes on where the try before it broke off."""
        with ExitStack() as issued:
            tickets: list[Ticket] = []

            async def ask(part: Demand) -> None:
                rest = _rest(part.range, tickets)
                if rest is not None:
                    patience = trio.CancelScope()
                    tickets.append(issued.enter_context(self._tickets.issue(patience, self._patience_s)))
                    await self._ask(candidate.slug, replace(part, range=rest), tickets[-1], patience)

            try:
                await self._router.fetch(candidate, demand, ask, catch.attempts)
                for ticket in tickets[-1:]:
                    await ticket.wait()
            finally:
                for ticket in tickets:
                    catch.add(Catch(new=ticket.new, revised=ticket.revised, warnings=list(ticket.warnings)))

    async def _ask(self, slug: str, demand: Demand, ticket: Ticket, patience: trio.CancelScope) -> None:
        """One try at one provider, which may be silent for `patience_s` at a time.

        Raises: ProviderError, once what came before it is durable.
        """
        handle = self._roster.get(slug)
        if handle is None:
            raise Unavailable(f"{slug} was removed")
        error: ProviderError | None = None
        with patience:
            try:
                await handle.history(replace(demand, id=ticket.demand_id), asker=ticket)
            except ProviderError as exc:
                error = exc
        if patience.cancelled_caught:
            raise UpstreamTimeout(f"silent for {self._patience_s:g} s")
        if error is not None:
            if ticket.has_begun:
                await ticket.wait()
            raise error


def _rest(asked: TimeRange, tickets: Sequence[Ticket]) -> TimeRange | None:
    """What of `asked` the tries before have not brought, as one range."""
    rest = Ranges((asked,))
    for ticket in tickets:
        rest -= ticket.told
    return TimeRange(rest.parts[0].start_us, rest.parts[-1].end_us) if rest else None
