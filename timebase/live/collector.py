"""the list in the database -> [collector] -> channels that are wanted for ever; history where nobody streams them.

A collected series whose channel a feed supplies is kept by that feed. One that no provider streams, or whose feeds are
all down, is asked for as history at the end of each of its periods, within its provider's budget.
"""

import logging
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import trio

from timebase.clock import now_us
from timebase.errors import RateLimited, StoreUnavailable, TimeBaseError
from timebase.live.healer import Coverage, Historian
from timebase.live.session import session_at
from timebase.live.settings import LiveSettings
from timebase.live.wants import Wants
from timebase.model.collected import Collected
from timebase.model.demand import Question
from timebase.model.feed import Channel, FeedKind
from timebase.model.instrument import Instrument, listed_or_guessed
from timebase.model.series import Series
from timebase.model.timerange import DAY_US, SECOND_US, TimeRange

log = logging.getLogger(__name__)

LIVE = "live"  # why it is fetched: its period is just over
RETRY_S = 5.0  # while the database is away


class Store(Protocol):
    """Raises: StoreUnavailable."""

    async def collected(self) -> Sequence[Collected]: ...
    async def collect(self, line: Collected) -> None: ...
    async def uncollect(self, line: Collected) -> None: ...
    async def instrument(self, symbol: str) -> Instrument | None: ...
    async def series_of(self, instrument_id: int) -> Sequence[Series]: ...
    async def coverage(self, series_id: int) -> Coverage: ...


class Supplied(Protocol):
    """Who knows whether a channel comes as a stream; see live/feeds.py."""

    def supplies(self, channel: Channel) -> bool: ...


class Roster(Protocol):
    def symbols(self) -> Sequence[Instrument]: ...


@dataclass(slots=True)
class Poll:
    """How asking for one line as history is going. Units: µs UTC; `until_us` None: not looked up yet."""

    scope: trio.CancelScope
    until_us: int | None = None
    asked_us: int | None = None
    why: str = ""


class Collector:
    """The list, in memory as in the database. The API changes it, `run_collector` sees to it.

    `earliest_us`: the earliest that it can be now, by our clocks; `clock` is the wall's.
    """

    def __init__(
        self,
        *,
        wants: Wants,
        feeds: Supplied,
        historian: Historian,
        store: Store,
        roster: Roster,
        delay_s: Callable[[Collected], float],
        settings: LiveSettings | None = None,
        clock: Callable[[], int] = now_us,
        earliest_us: Callable[[], int] = now_us,
    ) -> None:
        self._wants = wants
        self._feeds = feeds
        self._historian = historian
        self._store = store
        self._roster = roster
        self._delay_s = delay_s
        self._settings = settings or LiveSettings()
        self._clock = clock
        self._earliest_us = earliest_us
        self._lines: dict[Collected, None] = {}
        self._polls: dict[Collected, Poll] = {}
        self._changed_in, self._changed = trio.open_memory_channel[None](1)

    # --- the list ---

    def facts(self) -> list[Mapping[str, object]]:
        """Every line and how it is kept; plain data."""
        return [self._facts(line) for line in sorted(self._lines, key=_order)]

    async def add(self, line: Collected) -> None:
        """Raises: StoreUnavailable."""
        await self._store.collect(line)
        self._lines[line] = None
        self._tell()

    async def remove(self, line: Collected) -> None:
        """Nothing of what is stored goes with it. Raises: StoreUnavailable."""
        await self._store.uncollect(line)
        self._lines.pop(line, None)
        self._tell()

    def all(self) -> tuple[Collected, ...]:
        return tuple(sorted(self._lines, key=_order))

    def _facts(self, line: Collected) -> Mapping[str, object]:
        poll = self._polls.get(line)
        is_streamed = self._feeds.supplies(channel_of(line))
        asked_us = None if poll is None else poll.asked_us
        return {
            "symbol": line.symbol,
            "interval": line.interval.value,
            "provider": line.provider,
            "by": "stream" if is_streamed else "history",
            "asked": None if asked_us is None else asked_us // 1000,
            "reason": "" if is_streamed or poll is None else poll.why,
        }

    def _tell(self) -> None:
        self._wants.collect(channel_of(line) for line in self._lines)
        with suppress(trio.WouldBlock):
            self._changed_in.send_nowait(None)

    # --- seeing to it ---

    async def load(self) -> None:
        """Read the list; wait for a database that is away."""
        while True:
            try:
                self._lines |= dict.fromkeys(await self._store.collected())
            except StoreUnavailable as error:
                log.info("the collector's list is read later: %s", error)
                await trio.sleep(RETRY_S)
            else:
                self._tell()
                return

    async def see_to_all(self, nursery: trio.Nursery) -> None:
        """One task per line. Until cancelled."""
        async for _ in self._changed:
            for line in [each for each in self._polls if each not in self._lines]:
                self._polls.pop(line).scope.cancel()
            for line in self._lines:
                if line not in self._polls:
                    poll = self._polls[line] = Poll(trio.CancelScope())
                    nursery.start_soon(self._see_to, line, poll)

    async def _see_to(self, line: Collected, poll: Poll) -> None:
        """Where it does not come as a stream, ask at the end of each period."""
        with poll.scope:
            while True:
                await trio.sleep(self._next_s(line))
                if self._feeds.supplies(channel_of(line)):
                    poll.until_us = None  # what the feed leaves open, the healer closes
                    continue
                poll.why = await self._ask(line, poll)

    def _next_s(self, line: Collected) -> float:
        """Until the present period is over and can be had, and a little more, so that not all ask at once."""
        now_us, interval = self._clock(), line.interval
        late_us = int((self._delay_s(line) + self._settings.settle_s) * SECOND_US)
        end_us = interval.end_us(interval.floor_us(now_us - late_us))
        spread_s = random.random() * self._settings.poll_spread_s  # noqa: S311 - spreads requests, guards nothing
        return max(0.0, (end_us + late_us - now_us) / SECOND_US) + spread_s

    async def _ask(self, line: Collected, poll: Poll) -> str:
        """Returns: why it could not be had; "" when it could, or when there is nothing to be had."""
        late_us = int((self._delay_s(line) + self._settings.settle_s) * SECOND_US)
        end_us = line.interval.floor_us(self._clock() - late_us)
        try:
            if not await self._is_worth_asking(line, end_us):
                return ""
            if poll.until_us is None:
                poll.until_us = await self._last_closed_us(line, end_us)
            if poll.until_us >= end_us:
                return ""
            asked = TimeRange(poll.until_us, end_us)
            done = await self._historian.complete(
                Question(line.symbol, line.interval, asked, provider=line.provider, reason=LIVE), []
            )
        except TimeBaseError as error:
            if isinstance(error, RateLimited) and error.retry_after_s:
                await trio.sleep(error.retry_after_s)
            return f"{error.code}: {error}"
        poll.asked_us = self._clock()
        if done.missing:
            return f"{done.missing[0].range}: {done.missing[0].why}"
        over_us = line.interval.floor_us(self._earliest_us() - late_us)  # a clock that is ahead asks for the future too
        poll.until_us = max(poll.until_us, min(over_us, end_us))
        return ""

    async def _is_worth_asking(self, line: Collected, end_us: int) -> bool:
        """Not in the night, for bars within the day; the first one of the next session brings what came late."""
        if not line.interval.is_intraday:
            return True
        known = await self._store.instrument(line.symbol)
        instrument = known or listed_or_guessed(line.symbol, self._roster.symbols())
        session = session_at(instrument, end_us - line.interval.us)
        return session is None or session.is_open

    async def _last_closed_us(self, line: Collected, end_us: int) -> int:
        """Up to where it is stored, by whichever series; the last period when nothing is."""
        earliest_us = line.interval.floor_us(end_us - self._settings.heal_back_days * DAY_US)
        last_us = line.interval.floor_us(end_us - 1)
        known = await self._store.instrument(line.symbol)
        ends = []
        for series in await self._store.series_of(known.id) if known else ():
            if series.interval is line.interval and line.provider in (None, series.provider):
                settled = (await self._store.coverage(series.id)).settled.parts
                ends += [part.end_us for part in settled if part.start_us < end_us]
        return max(earliest_us, line.interval.floor_us(max(ends))) if ends else last_us


def channel_of(line: Collected) -> Channel:
    return Channel(FeedKind.BARS, line.symbol, line.interval, line.provider)


def _order(line: Collected) -> tuple[str, int, str]:
    return (line.symbol, line.interval.us, line.provider or "")


async def run_collector(collector: Collector, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Runs until it is cancelled."""
    async with trio.open_nursery() as nursery:
        task_status.started()
        await collector.load()
        await collector.see_to_all(nursery)
