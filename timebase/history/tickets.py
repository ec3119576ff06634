"""durable batches -> [tickets] -> whoever waits for them.

A demand goes up with a ticket; the ticket completes when the demand's last batch cannot be lost any more.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import trio

from timebase.errors import StoreUnavailable
from timebase.model.bars import Durable, Outcome
from timebase.model.live import DurableLive
from timebase.model.timerange import Ranges

_TOLD = (Outcome.COMPLETE, Outcome.EMPTY, Outcome.REFUSED)


class Ticket:
    """One demand's way down the road, as its asker sees it.

    `told`: the ranges about which the provider has said everything.
    """

    def __init__(self, demand_id: int, patience: trio.CancelScope, patience_s: float) -> None:
        self.demand_id = demand_id
        self.new = 0
        self.revised = 0
        self.warnings: tuple[str, ...] = ()
        self.told = Ranges()
        self.has_begun = False
        self._patience = patience
        self._patience_s = patience_s
        self._error = ""
        self._done = trio.Event()

    def heard(self) -> None:
        """The provider has been asked, or has said something: from now on it is its turn."""
        self.has_begun = True
        self._patience.deadline = trio.current_time() + self._patience_s

    def held(self) -> None:
        """What it said waits for its way down the road: it may wait in peace."""
        self._patience.deadline = math.inf

    def note(self, durable: Durable) -> None:
        """One more of the demand's batches is durable."""
        batch = durable.batch
        self.new += durable.new
        self.revised += durable.revised
        self.warnings += tuple(w for w in batch.warnings if w not in self.warnings)
        if batch.outcome in _TOLD and not durable.error:
            self.told |= Ranges((batch.covers,))
        self._error = self._error or durable.error
        if batch.is_last or durable.error:
            self._done.set()

    async def wait(self) -> None:
        """Raises: StoreUnavailable when a batch could be neither stored nor spooled."""
        await self._done.wait()
        if self._error:
            raise StoreUnavailable(self._error)


class Tickets:
    """The tickets that are out."""

    def __init__(self) -> None:
        self._ids = count(1)
        self._open: dict[int, Ticket] = {}

    @contextmanager
    def issue(self, patience: trio.CancelScope, patience_s: float) -> Iterator[Ticket]:
        """A ticket that is out until the block ends; `patience` ends `patience_s` after its provider's last word."""
        ticket = Ticket(next(self._ids), patience, patience_s)
        self._open[ticket.demand_id] = ticket
        try:
            yield ticket
        finally:
            del self._open[ticket.demand_id]

    def note(self, durable: Durable) -> None:
        ticket = self._open.get(durable.batch.demand_id)
        if ticket is not None:
            ticket.note(durable)


async def run_tickets(
    inbox: trio.MemoryReceiveChannel[Durable | DurableLive],
    tickets: Tickets,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    async with inbox:
        task_status.started()
        async for durable in inbox:
            if isinstance(durable, Durable):  # nobody holds a ticket for what comes live
                tickets.note(durable)
