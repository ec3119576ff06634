"""wanted channels -> [feeds] -> subscriptions at providers: planned, made, judged, made anew, healed.

For each wanted channel the router names who could supply it. The first becomes its supply: one subscription however
many channels and followers come from it. Here the parts are put together, and hear what concerns them: what came down
the road, what the roster says of the providers, who wants what.

allotment   which line supplies each channel     upkeep     the feed of one line, had again and again
judging     how each line is                     gaps       what each channel missed, owed to the healer
lines       the lines there are                  failures   what each supply has been through
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress

import trio

from timebase.clock import now_us
from timebase.errors import ProviderError
from timebase.live.allotment import Allotment
from timebase.live.facts import Facts, line_facts, unsupplied_facts
from timebase.live.failures import FailureBook
from timebase.live.gaps import Gaps
from timebase.live.judging import Judging
from timebase.live.line import Line
from timebase.live.lines import Lines
from timebase.live.neighbours import Healing, Planner, Roster, Store, Topics
from timebase.live.settings import LiveSettings
from timebase.live.supply import Supply
from timebase.live.upkeep import Upkeep
from timebase.live.wants import Wants
from timebase.model.feed import Channel, Feed, FeedKind, FeedState
from timebase.model.live import Arrival, BarUpdate


class Feeds:
    """Which feed supplies each wanted channel, and how each feed is. `run_feeds` drives it; the hub tells it what came.

    `is_jammed`: whether messages wait for room on the road; silence is not the vendor's then.
    """

    def __init__(
        self,
        *,
        wants: Wants,
        router: Planner,
        roster: Roster,
        store: Store,
        hub: Topics,
        healer: Healing,
        settings: LiveSettings | None = None,
        clock: Callable[[], int] = now_us,
        is_jammed: Callable[[], bool] = lambda: False,
    ) -> None:
        settings = settings or LiveSettings()
        self._wants = wants
        self._roster = roster
        self._hub = hub
        self._healer = healer
        self._ready: set[str] = set()
        self._stir_in, self._stirred = trio.open_memory_channel[None](1)  # one that waits says it all
        self._lines = lines = Lines(hub, clock)
        self._failures = failures = FailureBook(settings)
        self._gaps = gaps = Gaps(wants, healer, settings)
        self._allotment = Allotment(
            wants=wants, router=router, roster=roster, store=store, hub=hub, lines=lines, failures=failures, gaps=gaps
        )
        self._upkeep = Upkeep(
            roster=roster, store=store, lines=lines, failures=failures, gaps=gaps, settings=settings,
            clock=clock, on_fall=self._stir,
        )  # fmt: skip
        self._judging = Judging(lines=lines, gaps=gaps, roster=roster, settings=settings, is_jammed=is_jammed)

    # --- heard from the road ---

    def note(self, feed: Feed, received_us: int, event_us: int, n: int, *, oldest_us: int) -> None:
        """So many rows of a feed came, the newest of `event_us`."""
        line = self._lines.of_feed(feed)
        if line is None:
            return
        line.note_data(received_us, event_us)
        self._gaps.joined(line, event_us, oldest_us=oldest_us)
        if line.state is not FeedState.LIVE:
            self._lines.become(line, FeedState.LIVE)

    def hear(self, word: Arrival) -> None:
        """What the plugin, or its handle, said of a feed."""
        line = self._lines.of_feed(word.feed)
        if line is None:
            return
        if word.is_up is False:
            self._gaps.lost(line)
            line.note_down()
            self._lines.become(line, FeedState.DOWN, word.reason)
            return
        if word.is_up:
            self._gaps.lost(line)
            line.note_up(word.received_us)
            self._lines.become(line, FeedState.LIVE)
        if word.pulse_us is not None and not line.is_down:
            line.note_pulse(word.pulse_us)
            self._gaps.joined(line, word.pulse_us)

    def unkept(self, update: BarUpdate) -> None:
        """Bars that closed or changed could not be stored, also those of a connection that is over by now."""
        feed = update.feed
        line = self._lines.of_supply(Supply(feed.kind, feed.instrument.symbol, feed.provider, feed.interval))
        if line is not None:
            self._gaps.unkept(line, update)

    # --- what others ask ---

    def facts(self) -> list[dict[str, object]]:
        """Every feed, then every wanted channel without one; plain data."""
        lines = sorted(self._lines.all(), key=lambda line: str(line.supply))
        unsupplied = sorted(self._allotment.unsupplied().items(), key=str)
        return [
            *(self._line_facts(line) | self._wanted_facts(line.channels) for line in lines),
            *(unsupplied_facts(channel, why) | self._wanted_facts({channel}) for channel, why in unsupplied),
        ]

    def supplies(self, channel: Channel) -> bool:
        """Whether a feed that works supplies the channel."""
        line = self._lines.of_channel(channel)
        return line is not None and line.is_made and line.state is not FeedState.DOWN

    def event_now_us(self, symbol: str, provider: str) -> int | None:
        """Now, on the clock of the trades that a provider streams; None: it streams none here, or none were heard of.

        No bar that was built of them is of a later period: pulses and trades are heard before it is closed.
        """
        line = self._lines.of_supply(Supply(FeedKind.TRADES, symbol, provider))
        return None if line is None or line.heard_us is None else line.event_now_us()

    def counts(self) -> Mapping[tuple[str, str], int]:
        """How many feeds of each provider are in each state."""
        return Counter((line.supply.provider, line.state.value) for line in self._lines.all())

    def failed(self) -> Mapping[str, int]:
        """How many attempts to have a feed of each provider have failed or ended."""
        return self._failures.failed()

    def _line_facts(self, line: Line) -> Facts:
        healing = [] if line.feed is None else self._healer.facts(line.feed)
        return line_facts(line, self._failures.of(line.supply).rests_s(), healing)

    def _wanted_facts(self, channels: Iterable[Channel]) -> Facts:
        return {
            "followers": sum(self._hub.followers(channel) for channel in channels),
            "is_collected": any(self._wants.is_collected(channel) for channel in channels),
        }

    # --- its life, and what wakes it ---

    async def work(self, tasks: trio.Nursery) -> None:
        """Agree, and agree anew whenever something has changed. Until cancelled."""
        tasks.start_soon(self._judging.judge_all)
        tasks.start_soon(self._judging.restart_the_deaf)
        while True:
            await self._allotment.agree(lambda line: tasks.start_soon(self._upkeep.keep, line))
            with trio.move_on_at(self._wants.next_end()):
                await self._stirred.receive()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """The roster tells us of ends and changes, while the block runs."""
        self._wants.on_change.append(self._stir)
        self._roster.on_change.append(self._provider_changed)
        self._roster.on_feed_end.append(self._feed_ended)
        try:
            yield
        finally:
            self._wants.on_change.remove(self._stir)
            self._roster.on_change.remove(self._provider_changed)
            self._roster.on_feed_end.remove(self._feed_ended)

    def _stir(self) -> None:
        with suppress(trio.WouldBlock):
            self._stir_in.send_nowait(None)

    def _feed_ended(self, feed: Feed, error: ProviderError) -> None:
        line = self._lines.of_feed(feed)
        if line is not None:
            line.end(error)

    def _provider_changed(self, slug: str) -> None:
        is_ready = any(state.slug == slug and state.state == "ready" for state in self._roster.all())
        if is_ready and slug not in self._ready:
            self._provider_came(slug)
        (self._ready.add if is_ready else self._ready.discard)(slug)
        self._stir()

    def _provider_came(self, slug: str) -> None:
        for supply in self._failures.spare(slug):
            line = self._lines.of_supply(supply)
            if line is not None:
                line.poke.set()


async def run_feeds(feeds: Feeds, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Runs until it is cancelled; every subscription is taken back then."""
    with feeds.listening():
        async with trio.open_nursery() as tasks:
            task_status.started()
            await feeds.work(tasks)
