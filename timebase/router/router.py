"""question -> [router] -> the providers to ask, in order -> one of them asked within its budget and its circuit."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Protocol

import trio

from timebase.clock import now_us
from timebase.errors import ProviderError, RateLimited, Unavailable, Unsupported, UpstreamTimeout
from timebase.model.demand import Demand, Question
from timebase.model.feed import Channel
from timebase.model.instrument import Instrument
from timebase.model.interval import Interval
from timebase.model.receipt import Attempt
from timebase.model.timerange import SECOND_US, TimeRange
from timebase.router.breaker import Breaker
from timebase.router.budget import Budget, Ledger, Limits
from timebase.router.candidates import UP, Provider, Refusal, reach, refusal, stream_refusal
from timebase.router.explain import Plan, explain_plan
from timebase.router.rank import Candidate, Facts, rank
from timebase.router.record import Fault
from timebase.router.retry import Retries, Tried
from timebase.router.rules import first_match
from timebase.router.settings import RouterSettings
from timebase.router.standing import Standing

__all__ = ["Candidate", "Plan", "Router"]

log = logging.getLogger(__name__)

DAY_S = 86_400.0
Ask = Callable[[Demand], Awaitable[None]]


class Handle(Protocol):
    """What the router needs of a provider before it lets a question go to it."""

    async def wait_ready(self) -> None:
        """Raises: ProviderError when it will not be ready."""


class Roster(Protocol):
    """Who there is."""

    def all(self) -> Sequence[Provider]: ...

    def get(self, slug: str, /) -> Handle | None: ...


class Router:
    """Plans questions, and lets single demands go to a provider. Keeps what it learns of each."""

    def __init__(
        self,
        roster: Roster,
        ledger: Ledger,
        settings: RouterSettings | None = None,
        *,
        wall_us: Callable[[], int] = now_us,
    ) -> None:
        self._roster = roster
        self._settings = settings or RouterSettings()
        self._wall_us = wall_us
        self._ledger = ledger
        self._budget = Budget(ledger, self._settings, wall_us=wall_us)
        self._standings: dict[str, Standing] = {}

    # --- who is asked ---

    def plan(self, question: Question, instrument: Instrument) -> Plan:
        """Asks nobody and waits for nothing."""
        wall_us = self._wall_us()
        return self._plan(question, instrument, wall_us, lambda each: refusal(question, instrument, each, wall_us))

    def plan_stream(self, channel: Channel, instrument: Instrument) -> Plan:
        """Who could supply the channel live, ranked as for a question about this very moment."""
        wall_us = self._wall_us()
        moment = TimeRange(wall_us, wall_us + 1)
        question = Question(instrument.symbol, channel.interval or Interval.M1, moment, provider=channel.provider)
        return self._plan(question, instrument, wall_us, lambda each: stream_refusal(channel, instrument, each))

    def _plan(
        self, question: Question, instrument: Instrument, wall_us: int, refuse: Callable[[Provider], str]
    ) -> Plan:
        rule = first_match(self._settings.rules, instrument.symbol, instrument.asset_class, question.interval)
        facts: list[Facts] = []
        refused: list[Refusal] = []
        for provider in self._roster.all():
            why = refuse(provider)
            if why:
                refused.append(Refusal(provider.slug, why))
            else:
                facts.append(self._facts(question, provider, wall_us))
        return Plan(rank(question, facts, self._settings.weights, rule), tuple(refused), rule)

    def explain(self, question: Question, instrument: Instrument) -> dict[str, object]:
        """The plan as plain data."""
        return explain_plan(self.plan(question, instrument), question, instrument)

    def _facts(self, question: Question, provider: Provider, wall_us: int) -> Facts:
        manifest = provider.manifest
        return Facts(
            manifest=manifest,
            record=self._standing(provider.slug).record,
            left=self._budget.left(provider.slug, Limits.of(manifest)),
            reach=reach(manifest, question.interval, question.range, wall_us) or question.range,
            not_now=self._not_now(provider),
            now=trio.current_time(),
            now_us=wall_us,
        )

    def _not_now(self, provider: Provider) -> str:
        """Why asking this provider now would fail at once."""
        if provider.state not in UP:
            return ": ".join(part for part in (provider.state, provider.reason) if part)
        closed = self._standing(provider.slug).closed_for(trio.current_time())
        if closed:
            return closed
        wait_s = self._budget.wait_s(provider.slug, Limits.of(provider.manifest))
        return f"its budget is used up for {wait_s:.0f} s more" if wait_s > self._settings.max_budget_wait_s else ""

    # --- asking ---

    async def fetch(
        self, candidate: Candidate, demand: Demand, ask: Ask, attempts: list[Attempt] | None = None
    ) -> Attempt:
        """Let the demand go to the provider when its circuit and its budget allow, again where that can help.

        `ask` is called once for each try, with the part of the demand's range that the provider's history reaches; each
        try needs a demand id of its own. Each try is appended to `attempts`.
        Raises: ProviderError of the last try.
        """
        retries = Retries(self._settings, candidate.manifest.identical_window_s)
        while True:
            tried = await self._try(candidate, demand, ask)
            if attempts is not None:
                attempts.append(tried.attempt)
            if tried.error is None:
                return tried.attempt
            pause_s = retries.pause_s(tried)
            if pause_s is None:
                raise tried.error
            log.info("%s: %s; asking again in %.2f s", candidate.slug, tried.error, pause_s)
            await trio.sleep(pause_s)

    async def spend(self, slug: str, n: int) -> None:
        """Permission for n more requests to a provider than its history questions bring with them.

        Raises: RateLimited, Unavailable.
        """
        await self._budget.take(slug, Limits.of(self._provider(slug).manifest), n)

    async def _try(self, candidate: Candidate, demand: Demand, ask: Ask) -> Tried:
        slug, limits = candidate.slug, Limits.of(candidate.manifest)
        began, went_at = trio.current_time(), None
        error: ProviderError | None = None
        try:
            within = self._within_reach(candidate, demand)
            await self._wait_ready(slug)
            self._check_circuit(slug)
            async with self._budget.turn(slug, limits, key=_key(demand)):
                self._check_circuit(slug)  # it may have opened while we waited for our turn
                went_at = trio.current_time()
                await self._ask(slug, limits, within, ask)
        except ProviderError as exc:
            error = exc
        now = trio.current_time()
        outcome, reason = (error.code, str(error)) if error else ("ok", "")
        attempt = Attempt(slug, outcome, reason, round((now - began) * 1000))
        return Tried(attempt, error, None if went_at is None else now - went_at)

    def _within_reach(self, candidate: Candidate, demand: Demand) -> Demand:
        interval = demand.series.interval
        within = reach(candidate.manifest, interval, demand.range, self._wall_us())
        if within is None:
            raise Unsupported(f"the {interval} bars of {candidate.slug} do not go back to {demand.range}")
        return replace(demand, range=within)

    async def _wait_ready(self, slug: str) -> None:
        handle = self._roster.get(slug)
        if handle is None:
            raise Unavailable(f"{slug} was removed")
        with trio.move_on_after(self._settings.ready_wait_s):
            while (rest_s := self._rests_for(slug)) is not None:  # noqa: ASYNC110 - a process sets no event
                await trio.sleep(rest_s)
            await handle.wait_ready()
            return
        raise Unavailable(f"{slug} is still starting")

    def _rests_for(self, slug: str) -> float | None:
        """How long to wait for a provider that fell and is about to be started again; None when it is not."""
        provider = self._provider(slug)
        if provider.state != "backing_off" or provider.next_retry_us is None:
            return None
        rest_s = (provider.next_retry_us - self._wall_us()) / SECOND_US
        return max(rest_s, self._settings.look_again_s) if rest_s < self._settings.ready_wait_s else None

    def _check_circuit(self, slug: str) -> None:
        closed = self._standing(slug).closed_for(trio.current_time())
        if closed:
            raise Unavailable(closed)

    async def _ask(self, slug: str, limits: Limits, demand: Demand, ask: Ask) -> None:
        """One question, and what its outcome says about the provider."""
        standing = self._standing(slug)
        began = trio.current_time()
        is_probe = standing.asked(began)
        is_judged = False
        try:
            await ask(demand)
            standing.answered(trio.current_time(), trio.current_time() - began, is_probe=is_probe)
            self._budget.forgive(slug)
            is_judged = True
        except ProviderError as exc:
            self._judge(slug, limits, exc, began, is_probe=is_probe)
            is_judged = True
            raise
        except trio.Cancelled:
            if trio.current_time() - began >= self._settings.slow_s:
                gave_up = UpstreamTimeout(f"its asker gave up after {trio.current_time() - began:.0f} s")
                self._judge(slug, limits, gave_up, began, is_probe=is_probe)
                is_judged = True
            raise
        finally:
            if not is_judged:
                standing.left(is_probe=is_probe)

    def _judge(self, slug: str, limits: Limits, error: ProviderError, began: float, *, is_probe: bool) -> None:
        now = trio.current_time()
        fault = Fault(error.code, str(error), self._wall_us())
        self._standing(slug).erred(now, now - began, fault, error, is_probe=is_probe)
        if isinstance(error, RateLimited):
            pause_s = self._budget.pause(slug, limits, error.retry_after_s)
            log.warning("%s is not asked for %.1f s: %s", slug, pause_s, error)

    # --- what it knows ---

    def facts(self, slug: str) -> dict[str, object]:
        """What the router knows of one provider, as plain data. Raises: Unavailable when there is no such provider."""
        limits = Limits.of(self._provider(slug).manifest)
        now = trio.current_time()
        standing = self._standing(slug)
        breaker, record = standing.breaker, standing.record
        fault = record.last_fault
        return {
            "circuit": {"state": breaker.state(now), "retry_in_s": round(breaker.rest_s(now), 1)},
            "budget": [
                {"requests": window.requests, "window_s": window.window_s, "left": left}
                for window, left in self._budget.left(slug, limits)
            ],
            "asked": record.asked,
            "failed": record.failed,
            "reliability": round(record.reliability(now), 3),
            "response_ms": None if record.response_s is None else round(record.response_s * 1000, 1),
            "last_fault": fault and {"code": fault.code, "message": fault.message, "at": fault.at_us // 1000},
        }

    async def restore(self, slug: str) -> None:
        """Read what the provider's budget had spent before a restart; otherwise its first question does that."""
        await self._budget.restore(slug, Limits.of(self._provider(slug).manifest))

    async def prune_ledger(self) -> None:
        """Let the ledger forget what no provider's window looks back to; a day at least is kept.

        Raises: StoreUnavailable.
        """
        reach_s = max((DAY_S, *(Limits.of(provider.manifest).longest_s for provider in self._roster.all())))
        await self._ledger.prune_budget_takes(self._wall_us() - int(reach_s * SECOND_US))

    def _standing(self, slug: str) -> Standing:
        if slug not in self._standings:
            settings = self._settings
            breaker = Breaker(settings.breaker_failures, settings.breaker_open_s, settings.breaker_successes)
            self._standings[slug] = Standing(slug, breaker)
        return self._standings[slug]

    def _provider(self, slug: str) -> Provider:
        for provider in self._roster.all():
            if provider.slug == slug:
                return provider
        raise Unavailable(f"{slug} was removed")


def _key(demand: Demand) -> str:
    return f"{demand.instrument.symbol} {demand.series.interval} {demand.range.start_us} {demand.range.end_us}"
