"""wanted channels -> [feeds] -> subscriptions at providers: planned, made, judged, made anew, healed.

For each wanted channel the router names who could supply it. The first becomes its supply: one subscription however
many channels and followers come from it. A feed that falls is made anew after a pause that grows, for ever; a channel
that names no provider goes to the next one meanwhile, and stays there until that one falls.
"""

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from typing import Protocol

import trio

from timebase.clock import now_us
from timebase.errors import (
    AuthFailed,
    ProviderError,
    RateLimited,
    StoreUnavailable,
    SymbolNotFound,
    Unavailable,
    Unsupported,
    Upstream,
)
from timebase.live.line import Line
from timebase.live.rhythm import judge
from timebase.live.settings import LiveSettings
from timebase.live.supply import Supply, choose
from timebase.live.wants import Wants
from timebase.model.calendar import Calendar, zone_of
from timebase.model.feed import Channel, Feed, FeedKind, FeedState
from timebase.model.instrument import Instrument, listed_or_guessed
from timebase.model.interval import Interval
from timebase.model.live import Arrival
from timebase.model.series import Series, TickSeries
from timebase.model.timerange import DAY_US, SECOND_US
from timebase.router.router import Plan
from timebase.supervisor.backoff import HEALTHY_S, Backoff

log = logging.getLogger(__name__)

HOPELESS = (Unsupported, SymbolNotFound, AuthFailed)  # asking the same provider again soon cannot help
RETURNING = frozenset({"stopping", "backing_off", "starting"})  # states of a provider whose process fell
NO_PROVIDER = "no_provider"  # the code of a channel that nobody can supply
SPARE_S = 30.0  # a process that is new ends the rests of its feeds, but not more often
FORGET_S = 600.0  # a failure that is so long past says nothing any more
RESTART_S = 30.0
JUST_UP_S = 5.0  # the gap before a feed that is up but silent need not wait longer for its first word


class Handle(Protocol):
    """One provider, as far as streams go; see supervisor/handle.py. Raises: ProviderError."""

    async def wait_ready(self) -> None: ...
    def subscribe(self, feed: Feed) -> None: ...
    def unsubscribe(self, feed: Feed) -> None: ...
    async def restart(self) -> None: ...


class State(Protocol):
    @property
    def slug(self) -> str: ...
    @property
    def state(self) -> str: ...


class Roster(Protocol):
    """The providers; see supervisor/roster.py."""

    on_change: list[Callable[[str], None]]
    on_feed_end: list[Callable[[Feed, ProviderError], None]]

    def all(self) -> Sequence[State]: ...
    def get(self, slug: str, /) -> Handle | None: ...
    def symbols(self) -> Sequence[Instrument]: ...


class Planner(Protocol):
    def plan_stream(self, channel: Channel, instrument: Instrument) -> Plan: ...


class Store(Protocol):
    """Raises: StoreUnavailable."""

    async def instrument(self, symbol: str) -> Instrument | None: ...
    async def upsert_instruments(self, given: Sequence[Instrument]) -> Sequence[Instrument]: ...
    async def series(self, instrument: Instrument, provider: str, interval: Interval) -> Series: ...
    async def tick_series(self, instrument: Instrument, provider: str, kind: str) -> TickSeries: ...


class Topics(Protocol):
    """Who shows it; see streaming/hub.py."""

    def bind(self, channel: Channel, provider: str | None) -> None: ...
    def tell_state(self, feed: Feed, state: FeedState, since_us: int, reason: str = "") -> None: ...
    def refuse(self, channel: Channel, code: str, message: str) -> None: ...
    def followers(self, channel: Channel) -> int: ...


class Healing(Protocol):
    """Who fetches what a feed missed; see live/healer.py."""

    def owe(
        self,
        feed: Feed,
        interval: Interval,
        from_us: int | None,
        joined_us: int,
        *,
        has_traded: bool,
        event_now_us: Callable[[], int],
    ) -> None: ...
    def facts(self, feed: Feed) -> Sequence[Mapping[str, object]]: ...


@dataclass(slots=True)
class Failures:
    """What a supply has been through. Units: seconds of trio's clock."""

    backoff: Backoff = field(default_factory=Backoff)
    in_a_row: int = 0
    until: float = -math.inf
    is_hopeless: bool = False
    is_unavailable: bool = False
    spared_at: float = -math.inf  # when a rest was last ended early

    def rests_s(self) -> float:
        return self.until - trio.current_time()


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
        self._wants = wants
        self._router = router
        self._roster = roster
        self._store = store
        self._hub = hub
        self._healer = healer
        self._settings = settings or LiveSettings()
        self._clock = clock
        self._is_jammed = is_jammed
        self._ids = count(1)
        self._lines: dict[Supply, Line] = {}
        self._by_channel: dict[Channel, Line] = {}
        self._by_feed: dict[int, Line] = {}
        self._failures: dict[Supply, Failures] = {}
        self._good_until: dict[Channel, int] = {}  # event time at which a channel's feed was lost
        self._unsupplied: dict[Channel, str] = {}
        self._ready: set[str] = set()
        self._restarted: dict[str, float] = {}
        self._judge_from = -math.inf
        self._failed: Counter[str] = Counter()
        self._stir_in, self._stirred = trio.open_memory_channel[None](1)  # one that waits says it all

    # --- heard from the road ---

    def note(self, feed: Feed, received_us: int, event_us: int, n: int, *, oldest_us: int) -> None:
        """So many rows of a feed are durable, the newest of `event_us`."""
        line = self._by_feed.get(feed.id)
        if line is None:
            return
        line.note_data(received_us, event_us)
        self._joined(line, event_us, oldest_us=oldest_us)
        if line.state is not FeedState.LIVE:
            self._become(line, FeedState.LIVE)

    def hear(self, word: Arrival) -> None:
        """What the plugin, or its handle, said of a feed."""
        line = self._by_feed.get(word.feed.id)
        if line is None:
            return
        if word.is_up is False:
            self._lost(line)
            line.note_down(word.received_us)
            self._become(line, FeedState.DOWN, word.reason)
            return
        if word.is_up:
            line.note_up(word.received_us)
            self._become(line, FeedState.LIVE)
        if word.pulse_us is not None and line.down_us is None:
            line.note_pulse(word.received_us, word.pulse_us)
            self._joined(line, word.pulse_us)

    # --- what the API shows ---

    def facts(self) -> list[dict[str, object]]:
        """Every feed, then every wanted channel without one; plain data."""
        lines = sorted(self._lines.items(), key=lambda each: str(each[0]))
        return [
            *(line.facts() | self._wanted_facts(line.channels) | self._rest_facts(supply) for supply, line in lines),
            *(self._unsupplied_facts(channel, why) for channel, why in sorted(self._unsupplied.items(), key=str)),
        ]

    def supplies(self, channel: Channel) -> bool:
        """Whether a feed that works supplies the channel."""
        line = self._by_channel.get(channel)
        return line is not None and line.is_made and line.state is not FeedState.DOWN

    def event_now_us(self, symbol: str, provider: str) -> int | None:
        """Now, on the clock of the trades that a provider streams; None: it streams none here, or none were heard of.

        No bar that was built of them is of a later period: pulses and trades are heard before it is closed.
        """
        line = self._lines.get(Supply(FeedKind.TRADES, symbol, provider))
        return None if line is None or line.heard_us is None else line.event_now_us()

    def counts(self) -> Mapping[tuple[str, str], int]:
        """How many feeds of each provider are in each state."""
        return Counter((line.supply.provider, line.state.value) for line in self._lines.values())

    def failed(self) -> Mapping[str, int]:
        """How many attempts to have a feed of each provider have failed or ended."""
        return self._failed

    def _wanted_facts(self, channels: set[Channel]) -> dict[str, object]:
        return {
            "followers": sum(self._hub.followers(channel) for channel in channels),
            "is_collected": any(self._wants.is_collected(channel) for channel in channels),
        }

    def _rest_facts(self, supply: Supply) -> dict[str, object]:
        failures = self._failures.get(supply, Failures())
        line = self._lines.get(supply)
        healing = [] if line is None or line.feed is None else self._healer.facts(line.feed)
        return {"retry_in_s": round(max(0.0, failures.rests_s()), 1), "healing": healing}

    def _unsupplied_facts(self, channel: Channel, why: str) -> dict[str, object]:
        return {
            "kind": channel.kind.value, "symbol": channel.symbol,
            "interval": channel.interval and channel.interval.value, "provider": channel.provider,
            "channels": [str(channel)], "state": FeedState.DOWN.value, "since": None, "reason": why, "attempts": 0,
            "made": 0, "last_event": None, "last_received": None, "usual_pause_s": None,
            "retry_in_s": 0.0, "healing": [], **self._wanted_facts({channel}),
        }  # fmt: skip

    # --- wants and feeds are made to agree ---

    async def agree(self, lines: trio.Nursery) -> None:
        """Every wanted channel has a line if anybody can supply it, and every line a channel."""
        wanted = self._wants.all()
        for channel in [each for each in (*self._by_channel, *self._unsupplied) if each not in wanted]:
            self._let_go(channel)
        for channel in sorted(wanted, key=str):
            if self._is_well_supplied(channel):
                continue
            instrument = await self._instrument(channel.symbol)
            self._supply(channel, instrument, lines)
        self._forget_old_failures()

    def _is_well_supplied(self, channel: Channel) -> bool:
        """One that its channels had better leave is looked at each time."""
        line = self._by_channel.get(channel)
        if line is None or line.scope.cancel_called:
            return False
        failures = self._failures.get(line.supply)
        return line.is_made or failures is None or not self._gives_way(failures)

    def _gives_way(self, failures: Failures) -> bool:
        return failures.is_hopeless or failures.in_a_row >= self._settings.give_way_after

    def _supply(self, channel: Channel, instrument: Instrument, lines: trio.Nursery) -> None:
        plan = self._router.plan_stream(channel, instrument)
        supply = choose(channel, plan, self._rests_s)
        if supply is None:
            self._leave_unsupplied(channel, plan)
            return
        self._unsupplied.pop(channel, None)
        line = self._by_channel.get(channel)
        if line is not None and line.supply == supply:
            return
        if line is not None:
            log.info("%s goes from %s to %s: %s", channel, line.supply.provider, supply.provider, line.reason)
            self._detach(channel)
        self._attach(channel, supply, instrument, lines)

    def _attach(self, channel: Channel, supply: Supply, instrument: Instrument, lines: trio.Nursery) -> None:
        line = self._lines.get(supply)
        if line is None or line.scope.cancel_called:
            line = self._lines[supply] = Line(supply, instrument, self._clock)
            lines.start_soon(self._keep, line)
        line.channels.add(channel)
        self._by_channel[channel] = line
        if channel.provider is None:
            self._hub.bind(channel, supply.provider)
        if line.feed is not None:
            self._hub.tell_state(line.feed, line.state, line.since_us, line.reason)
        if line.joined_us is not None:
            self._owe(line, channel, line.joined_us)

    def _leave_unsupplied(self, channel: Channel, plan: Plan) -> None:
        reasons = "; ".join(f"{refused.slug}: {refused.reason}" for refused in plan.refused)
        why = f"no provider streams it ({reasons or 'there is none'})"
        if channel in self._by_channel:
            self._detach(channel)
        if self._unsupplied.get(channel) != why:
            self._unsupplied[channel] = why
            self._hub.refuse(channel, NO_PROVIDER, f"{channel}: {why}")

    def _let_go(self, channel: Channel) -> None:
        """Nobody wants it any more."""
        self._unsupplied.pop(channel, None)
        if channel in self._by_channel:
            self._detach(channel)

    def _detach(self, channel: Channel) -> None:
        line = self._by_channel.pop(channel)
        line.channels.discard(channel)
        if line.joined_us is not None:
            self._good_until.setdefault(channel, line.heard_us or line.joined_us)
        if channel.provider is None:
            self._hub.bind(channel, None)
        if not line.channels:
            line.scope.cancel()

    async def _instrument(self, symbol: str) -> Instrument:
        """Planning does not wait for a database that is away."""
        try:
            known = await self._store.instrument(symbol)
        except StoreUnavailable:
            known = None
        return known or listed_or_guessed(symbol, self._roster.symbols())

    def _rests_s(self, supply: Supply) -> float:
        failures = self._failures.get(supply)
        return failures.rests_s() if failures is not None and self._gives_way(failures) else 0.0

    def _forget_old_failures(self) -> None:
        now = trio.current_time()
        for supply in [each for each, failures in self._failures.items() if failures.until + FORGET_S < now]:
            if supply not in self._lines:
                del self._failures[supply]

    # --- one feed's life ---

    async def _keep(self, line: Line) -> None:
        """Have the feed, and have it again, until nobody wants it."""
        try:
            with line.scope:
                await self._rest(line, self._failures.get(line.supply, Failures()).rests_s())
                while True:
                    error = await self._have(line)
                    await self._rest(line, self._fell(line, error))
        finally:
            if self._lines.get(line.supply) is line:
                del self._lines[line.supply]

    async def _have(self, line: Line) -> ProviderError | StoreUnavailable:
        """Returns why it has ended, or why it could not be had."""
        try:
            feed = await self._feed(line)
            handle = await self._handle(line.supply.provider)
        except (ProviderError, StoreUnavailable) as error:
            return error
        try:
            line.open(feed)
            self._by_feed[feed.id] = line
            self._become(line, FeedState.CONNECTING, line.reason if line.attempts else "")
            handle.subscribe(feed)
            return await line.ended()
        except ProviderError as error:
            return error
        finally:
            line.is_made = False
            del self._by_feed[feed.id]
            handle.unsubscribe(feed)

    async def _feed(self, line: Line) -> Feed:
        """A feed of its own for each connection, so that what is late of the one before is not taken for news.

        Its series are made when the database is there. Raises: StoreUnavailable.
        """
        if line.feed is None:
            supply = line.supply
            instrument = await self._store.instrument(supply.symbol)
            if instrument is None or not instrument.id:
                (instrument,) = await self._store.upsert_instruments((line.instrument,))
            line.instrument = instrument
            intervals = _built(supply)
            bars = {each: await self._store.series(instrument, supply.provider, each) for each in intervals}
            ticks = None
            if supply.kind is not FeedKind.BARS:
                ticks = await self._store.tick_series(instrument, supply.provider, supply.kind.value)
            return Feed(next(self._ids), supply.kind, instrument, supply.provider, supply.interval, ticks, bars)
        return replace(line.feed, id=next(self._ids))

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
        self._lost(line)
        healthy_s = line.lived_us / SECOND_US
        failures = self._failures.setdefault(line.supply, Failures())
        failures.in_a_row = 1 if healthy_s >= HEALTHY_S else failures.in_a_row + 1
        self._failed[line.supply.provider] += 1
        is_still_away = failures.is_unavailable and isinstance(error, Unavailable) and self._is_away(line)
        failures.is_hopeless = isinstance(error, HOPELESS)
        failures.is_unavailable = isinstance(error, Unavailable)
        pause_s = failures.backoff.pause_s(healthy_s)
        if failures.is_hopeless:
            pause_s = max(pause_s, self._settings.hopeless_s)
        if isinstance(error, RateLimited):
            pause_s = max(pause_s, error.retry_after_s or 0.0)
        failures.until = trio.current_time() + pause_s
        line.attempts = failures.in_a_row
        log.info("%s: %s; made anew in %.1f s", line.supply, error, pause_s)
        if line.state is not FeedState.MUTE and not is_still_away:
            self._become(line, FeedState.DOWN, f"{error.code}: {error}")
        self._stir()
        return pause_s

    def _is_away(self, line: Line) -> bool:
        """Whether its followers know already that it is down, because its provider's process is, which is to return."""
        states = {state.slug: state.state for state in self._roster.all()}
        return line.state is FeedState.DOWN and states.get(line.supply.provider) in RETURNING

    async def _rest(self, line: Line, pause_s: float) -> None:
        """A provider that becomes ready ends the rest of those that only waited for it."""
        line.poke = trio.Event()
        with trio.move_on_after(max(0.0, pause_s)):
            await line.poke.wait()

    def _become(self, line: Line, state: FeedState, reason: str = "") -> None:
        if line.become(state, reason) and line.feed is not None:
            self._hub.tell_state(line.feed, line.state, line.since_us, line.reason)

    # --- gaps ---

    def _lost(self, line: Line) -> None:
        """The feed has gone, or is about to: what comes from now on may be missing."""
        if line.joined_us is None:
            return
        good_until_us = line.heard_us or line.joined_us
        line.lose()
        for channel in line.channels:
            self._good_until.setdefault(channel, good_until_us)

    def _joined(self, line: Line, event_us: int, *, oldest_us: int | None = None) -> None:
        """The first sign of life of a connection, which may be many trades: what was missed until then is owed."""
        if line.joined_us is None:
            line.join(event_us)
            for channel in line.channels:
                self._owe(line, channel, event_us, oldest_us=oldest_us)

    def _owe(self, line: Line, channel: Channel, joined_us: int, *, oldest_us: int | None = None) -> None:
        """The periods from where the channel was lost to the one in which it is there again, that one included.

        Nothing for who comes to a feed later than in its first period: what was before, it asks for itself.
        """
        from_us = self._good_until.pop(channel, None)
        if from_us is not None:
            from_us = max(from_us, joined_us - self._settings.heal_back_days * DAY_US)
        if channel.interval is None or line.feed is None:
            return
        owe = partial(
            self._healer.owe, line.feed, channel.interval, has_traded=oldest_us is not None,
            event_now_us=line.event_now_us,
        )  # fmt: skip
        if from_us is None:
            if self._wants.is_collected(channel):
                owe(from_us=None, joined_us=joined_us)
            elif _is_over(line.feed, channel.interval, joined_us, line.event_now_us()):
                return
            from_us = joined_us if oldest_us is None else oldest_us
        owe(from_us=from_us, joined_us=joined_us)

    def _owe_meanwhile(self, line: Line) -> None:
        """It is up, and there is nothing to hear yet: what was missed until now need not wait for that."""
        if line.is_owed_meanwhile or line.feed is None:
            return
        line.is_owed_meanwhile = True
        for channel in line.channels:
            from_us = self._good_until.get(channel)
            if from_us is not None and channel.interval is not None:
                self._healer.owe(
                    line.feed, channel.interval, from_us, line.event_now_us(), has_traded=False,
                    event_now_us=line.event_now_us,
                )  # fmt: skip

    # --- judged ---

    async def judge_all(self) -> None:
        """Every feed, every `look_s`, until cancelled."""
        while True:
            await trio.sleep(self._settings.look_s)
            if self._is_jammed():
                self._judge_from = trio.current_time() + self._settings.patience.floor_s
            elif trio.current_time() >= self._judge_from:
                for line in tuple(self._lines.values()):
                    if line.is_made:
                        self._judge(line)

    def _judge(self, line: Line) -> None:
        if line.down_us is not None:
            self._judge_down(line, (self._clock() - line.down_us) / SECOND_US)
            return
        state, reason = judge(line.signs(), self._settings.patience)
        if state is not FeedState.CONNECTING:
            self._become(line, state, reason)
        if state is FeedState.MUTE:
            self._make_anew(line, Upstream(f"mute: {reason}"))
        elif line.has_begun and line.joined_us is None and line.up_s() > JUST_UP_S:
            self._owe_meanwhile(line)

    def _judge_down(self, line: Line, down_s: float) -> None:
        """The plugin reconnects to its vendor by itself, and is helped when it does not get anywhere."""
        if down_s > self._settings.down_s * 2.0 ** min(line.mutes, 5):
            self._make_anew(line, Upstream(f"down for {down_s:.0f} s: {line.reason}"))

    def _make_anew(self, line: Line, error: ProviderError) -> None:
        log.warning("%s: %s", line.supply, error)
        if not line.mutes:
            line.first_mute_us = self._clock()
        line.mutes += 1
        line.end(error)

    async def restart_the_deaf(self) -> None:
        """Start a provider's process anew where making its feeds anew has not helped any of them. Until cancelled."""
        while True:
            await trio.sleep(self._settings.look_s)
            for slug in sorted({line.supply.provider for line in self._lines.values()}):
                handle = self._roster.get(slug)
                if handle is not None and self._is_deaf(slug):
                    log.warning("%s is started anew: its feeds stay mute", slug)
                    self._restarted[slug] = trio.current_time()
                    with trio.move_on_after(RESTART_S):
                        await handle.restart()

    def _is_deaf(self, slug: str) -> bool:
        """None of its feeds has had a word since the first of them was made anew in vain, in hours of trading."""
        rested = trio.current_time() - self._restarted.get(slug, -math.inf) >= self._settings.restart_rest_s
        lines = [line for line in self._lines.values() if line.supply.provider == slug]
        mute = [line for line in lines if line.mutes >= self._settings.restart_mutes and line.signs().is_open]
        if not rested or not mute:
            return False
        first_us = min(line.first_mute_us for line in mute)
        return all((line.last_received_us or 0) < first_us for line in lines)

    # --- what wakes it ---

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

    async def wait(self) -> None:
        """Until there may be something to agree on anew."""
        with trio.move_on_at(self._wants.next_end()):
            await self._stirred.receive()

    def _stir(self) -> None:
        with suppress(trio.WouldBlock):
            self._stir_in.send_nowait(None)

    def _feed_ended(self, feed: Feed, error: ProviderError) -> None:
        line = self._by_feed.get(feed.id)
        if line is not None:
            line.end(error)

    def _provider_changed(self, slug: str) -> None:
        is_ready = any(state.slug == slug and state.state == "ready" for state in self._roster.all())
        if is_ready and slug not in self._ready:
            self._provider_came(slug)
        (self._ready.add if is_ready else self._ready.discard)(slug)
        self._stir()

    def _provider_came(self, slug: str) -> None:
        """Another process, perhaps with other code or another key: what was hopeless may not be any more."""
        now = trio.current_time()
        for supply, failures in self._failures.items():
            is_concerned = supply.provider == slug and (failures.is_hopeless or failures.is_unavailable)
            if is_concerned and now >= failures.spared_at + SPARE_S:
                failures.until = failures.spared_at = now
                failures.is_hopeless = False
                line = self._lines.get(supply)
                if line is not None:
                    line.poke.set()


def _built(supply: Supply) -> tuple[Interval, ...]:
    """The intervals of the bars that come from it."""
    if supply.kind is FeedKind.TRADES:
        return tuple(Interval)
    return () if supply.interval is None else (supply.interval,)


def _is_over(feed: Feed, interval: Interval, at_us: int, now_us: int) -> bool:
    """Whether the period that holds an instant is."""
    calendar = Calendar(zone_of(feed.instrument))
    return calendar.ends_us(interval, calendar.stamp_at(interval, at_us)) <= now_us


async def run_feeds(feeds: Feeds, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Runs until it is cancelled; every subscription is taken back then."""
    with feeds.listening():
        async with trio.open_nursery() as lines:
            lines.start_soon(feeds.judge_all)
            lines.start_soon(feeds.restart_the_deaf)
            task_status.started()
            while True:
                await feeds.agree(lines)
                await feeds.wait()
