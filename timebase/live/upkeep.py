"""one line -> [upkeep] -> its feed at the provider: had, and had again after a pause that grows, for ever."""

import logging
from collections.abc import Callable
from dataclasses import replace
from itertools import count

import trio

from timebase.errors import ProviderError, StoreUnavailable, Unavailable
from timebase.live.failures import FailureBook
from timebase.live.gaps import Gaps
from timebase.live.line import Line
from timebase.live.lines import Lines
from timebase.live.neighbours import Handle, Roster, Store
from timebase.live.settings import LiveSettings
from timebase.live.supply import built_from
from timebase.model.feed import Feed, FeedKind, FeedState

log = logging.getLogger(__name__)

RETURNING = frozenset({"stopping", "backing_off", "starting"})  # states of a provider whose process fell


class Upkeep:
    """`on_fall`: called when a feed could not be had or has ended; its channels may go elsewhere."""

    def __init__(
        self,
        *,
        roster: Roster,
        store: Store,
        lines: Lines,
        failures: FailureBook,
        gaps: Gaps,
        settings: LiveSettings,
        clock: Callable[[], int],
        on_fall: Callable[[], None],
    ) -> None:
        self._roster = roster
        self._store = store
        self._lines = lines
        self._failures = failures
        self._gaps = gaps
        self._settings = settings
        self._clock = clock
        self._on_fall = on_fall
        self._ids = count(1)

    async def keep(self, line: Line) -> None:
        """Have the feed, and have it again, until nobody wants it."""
        try:
            with line.scope:
                await _rest(line, self._failures.of(line.supply).rests_s())
                while True:
                    error = await self._have(line)
                    await _rest(line, self._fell(line, error))
        finally:
            self._lines.remove(line)

    async def _have(self, line: Line) -> ProviderError | StoreUnavailable:
        """Returns why it has ended, or why it could not be had."""
        try:
            feed = await self._feed(line)
            handle = await self._handle(line.supply.provider)
        except (ProviderError, StoreUnavailable) as error:
            return error
        feed = replace(feed, since_us=self._clock())
        with self._lines.opened(line, feed):
            try:
                self._lines.become(line, FeedState.CONNECTING, line.reason if line.attempts else "")
                handle.subscribe(feed)
                return await line.ended()
            except ProviderError as error:
                return error
            finally:
                handle.unsubscribe(feed)

    async def _feed(self, line: Line) -> Feed:
        """A feed of its own for each connection, so that what is late of the one before is not taken for news.

        Its series are made when the database is there. Raises: StoreUnavailable.
        """
        if line.feed is not None:
            return replace(line.feed, id=next(self._ids))
        supply = line.supply
        instrument = await self._store.instrument(supply.symbol)
        if instrument is None or not instrument.id:
            (instrument,) = await self._store.upsert_instruments((line.instrument,))
        line.instrument = instrument
        bars = {each: await self._store.series(instrument, supply.provider, each) for each in built_from(supply)}
        ticks = None
        if supply.kind is not FeedKind.BARS:
            ticks = await self._store.tick_series(instrument, supply.provider, supply.kind.value)
        return Feed(next(self._ids), supply.kind, instrument, supply.provider, supply.interval, ticks, bars)

    async def _handle(self, slug: str) -> Handle:
        handle = self._roster.get(slug)
        if handle is None:
            raise Unavailable(f"{slug} was removed")
        with trio.move_on_after(self._settings.ready_s):
            await handle.wait_ready()
            return handle
        raise Unavailable(f"{slug} is still starting")

    def _fell(self, line: Line, error: ProviderError | StoreUnavailable) -> float:
        """Note the failure. Returns: the pause before it is tried again."""
        self._gaps.lost(line)
        was_unavailable = self._failures.of(line.supply).is_unavailable
        pause_s = self._failures.note(line.supply, error, line.lived_s)
        line.attempts = self._failures.of(line.supply).in_a_row
        log.info("%s: %s; made anew in %.1f s", line.supply, error, pause_s)
        is_still_away = was_unavailable and isinstance(error, Unavailable) and self._is_away(line)
        if line.state is not FeedState.MUTE and not is_still_away:
            self._lines.become(line, FeedState.DOWN, f"{error.code}: {error}")
        self._on_fall()
        return pause_s

    def _is_away(self, line: Line) -> bool:
        """Whether its followers know already that it is down, because its provider's process is, which is to return."""
        states = {state.slug: state.state for state in self._roster.all()}
        return line.state is FeedState.DOWN and states.get(line.supply.provider) in RETURNING


async def _rest(line: Line, pause_s: float) -> None:
    """A provider that becomes ready ends the rest of those that only waited for it."""
    line.poke = trio.Event()
    with trio.move_on_after(max(0.0, pause_s)):
        await line.poke.wait()
