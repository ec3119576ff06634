"""Permission to send: several sliding windows per provider, in turn, remembered across restarts."""

import logging
import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

import trio

from timebase.clock import now_us
from timebase.errors import RateLimited, StoreUnavailable
from timebase.manifest.manifest import Manifest, RateWindow
from timebase.model.timerange import SECOND_US
from timebase.router.settings import RouterSettings
from timebase.router.windows import Spent

log = logging.getLogger(__name__)

BACKLOG = 10_000  # takes kept in memory while the ledger is away: some 1 MB


class Take(Protocol):
    """`n` requests that were sent to `provider`; `key` names the question where identical ones are limited."""

    @property
    def provider(self) -> str: ...
    @property
    def at_us(self) -> int: ...
    @property
    def n(self) -> int: ...
    @property
    def key(self) -> str | None: ...


class Ledger(Protocol):
    """What outlives the process. Raises: StoreUnavailable."""

    async def take_budget(self, provider: str, at_us: int, n: int, key: str | None) -> None:
        """Durable when it returns."""

    async def load_budget_takes(self, since_us: int) -> Sequence[Take]: ...

    async def prune_budget_takes(self, before_us: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """What one provider allows."""

    windows: tuple[RateWindow, ...] = ()
    identical_window_s: float = 0.0
    max_concurrent: int = 4

    @classmethod
    def of(cls, manifest: Manifest) -> "Limits":
        return cls(manifest.rate_limits, manifest.identical_window_s, manifest.max_concurrent)

    @property
    def longest_s(self) -> float:
        return max((self.identical_window_s, *(window.window_s for window in self.windows)))

    def __str__(self) -> str:
        return " and ".join(f"{w.requests} per {w.window_s:g} s" for w in self.windows) or "no limit"


class _Account:
    """One provider's budget."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.spent = Spent()
        self.asked: dict[str, float] = {}  # key -> when the same question last went out
        self.closed_until = -math.inf  # the vendor said: not before then
        self.strikes = 0
        self.flight_s = math.inf
        self.turns = trio.Lock()  # hands over in the order of arrival
        self.slots = trio.CapacityLimiter(limits.max_concurrent)
        self.waiting = 0
        self.is_restored = False
        self.backlog: list[tuple[str, int, int, str | None]] = []

    def opens_at(self, now: float, n: int) -> float:
        return max(self.closed_until, self.spent.opens_at(now, self.limits.windows, n))

    def forecast(self, now: float, n: int, until: float) -> float:
        """When the last of n requests could go, behind everyone who waits already; after `until` any such moment."""
        if self.waiting == 0 and n == 1:
            return self.opens_at(now, n)
        return max(self.closed_until, self.spent.forecast(now, self.limits.windows, self.waiting + n, until))

    def repeats_until(self, key: str | None) -> float:
        """Until when the same question may not be sent again."""
        if key is None or key not in self.asked:
            return -math.inf
        return self.asked[key] + self.limits.identical_window_s

    def leave(self, now: float, n: int, key: str | None) -> int:
        self._note(key, now)
        return self.spent.take(n)

    def landed(self, take: int, key: str | None, now: float) -> None:
        self._note(key, now)
        self.spent.land(take, now)

    def _note(self, key: str | None, now: float) -> None:
        if key is not None and self.limits.identical_window_s:
            self.asked[key] = now

    def settle(self, now: float) -> None:
        self.spent.settle(now, self.limits.longest_s)
        if len(self.asked) > 1_000:
            alive = now - self.limits.identical_window_s
            self.asked = {key: at for key, at in self.asked.items() if at > alive}


class Budget:
    """Lets requests go when every window of their provider has room for them, in the order in which they came.

    Time inside is the scheduler's steady clock, so a step of the wall clock opens no window. The ledger is told the
    wall clock's time before a request goes; what it remembers as later than now is counted as now. While the ledger is
    away the budget goes on from memory and tells it later.
    """

    def __init__(
        self, ledger: Ledger, settings: RouterSettings | None = None, *, wall_us: Callable[[], int] = now_us
    ) -> None:
        self._ledger = ledger
        self._settings = settings or RouterSettings()
        self._wall_us = wall_us
        self._accounts: dict[str, _Account] = {}

    @asynccontextmanager
    async def turn(self, slug: str, limits: Limits, *, key: str | None = None) -> AsyncIterator[None]:
        """One question's turn at the provider: one of its `max_concurrent` places, and one request out of its budget.

        Raises: RateLimited when the wait would be longer than `max_budget_wait_s`, or than the caller has left.
        """
        account = self._account(slug, limits)
        give_up_at = self._give_up_at(self._settings.max_budget_wait_s)
        await self._acquire_slot(slug, account, give_up_at)
        try:
            take = await self._take(slug, account, 1, key, give_up_at)
            try:
                yield
            finally:
                account.landed(take, key, trio.current_time())
        finally:
            account.slots.release()

    async def take(self, slug: str, limits: Limits, n: int = 1) -> None:
        """Permission for n more requests of a question that is under way.

        Raises: RateLimited when the wait would be longer than `max_page_wait_s`, or than the caller has left.
        """
        account = self._account(slug, limits)
        # A provider that pages sends at once; were its questions held until they are answered, several of them could
        # use up a small window and wait for each other.
        account.flight_s = min(account.flight_s, self._settings.paging_flight_s)
        account.spent.hurry(trio.current_time() + account.flight_s)
        await self._take(slug, account, n, None, self._give_up_at(self._settings.max_page_wait_s))

    def pause(self, slug: str, limits: Limits, retry_after_s: float | None) -> float:
        """The vendor said that it has had enough; ask nothing before it said, or for longer each time it says so.

        Returns: for how long, in seconds.
        """
        account = self._account(slug, limits)
        longest = self._settings.limited_pause_max_s
        pause_s = min(longest, self._settings.limited_pause_s * 2.0 ** min(account.strikes, 30))
        pause_s = pause_s if retry_after_s is None else max(0.0, retry_after_s)
        account.strikes += 1
        account.closed_until = max(account.closed_until, trio.current_time() + pause_s)
        return pause_s

    def forgive(self, slug: str) -> None:
        """The vendor answers again."""
        if slug in self._accounts:
            self._accounts[slug].strikes = 0

    def wait_s(self, slug: str, limits: Limits) -> float:
        """How long a question asked now would wait for the budget, behind those that wait already.

        Returns: more than `max_budget_wait_s` when it would be refused; how much more is not looked into.
        """
        account = self._account(slug, limits)
        now = trio.current_time()
        return max(0.0, account.forecast(now, 1, now + self._settings.max_budget_wait_s) - now)

    def left(self, slug: str, limits: Limits) -> tuple[tuple[RateWindow, int], ...]:
        """What each window still has room for."""
        account = self._account(slug, limits)
        now = trio.current_time()
        return tuple((window, max(0, window.requests - account.spent.used(now, window))) for window in limits.windows)

    async def restore(self, slug: str, limits: Limits) -> None:
        """Read what was spent before a restart, so that it shows before the first question; `turn` would do it too."""
        account = self._account(slug, limits)
        async with account.turns:
            await self._restore(slug, account)

    # --- inside ---

    def _account(self, slug: str, limits: Limits) -> _Account:
        account = self._accounts.get(slug)
        if account is None:
            account = self._accounts[slug] = _Account(limits)
            account.flight_s = self._settings.flight_s
        if account.limits != limits:
            account.is_restored = account.is_restored and limits.longest_s <= account.limits.longest_s
            account.limits = limits
            account.slots.total_tokens = limits.max_concurrent
        account.settle(trio.current_time())
        return account

    def _give_up_at(self, longest_s: float) -> float:
        """Callers own their time: there is no use in waiting longer than they do."""
        return min(trio.current_time() + longest_s, trio.current_effective_deadline())

    async def _acquire_slot(self, slug: str, account: _Account, give_up_at: float) -> None:
        ahead = account.slots.statistics().tasks_waiting
        self._refuse_if_hopeless(slug, account, ahead + 1, give_up_at)
        with trio.move_on_at(give_up_at):
            await account.slots.acquire()
            return
        raise RateLimited(f"{slug} is busy with {account.limits.max_concurrent} questions")

    async def _take(self, slug: str, account: _Account, n: int, key: str | None, give_up_at: float) -> int:
        self._refuse_if_hopeless(slug, account, n, give_up_at)
        account.waiting += n
        try:
            take = await self._wait_and_take(slug, account, n, key, give_up_at)
        finally:
            account.waiting -= n
        try:
            if account.limits.longest_s:
                await self._remember(account, (slug, self._wall_us(), n, key))
        except BaseException:
            account.spent.land(take, trio.current_time())
            raise
        account.spent.send(take, trio.current_time() + account.flight_s)
        return take

    async def _wait_and_take(self, slug: str, account: _Account, n: int, key: str | None, give_up_at: float) -> int:
        while True:
            # Outside the turn: who repeats a question does not hold up those who do not.
            await self._sleep_until(account.repeats_until(key), slug, account, give_up_at)
            async with account.turns:
                if not account.is_restored:
                    await self._restore(slug, account)
                while (at := self._opens_at(account, n)) > trio.current_time():
                    await self._sleep_until(at, slug, account, give_up_at)
                now = trio.current_time()
                if account.repeats_until(key) > now:
                    continue
                return account.leave(now, n, key)

    def _opens_at(self, account: _Account, n: int) -> float:
        now = trio.current_time()
        account.settle(now)
        return account.opens_at(now, n)

    async def _sleep_until(self, at: float, slug: str, account: _Account, give_up_at: float) -> None:
        if at > give_up_at:
            raise self._limited(slug, account, at)
        await trio.sleep_until(at) if at > trio.current_time() else await trio.lowlevel.checkpoint()

    def _refuse_if_hopeless(self, slug: str, account: _Account, n: int, give_up_at: float) -> None:
        at = account.forecast(trio.current_time(), n, give_up_at)
        if at > give_up_at:
            raise self._limited(slug, account, at)

    def _limited(self, slug: str, account: _Account, at: float) -> RateLimited:
        wait_s = at - trio.current_time()
        if math.isinf(wait_s):
            return RateLimited(f"{slug} allows {account.limits}, which is less than this needs at once")
        if account.closed_until >= at:
            return RateLimited(f"{slug} asked not to be asked for another {wait_s:.1f} s", retry_after_s=wait_s)
        said = f"the budget of {slug} ({account.limits}) is used up; the next request may go in {wait_s:.1f} s"
        return RateLimited(said, retry_after_s=wait_s)

    # --- the ledger ---

    async def _remember(self, account: _Account, row: tuple[str, int, int, str | None]) -> None:
        """Tell the ledger, after what it missed. A request goes out only when this has returned."""
        rows, account.backlog = [*account.backlog, row], []
        try:
            while rows:
                await self._ledger.take_budget(*rows[0])
                del rows[0]
        except StoreUnavailable:
            log.warning("the budget of %s is kept in memory: the store is away", row[0])
        finally:
            account.backlog = [*rows, *account.backlog][-BACKLOG:]

    async def _restore(self, slug: str, account: _Account) -> None:
        if account.is_restored or not account.limits.longest_s:
            return
        wall_us, now = self._wall_us(), trio.current_time()
        try:
            rows = await self._ledger.load_budget_takes(wall_us - int(account.limits.longest_s * SECOND_US))
        except StoreUnavailable:
            return
        account.is_restored = True
        for take in rows:
            if take.provider != slug:
                continue
            # What went out just before the restart may still have been on its way; a later time than now is a clock
            # that was put back. Both count as late as they can have been.
            landed_at = min(now, now - (wall_us - take.at_us) / SECOND_US + self._settings.flight_s)
            account.spent.add([landed_at] * take.n)
            if take.key is not None:
                account.asked[take.key] = max(account.asked.get(take.key, -math.inf), landed_at)
