"""Bars of Yahoo while they form: every feed polled in its turn, each poll paid for.

    wanted feeds -> the one that is due -> one request -> what is new in it -> bars, forming and closed -> pulse

Yahoo sends no trades. Its WebSocket gives last prices without their size (the field of that name holds the volume of
the day), so that trades or bars from it would be invented; bars Yahoo makes itself, and those are asked for. A feed
that brings nothing new, at night or over a week-end, is polled less and less often.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import anyio
from anyio.to_thread import run_sync
from yahoo_news import Known, News
from yahoo_shares import Share

from timebase.clock import SteadyClock
from timebase.sdk import ProviderError, Stream, Subscription, SymbolNotFound, Unsupported

HOPELESS = (SymbolNotFound, Unsupported)
PATIENCE = 2  # polls in a row that may bring nothing before they become rarer

Ask = Callable[[Subscription, Known], News]


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How long after a poll the next one is due, and how long at most when nothing comes or all fails."""

    poll_s: float
    longest_s: float

    def wait_s(self, in_vain: int) -> float:
        return min(self.longest_s, self.poll_s * float(1 << min(max(0, in_vain - PATIENCE), 16)))


@dataclass(slots=True)
class Polled:
    """One feed and how its polls went."""

    known: Known
    due_s: float
    in_vain: int = 0
    is_up: bool = False


class Polling:
    def __init__(
        self, stream: Stream, share: Share, ask: Ask, late_us: int, rhythm: Rhythm, log: logging.Logger
    ) -> None:
        self._stream = stream
        self._share = share
        self._ask = ask
        self._late_us = late_us
        self._rhythm = rhythm
        self._log = log
        self._feeds: dict[Subscription, Polled] = {}
        self._steady = SteadyClock()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._take_up(self._share.wanted)
            due = min(self._feeds.items(), key=lambda each: each[1].due_s, default=None)
            if due is None:
                await self._share.changed()
                continue
            feed, polled = due
            with anyio.move_on_at(polled.due_s):
                await self._share.changed()
                continue
            await self._poll(feed, polled)

    async def _take_up(self, wanted: tuple[Subscription, ...]) -> None:
        self._feeds = {feed: polled for feed, polled in self._feeds.items() if feed in wanted}
        for feed in wanted:
            if feed.interval is None:
                await self._share.refuse(feed, Unsupported("bars are of an interval"))
            elif feed not in self._feeds:
                self._feeds[feed] = Polled(Known(feed.interval, self._late_us), anyio.current_time())

    async def _poll(self, feed: Subscription, polled: Polled) -> None:
        try:
            news = await run_sync(self._ask, feed, polled.known, abandon_on_cancel=False)
        except HOPELESS as error:
            await self._share.refuse(feed, error)
            return
        except ProviderError as error:
            polled.in_vain += 1
            await self._fail(feed, polled, error)
            return
        polled.in_vain = 0 if len(news.bars) else polled.in_vain + 1
        if not polled.is_up:
            polled.is_up = True
            await self._stream.up(feed)
        if len(news.bars):
            await self._stream.bars(feed, news.bars, news.is_closed)
        await self._stream.pulse(polled.known.known_until_us(self._steady.earliest_us()), feed)
        polled.due_s = anyio.current_time() + self._rhythm.wait_s(polled.in_vain)

    async def _fail(self, feed: Subscription, polled: Polled, error: ProviderError) -> None:
        wait_s = max(self._rhythm.wait_s(polled.in_vain + PATIENCE), getattr(error, "retry_after_s", None) or 0.0)
        polled.due_s = anyio.current_time() + wait_s
        self._log.warning("%s: %s; polled again in %.0f s", feed.symbol, error, wait_s)
        polled.is_up = False
        await self._stream.down(str(error), feed)
