"""The server on one page: resources, channels and actors, in the order in which the data flows.

    plugin -> link -> supervisor -> raw -> validator -> good -> writer -> durable -> hub -> tickets -> history -> API

Data goes down, demands go up: a question becomes demands (history), a demand finds its provider (router), the
provider's handle (supervisor) sends what the plugin answers into `raw`, and the question reads from the store once its
tickets are complete. Nurseries are nested in the order of shutdown: the API first, then the fetches under way, the
providers, the road.
"""

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from typing import Any

import trio
from prometheus_client import CollectorRegistry

from timebase.actors import Actors
from timebase.aggregation.aggregator import run_aggregator
from timebase.aggregation.bar_builder import Building
from timebase.api.server import run_api
from timebase.api.services import ApiSettings
from timebase.clock import SteadyClock, now_us
from timebase.config import Settings
from timebase.history.answer import Answer, Completion
from timebase.history.fetcher import Fetcher
from timebase.history.historian import Historian
from timebase.history.reader import Reader
from timebase.history.tickets import Tickets, run_tickets
from timebase.live.collector import Collector, run_collector
from timebase.live.feeds import Feeds, run_feeds
from timebase.live.healer import Healer, run_healer
from timebase.live.seam import Seam
from timebase.live.settings import LiveSettings
from timebase.live.wants import Wants
from timebase.model.bars import Batch, Durable
from timebase.model.demand import Question
from timebase.model.live import DurableLive, Live, LiveBatch
from timebase.model.lru import ByteLru
from timebase.model.receipt import Attempt
from timebase.model.replay import REPLAY_SLUG
from timebase.model.timerange import SECOND_US
from timebase.quality.live import Refusals
from timebase.quality.validator import run_validator
from timebase.registrar import run_registrar
from timebase.replay import Replay, run_replay
from timebase.router.pruner import run_pruner
from timebase.router.router import Router
from timebase.router.rules import parse_rules
from timebase.router.settings import RouterSettings
from timebase.storage.housekeeping import Retention, run_housekeeping
from timebase.storage.roll_up import run_roll_up
from timebase.storage.spool import Spool, open_spool
from timebase.storage.store import Store, open_store
from timebase.storage.writer import run_writer
from timebase.streaming.hub import Hub, run_hub
from timebase.supervisor.install import Installer
from timebase.supervisor.process import Home
from timebase.supervisor.roster import Roster
from timebase.supervisor.settings import SupervisorSettings
from timebase.supervisor.supervisor import run_supervisor
from timebase.turn import Turn

BATCHES_IN_FLIGHT = 4  # of at most 65,536 bars each: enough to keep every stage busy, 13 MB per channel at worst
DRAIN_S = 20.0  # for accepted batches to reach the store after the stop
BARS_SHARE = 0.7  # of the cache: columns, so that a million bars fit; the rest holds rendered replies


async def run(settings: Settings, stop: trio.Event, started: Callable[[int], None]) -> None:
    """Serve until `stop` is set, then let every accepted batch reach the store. `started` is told the port.

    Raises: ConfigError, StoreUnavailable when it cannot start.
    """
    with open_spool(settings.data_dir / "spool", settings.spool_mb << 20) as spool:
        async with store_of(settings) as store:
            await store.upkeep.apply_aliases(settings.aliases)
            await _serve(settings, store, spool, stop, started)


async def _serve(
    settings: Settings, store: Store, spool: Spool, stop: trio.Event, started: Callable[[int], None]
) -> None:
    actors, roster, tickets, hub, refusals = Actors(), Roster(), Tickets(), Hub(now_us), Refusals()
    steady, turn = SteadyClock(), Turn()
    async with trio.open_nursery() as road:
        raw_in, raw_out = trio.open_memory_channel[Batch | Live](BATCHES_IN_FLIGHT)
        good_in, good_out = trio.open_memory_channel[Batch | Live](BATCHES_IN_FLIGHT)
        built_in, built_out = trio.open_memory_channel[Batch | LiveBatch](1)  # never more: see Turn
        durable_in, durable_out = trio.open_memory_channel[Durable | DurableLive](BATCHES_IN_FLIGHT)
        past_in, past_out = trio.open_memory_channel[Durable](BATCHES_IN_FLIGHT)

        # Downstream first: nobody sends before there is someone to receive.
        await actors.start(road, "tickets", run_tickets, past_out, tickets)
        await actors.start(road, "hub", run_hub, durable_out, past_in, hub)
        await actors.start(road, "writer", partial(run_writer, turn=turn), built_out, durable_in, store, spool)
        aggregate = partial(run_aggregator, building=building_of(settings), is_followed=hub.is_followed, turn=turn)
        await actors.start(road, "aggregator", aggregate, good_out, built_in)
        validate = partial(run_validator, asset_class=store.asset_class, refusals=refusals, latest_us=steady.latest_us)
        await actors.start(road, "validator", validate, raw_out, good_in)
        queues: dict[str, trio.MemorySendChannel[Any]] = {
            "raw": raw_in,
            "good": good_in,
            "built": built_in,
            "durable": durable_in,
        }

        router = Router(roster, store, router_settings(settings))
        async with trio.open_nursery() as providers:
            supervised = supervisor_settings(settings)
            supervise = partial(run_supervisor, earliest_us=steady.earliest_us)
            await actors.start(providers, "supervisor", supervise, supervised, roster, raw_in, router.spend)
            await actors.start(providers, "registrar", run_registrar, store, roster)
            await actors.start(providers, "pruner", run_pruner, router)
            await actors.start(providers, "housekeeping", run_housekeeping, store, retention_of(settings))
            if store.has_timescale:
                await actors.start(providers, "roll-up", run_roll_up, store)
            async with trio.open_nursery() as flights:  # they outlast the questions that are being answered
                historian = historian_of(settings, store, spool, router, roster, tickets, flights)
                live = live_of(settings, store, router, roster, historian, hub, raw_in, steady)
                replay = replay_of(settings)
                async with trio.open_nursery() as followed:  # clients leave before their feeds end
                    await actors.start(followed, "healer", run_healer, live.healer)
                    await actors.start(followed, "feeds", run_feeds, live.feeds)
                    await actors.start(followed, "collector", run_collector, live.collector)
                    await actors.start(followed, "replay", run_replay, replay, live.wants)
                    async with trio.open_nursery() as clients:
                        services = Services(
                            roster, store, spool, historian, router, Installer(supervised, roster), replay, hub,
                            Seam(hub, historian, store, live.feeds, steady.latest_us), live.feeds, live.healer,
                            live.collector, actors.states, queues, refusals,
                        )  # fmt: skip
                        replies: ByteLru[object, bytes] = ByteLru(int((settings.cache_mb << 20) * (1 - BARS_SHARE)))
                        started(await actors.start(clients, "api", run_api, services, api_settings(settings), replies))
                        await stop.wait()
                        clients.cancel_scope.cancel()
                    followed.cancel_scope.cancel()
                flights.cancel_scope.cancel()
            providers.cancel_scope.cancel()
        # raw_in is closed now: each actor ends when its inbox does, left to right.
        road.cancel_scope.deadline = trio.current_time() + DRAIN_S


@dataclass(frozen=True, slots=True)
class Services:
    """What the API is handed: see api/services.py."""

    roster: Roster
    store: Store
    spool: Spool
    historian: Historian
    router: Router
    installer: Installer
    replay: Replay
    hub: Hub
    seam: Seam
    feeds: Feeds
    healer: Healer
    collector: Collector
    states: Mapping[str, str]
    queues: Mapping[str, trio.MemorySendChannel[Any]]
    refusals: Refusals
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    version: str = field(default_factory=lambda: version("timebase-server"))
    started_us: int = field(default_factory=now_us)

    def actors(self) -> Mapping[str, str]:
        return self.states

    def routing(self, slug: str) -> Mapping[str, object]:
        return self.router.facts(slug)

    def depths(self) -> Mapping[str, int]:
        return {name: queue.statistics().current_buffer_used for name, queue in self.queues.items()}

    def refused(self) -> Mapping[tuple[str, str, str], int]:
        return self.refusals.by_rule()

    async def answer(self, question: Question, attempts: list[Attempt]) -> Answer:
        return await self.historian.answer(question, attempts)

    async def complete(self, question: Question, attempts: list[Attempt]) -> Completion:
        return await self.historian.complete(question, attempts)

    async def explain(self, question: Question) -> Mapping[str, object]:
        return await self.historian.explain(question)


def store_of(settings: Settings) -> AbstractAsyncContextManager[Store]:
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    return open_store(
        settings.database_url, settings.data_dir.absolute(), compress_after_days=settings.compress_after_days
    )


def replay_of(settings: Settings) -> Replay:
    return Replay(Home.of(settings.data_dir, REPLAY_SLUG).cache)


def retention_of(settings: Settings) -> Retention:
    return Retention(
        intraday_days=settings.retention_intraday_days,
        daily_days=settings.retention_daily_days,
        ticks_days=settings.retention_ticks_days,
    )


def historian_of(
    settings: Settings,
    store: Store,
    spool: Spool,
    router: Router,
    roster: Roster,
    tickets: Tickets,
    nursery: trio.Nursery,
) -> Historian:
    fetcher = Fetcher(
        store=store,
        spool=spool,
        router=router,
        roster=roster,
        tickets=tickets,
        aliases=settings.aliases,
        nursery=nursery,
        refresh_s=settings.refresh_s,
        patience_s=settings.patience_s,
    )
    reader = Reader(store, ByteLru(int((settings.cache_mb << 20) * BARS_SHARE)))
    return Historian(store=store, router=router, roster=roster, fetcher=fetcher, reader=reader)


@dataclass(frozen=True, slots=True)
class LiveRooms:
    wants: Wants
    feeds: Feeds
    healer: Healer
    collector: Collector


def live_of(
    settings: Settings,
    store: Store,
    router: Router,
    roster: Roster,
    historian: Historian,
    hub: Hub,
    raw_in: trio.MemorySendChannel[Batch | Live],
    steady: SteadyClock,
) -> LiveRooms:
    """What makes wanted channels live; from now on the hub tells it who wants what, and what has come."""
    numbers = LiveSettings(linger_s=settings.linger_s)

    def delay_s(slug: str | None) -> float:
        handle = None if slug is None else roster.get(slug)
        return 0.0 if handle is None else handle.manifest.delay_s

    def is_jammed() -> bool:
        return raw_in.statistics().tasks_waiting_send > 0

    wants = Wants(numbers.linger_s)
    healer = Healer(
        historian=historian, store=store, hub=hub, delay_s=delay_s, settings=numbers, earliest_us=steady.earliest_us
    )
    feeds = Feeds(
        wants=wants, router=router, roster=roster, store=store, hub=hub, healer=healer, settings=numbers,
        clock=steady.earliest_us, is_jammed=is_jammed,
    )  # fmt: skip
    hub.attach(wants, feeds)
    collector = Collector(
        wants=wants, store=store, feeds=feeds, historian=historian, roster=roster, settings=numbers,
        delay_s=lambda line: delay_s(line.provider), earliest_us=steady.earliest_us,
    )  # fmt: skip
    return LiveRooms(wants, feeds, healer, collector)


def building_of(settings: Settings) -> Building:
    return Building(lateness_us=int(settings.lateness_s * SECOND_US), fills_quiet=settings.fill_quiet)


def api_settings(settings: Settings) -> ApiSettings:
    return ApiSettings(host=settings.host, port=settings.port, token=settings.token, ask_s=settings.ask_s)


def router_settings(settings: Settings) -> RouterSettings:
    return RouterSettings(
        rules=parse_rules(settings.routing),
        breaker_failures=settings.breaker_failures,
        breaker_open_s=settings.breaker_open_s,
        breaker_successes=settings.breaker_successes,
        max_budget_wait_s=settings.max_budget_wait_s,
        max_retries=settings.max_retries,
    )


def supervisor_settings(settings: Settings) -> SupervisorSettings:
    return SupervisorSettings(
        manifests=tuple(folder.absolute() for folder in settings.manifests),
        data_dir=settings.data_dir.absolute(),
        environ=os.environ,
        providers=settings.providers,
    )
