"""wanted channels -> [allotment] -> lines: each channel has the best supply that the router can name.

A channel that names no provider goes to the next one when its own fails, and stays there until that one falls.
"""

import logging
from collections.abc import Callable, Mapping

from timebase.errors import StoreUnavailable
from timebase.live.failures import FailureBook
from timebase.live.gaps import Gaps
from timebase.live.line import Line
from timebase.live.lines import Lines
from timebase.live.neighbours import Planner, Roster, Store, Topics
from timebase.live.supply import Supply, choose
from timebase.live.wants import Wants
from timebase.model.feed import Channel
from timebase.model.instrument import Instrument, listed_or_guessed
from timebase.router.router import Plan

log = logging.getLogger(__name__)

NO_PROVIDER = "no_provider"  # the code of a channel that nobody can supply


class Allotment:
    """Every wanted channel has a line if anybody can supply it, and every line a channel."""

    def __init__(
        self,
        *,
        wants: Wants,
        router: Planner,
        roster: Roster,
        store: Store,
        hub: Topics,
        lines: Lines,
        failures: FailureBook,
        gaps: Gaps,
    ) -> None:
        self._wants = wants
        self._router = router
        self._roster = roster
        self._store = store
        self._hub = hub
        self._lines = lines
        self._failures = failures
        self._gaps = gaps
        self._unsupplied: dict[Channel, str] = {}

    def unsupplied(self) -> Mapping[Channel, str]:
        """The wanted channels that nobody can supply, and why."""
        return self._unsupplied

    async def agree(self, begin: Callable[[Line], None]) -> None:
        """What is wanted and what is had are made to agree. `begin` a line that is new."""
        wanted = self._wants.all()
        for channel in [each for each in (*self._lines.channels(), *self._unsupplied) if each not in wanted]:
            self._let_go(channel)
        for channel in sorted(wanted, key=str):
            if not self._is_well_supplied(channel):
                self._supply(channel, await self._instrument(channel.symbol), begin)
        self._failures.forget_old(self._lines.supplies())

    def _is_well_supplied(self, channel: Channel) -> bool:
        """One that its channels had better leave is looked at each time."""
        line = self._lines.of_channel(channel)
        if line is None or line.scope.cancel_called:
            return False
        return line.is_made or not self._failures.gives_way(line.supply)

    def _supply(self, channel: Channel, instrument: Instrument, begin: Callable[[Line], None]) -> None:
        plan = self._router.plan_stream(channel, instrument)
        supply = choose(channel, plan, self._failures.avoided_s)
        if supply is None:
            self._leave_unsupplied(channel, plan)
            return
        self._unsupplied.pop(channel, None)
        line = self._lines.of_channel(channel)
        if line is not None and line.supply == supply:
            return
        if line is not None:
            log.info("%s goes from %s to %s: %s", channel, line.supply.provider, supply.provider, line.reason)
            self._detach(channel)
        self._attach(channel, supply, instrument, begin)

    def _attach(self, channel: Channel, supply: Supply, instrument: Instrument, begin: Callable[[Line], None]) -> None:
        line = self._lines.of_supply(supply)
        if line is None or line.scope.cancel_called:
            line = self._lines.new(supply, instrument)
            begin(line)
        self._lines.attach(channel, line)
        self._gaps.came(line, channel)

    def _leave_unsupplied(self, channel: Channel, plan: Plan) -> None:
        reasons = "; ".join(f"{refused.slug}: {refused.reason}" for refused in plan.refused)
        why = f"no provider streams it ({reasons or 'there is none'})"
        self._detach(channel)
        self._unsupplied[channel] = why
        self._hub.refuse(channel, NO_PROVIDER, f"{channel}: {why}")  # told once, also to who has just come

    def _let_go(self, channel: Channel) -> None:
        """Nobody wants it any more."""
        self._unsupplied.pop(channel, None)
        self._detach(channel)

    def _detach(self, channel: Channel) -> None:
        line = self._lines.of_channel(channel)
        if line is not None:
            self._gaps.left(line, channel)
            self._lines.detach(channel)

    async def _instrument(self, symbol: str) -> Instrument:
        """Planning does not wait for a database that is away."""
        try:
            known = await self._store.instrument(symbol)
        except StoreUnavailable:
            known = None
        return known or listed_or_guessed(symbol, self._roster.symbols())
