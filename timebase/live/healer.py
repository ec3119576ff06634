"""gaps of live series -> [healer] -> questions to history of the same provider, once their periods are over.

What is fetched so carries Flag.BACKFILLED and goes down the road as everything does; the hub shows it to the followers.
The ledger says what is really missing: a gap that somebody's question has filled meanwhile costs no request. Its bars
are plain history then, and are read from the store for those who follow.
"""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Protocol

import trio

from timebase.clock import now_us
from timebase.errors import NotSupported, RequestError, StoreUnavailable, TimeBaseError
from timebase.history.answer import Completion
from timebase.live.debt import Debt, period, within
from timebase.live.settings import LiveSettings
from timebase.model.bars import Bars, Flag
from timebase.model.calendar import Calendar, zone_of
from timebase.model.demand import BACKFILL, Question
from timebase.model.feed import Feed
from timebase.model.interval import Interval
from timebase.model.live import BarStatus, BarUpdate
from timebase.model.receipt import Attempt
from timebase.model.series import Series
from timebase.model.timerange import DAY_US, EVER, SECOND_US, Ranges, TimeRange

log = logging.getLogger(__name__)

STORE_RETRY_S = 5.0
TAPE_LOOK_S = 1.0
LOOK_S = 10.0  # a clock that steps is noticed
YOUNG_US = 60 * SECOND_US  # for so long after it should be there, a bar that is not may be still to come


class Historian(Protocol):
    async def complete(self, question: Question, attempts: list[Attempt]) -> Completion: ...


class Coverage(Protocol):
    @property
    def settled(self) -> Ranges: ...


class Topics(Protocol):
    """Who shows it; see streaming/hub.py."""

    def make_up(self, series: Series, bars: Bars) -> None: ...


class Store(Protocol):
    """Raises: StoreUnavailable."""

    async def coverage(self, series_id: int) -> Coverage: ...
    async def first_heard_us(self, series: Series) -> int | None: ...
    async def collected_since_us(self, series: Series) -> int | None: ...
    async def read(self, series: Series, within: TimeRange, *, limit: int | None = None) -> Bars: ...


class Healer:
    """Owes, and pays when the periods are over. `delay_s` says how late a provider's data comes.

    `earliest_us`: the earliest that it can be now, by our clocks. `clock`, the wall's, is history's: what is later than
    that, it does not ask anybody for.
    """

    def __init__(
        self,
        *,
        historian: Historian,
        store: Store,
        hub: Topics,
        delay_s: Callable[[str], float],
        settings: LiveSettings | None = None,
        clock: Callable[[], int] = now_us,
        earliest_us: Callable[[], int] = now_us,
    ) -> None:
        self._historian = historian
        self._store = store
        self._hub = hub
        self._delay_s = delay_s
        self._settings = settings or LiveSettings()
        self._clock = clock
        self._earliest_us = earliest_us
        self._debts: dict[int, Debt] = {}
        self._given_up: dict[int, str] = {}
        self._limit = trio.CapacityLimiter(self._settings.heals_at_once)
        self._new_in, self._new = trio.open_memory_channel[None](1)
        self._started: set[int] = set()
        self.outcomes: Counter[tuple[str, str]] = Counter()  # (provider, healed | given_up), of ranges

    def owe(
        self,
        feed: Feed,
        interval: Interval,
        from_us: int | None,
        joined_us: int,
        *,
        traded_us: Collection[int],
        event_now_us: Callable[[], int],
    ) -> None:
        """The periods from that of `from_us` to that of `joined_us` are to be had; event time.

        `from_us` None: from the last closed bar on. `traded_us`: when something happened for sure.
        """
        debt = self._debt(feed, feed.bars[interval], event_now_us)
        first = debt.calendar.stamp_at(interval, joined_us)
        start = first if from_us is None else min(debt.calendar.stamp_at(interval, from_us), first)
        if from_us is None:
            debt.unknown_from = first
        traded = {debt.calendar.stamp_at(interval, at_us) for at_us in traded_us}
        debt.owe(Ranges((TimeRange(start, interval.end_us(first)),)), traded=traded)
        self._stir()

    def owe_unkept(self, update: BarUpdate, *, event_now_us: Callable[[], int]) -> None:
        """The bars of `update` were made, and could not be stored."""
        debt, interval = self._debt(update.feed, update.series, event_now_us), update.series.interval
        for stamp, trades in zip(update.bars.time.tolist(), update.trades.tolist(), strict=True):
            lost = Ranges((period(interval, stamp),))
            if update.status is BarStatus.REVISED and not (debt.ranges - debt.paying) & lost:
                debt.revised.add(stamp)
            debt.owe(lost, traded=[stamp] if trades else [])
        self._stir()

    def _debt(self, feed: Feed, series: Series, event_now_us: Callable[[], int]) -> Debt:
        debt = self._debts.get(series.id)
        if debt is None:
            debt = self._debts[series.id] = Debt(series, Calendar(zone_of(feed.instrument)), event_now_us)
        debt.event_now_us = event_now_us
        return debt

    def _stir(self) -> None:
        with suppress(trio.WouldBlock):  # the one that waits will see this debt too
            self._new_in.send_nowait(None)

    def facts(self, feed: Feed) -> Sequence[Mapping[str, object]]:
        """What is owed of the feed's series, and what could not be had; plain data."""
        found = []
        for interval, series in feed.bars.items():
            debt = self._debts.get(series.id)
            why = debt.why if debt else self._given_up.get(series.id, "")
            if debt or why:
                parts = debt.ranges.parts if debt else ()
                owed = [[part.start_us // 1000, part.end_us // 1000] for part in parts]
                tries = debt.tries if debt else 0
                found.append({"interval": interval.value, "owed": owed, "tries": tries, "reason": why})
        return found

    # --- paying ---

    async def pay_all(self, nursery: trio.Nursery) -> None:
        """One task per series that owes. Until cancelled."""
        async for _ in self._new:
            for series_id, debt in self._debts.items():
                if series_id not in self._started:
                    self._started.add(series_id)
                    nursery.start_soon(self._pay, debt)

    async def _pay(self, debt: Debt) -> None:
        try:
            while debt.ranges or debt.unknown_from is not None:
                await self._look_up(debt)
                now = trio.current_time()
                due = debt.next_due(self._over(debt), now)
                if due is not None:
                    await self._pay_now(debt, due)
                elif debt.ranges:
                    debt.trouble = ""
                    with trio.move_on_after(self._next_s(debt, now)):
                        await debt.news.park()
        finally:
            self._started.discard(debt.series.id)
            del self._debts[debt.series.id]

    async def _look_up(self, debt: Debt) -> None:
        """What lacks before the join, since the first bar that is kept or the first trade that was heard: all that was
        owed when the server stopped, also where it was stopped in the very first period. Where bars come ready-made,
        no trades tell when that was, but the collector's list does.
        """
        joined = debt.unknown_from
        if joined is None:
            return
        try:
            settled = (await self._store.coverage(debt.series.id)).settled
            heard_us = await self._store.first_heard_us(debt.series)
            since_us = heard_us or await self._store.collected_since_us(debt.series)
        except StoreUnavailable as error:
            debt.trouble = f"{error.code}: {error}"
            await trio.sleep(STORE_RETRY_S)
            return
        if debt.unknown_from == joined:  # else it has joined anew meanwhile
            debt.unknown_from = None
        interval = debt.series.interval
        earliest = joined - self._settings.heal_back_days * DAY_US
        first = settled.parts[0].start_us if settled else joined
        if since_us is not None:
            first = min(first, debt.calendar.stamp_at(interval, since_us))
        if heard_us is not None:
            debt.traded.add(debt.calendar.stamp_at(interval, heard_us))
        start = interval.floor_us(max(first, earliest))
        if start < joined:
            debt.ranges |= Ranges((TimeRange(start, joined),)) - settled
        debt.traded = within(debt.traded, debt.ranges)

    def _late_us(self, debt: Debt) -> int:
        """How long after a period's end its bar can be had as history."""
        return int((self._delay_s(debt.series.provider) + self._settings.settle_s) * SECOND_US)

    def _over(self, debt: Debt) -> int:
        """The stamp of the first period that is not over where the instrument is traded, and in UTC too: history
        believes in no bar before that.
        """
        interval, event_now_us = debt.series.interval, debt.event_now_us()
        had_us = min(self._now_us(event_now_us) - self._late_us(debt), event_now_us, self._clock())
        return min(debt.calendar.stamp_at(interval, had_us), interval.floor_us(had_us))

    def _now_us(self, event_now_us: int) -> int:
        """As late as is certain: a clock of ours that is behind is put right by the data, though never by a tape's."""
        return max(self._earliest_us(), event_now_us)

    def _next_s(self, debt: Debt, now: float) -> float:
        pauses_s = [rest.until_at - now for rest in debt.rests if rest.until_at > now]
        later = debt.ranges - Ranges((TimeRange(EVER.start_us, self._over(debt)),))
        if later:
            pauses_s.append(self._ends_s(debt, later.parts[0].start_us))
        return min(max(0.0, min(pauses_s, default=LOOK_S)), LOOK_S) + 0.001  # not a µs too early

    def _ends_s(self, debt: Debt, stamp: int) -> float:
        """In how many seconds the bar of a period can be had that is not over yet."""
        interval, event_now_us = debt.series.interval, debt.event_now_us()
        first = interval.floor_us(stamp)
        end_us = max(debt.calendar.ends_us(interval, first), interval.end_us(first))
        pause_s = max(end_us + self._late_us(debt) - self._now_us(event_now_us), end_us - self._clock()) / SECOND_US
        # Or it waits for a tape, which may be fast.
        return pause_s if pause_s > 0 else min(TAPE_LOOK_S, (end_us - event_now_us) / SECOND_US)

    async def _pay_now(self, debt: Debt, due: TimeRange) -> None:
        debt.paying = Ranges((due,))
        try:
            async with self._limit:
                why = await self._fetch(debt, due)
            if due.end_us > self._over(debt):
                return  # the clock was put back meanwhile: history took it for the future, of which nothing is missing
            await self._show(debt, due)
        except StoreUnavailable as error:  # nobody's fault that trying less often would mend
            debt.trouble = f"{error.code}: {error}"
            await trio.sleep(STORE_RETRY_S)
            return
        except TimeBaseError as error:
            await self._bear(debt, due, error)
            return
        finally:
            debt.paying = Ranges()
        debt.failures, debt.trouble = 0, ""
        if why:
            self._put_off(debt, due, why)
            return
        self._given_up.pop(debt.series.id, None)
        self.outcomes[debt.series.provider, "healed"] += 1
        debt.settle(due)

    async def _bear(self, debt: Debt, due: TimeRange, error: TimeBaseError) -> None:
        """Nobody answered: not the fault of what was asked for, and the next question would fare no better."""
        why = f"{error.code}: {error}"
        debt.failures += 1
        if isinstance(error, RequestError | NotSupported) or debt.failures >= self._settings.heal_tries:
            debt.failures, debt.trouble = 0, ""
            self._give_up(debt, due, why)
            return
        debt.trouble = why
        await trio.sleep(self._pause_s(debt.failures))

    def _put_off(self, debt: Debt, due: TimeRange, why: str) -> None:
        """It was answered, and what was asked for is not there (yet): others may be."""
        tries = debt.tries_of(due) + 1
        if tries < self._settings.heal_tries:
            debt.rest(due, tries, trio.current_time() + self._pause_s(tries), why)
        else:
            self._give_up(debt, due, why)

    def _pause_s(self, tries: int) -> float:
        return min(self._settings.heal_last_s, self._settings.heal_first_s * 2.0 ** (tries - 1))

    def _give_up(self, debt: Debt, due: TimeRange, why: str) -> None:
        series = debt.series
        # Once until it heals: a plugin that flaps has a new gap every second.
        say = log.debug if series.id in self._given_up else log.warning
        self._given_up[series.id] = why
        say("%s %s of %s stays with a gap: %s", series.symbol, series.interval, series.provider, why)
        debt.revised -= within(debt.revised, due)
        self.outcomes[series.provider, "given_up"] += 1
        debt.settle(due)

    async def _fetch(self, debt: Debt, due: TimeRange) -> str:
        """Returns: why something is still missing; "" when nothing is.

        Raises: TimeBaseError.
        """
        sure = self._young(debt, due) | within(debt.traded, due)
        doubted = within(debt.doubts, due)
        debt.doubts |= sure  # also when something else fails before it is looked at
        done = await self._historian.complete(self._question(debt.series, due), [])
        if done.missing:
            return f"{done.missing[0].range}: {done.missing[0].why}"
        return await self._renew(debt, due) or await self._catch_up(debt, doubted, sure)

    async def _renew(self, debt: Debt, due: TimeRange) -> str:
        """The ledger knows these periods, by bars that have changed since."""
        series = debt.series
        for stamp in sorted(within(debt.revised, due)):
            changed = period(series.interval, stamp)
            debt.revised.discard(stamp)  # before it is asked for: it may change once more meanwhile
            try:
                done = await self._historian.complete(self._question(series, changed, refresh=True), [])
            except TimeBaseError:
                debt.revised.add(stamp)
                raise
            if done.missing:
                debt.revised.add(stamp)
                return f"{changed}: {done.missing[0].why}"
        return ""

    async def _show(self, debt: Debt, due: TimeRange) -> None:
        """What the road has not brought, because it was stored before. Raises: StoreUnavailable."""
        bars = await self._store.read(debt.series, due)
        self._hub.make_up(debt.series, bars.pick((bars.flags & Flag.FORMING) == 0))

    def _young(self, debt: Debt, due: TimeRange) -> set[int]:
        """The periods that ended so lately that their bar may be still to come."""
        interval, calendar = debt.series.interval, debt.calendar
        young_us = self._now_us(debt.event_now_us()) - self._late_us(debt) - YOUNG_US
        stamp = interval.floor_us(max(due.start_us, min(calendar.stamp_at(interval, young_us), due.end_us - 1)))
        found = set()
        while stamp < due.end_us:
            if calendar.ends_us(interval, stamp) > young_us:
                found.add(stamp)
            stamp = interval.end_us(stamp)
        return found

    async def _catch_up(self, debt: Debt, doubted: set[int], sure: set[int]) -> str:
        """A vendor whose history is behind says that there is nothing, and the ledger believes it: ask once more.

        `doubted` are the periods of which it had nothing before; of those in `sure` it is not believed now either.
        """
        series, lacking = debt.series, 0
        for stamp in sorted(doubted | sure):
            part = period(series.interval, stamp)
            if stamp in doubted and not len(await self._store.read(series, part, limit=1)):
                await self._historian.complete(self._question(series, part, refresh=True), [])
            if not len(await self._store.read(series, part, limit=1)):
                lacking += stamp in sure
        return f"its history has no bar yet of {lacking} periods that had trades or are just over" if lacking else ""

    def _question(self, series: Series, part: TimeRange, *, refresh: bool = False) -> Question:
        return Question(
            series.symbol, series.interval, part, provider=series.provider, refresh=refresh, reason=BACKFILL
        )


async def run_healer(healer: Healer, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Runs until it is cancelled."""
    async with trio.open_nursery() as nursery:
        task_status.started()
        await healer.pay_all(nursery)
