"""What the API counts, and the gauges that are read off the server when somebody scrapes them."""

import time
from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from timebase.api.services import Services
from timebase.clock import now_us
from timebase.model.lru import ByteLru
from timebase.model.timerange import SECOND_US
from timebase.streaming.lags import BOUNDS_S

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

_HUB_GAUGES = {
    "followers": "Clients connected to a stream.",
    "channels": "Channels that somebody follows.",
    "waiting": "Events that wait for their followers, over all of them.",
    "deepest": "Events that wait for the slowest of them.",
    "ring_bytes": "About what is kept for those who resume.",
}
_HUB_COUNTERS = {
    "events": "Events shown to whoever follows.",
    "dropped": "Trades that were not delivered because their follower read too slowly.",
}


class Metrics:
    """Requests by route and status. Children are looked up once per pair: a label lookup costs more than the count."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "timebase_requests", "Requests answered.", ("route", "method", "status"), registry=registry
        )
        self._seconds = Histogram(
            "timebase_request_seconds",
            "From a request's head to its reply's first byte.",
            ("route",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._counters: dict[tuple[str, str, int], Counter] = {}
        self._histograms: dict[str, Histogram] = {}

    def count(self, route: str, method: str, status: int, began: float) -> None:
        """`began` is a time.perf_counter()."""
        method = method if method in _METHODS else "other"  # or anybody could make us count without end
        key = (route, method, status)
        counter = self._counters.get(key)
        if counter is None:
            counter = self._counters[key] = self._requests.labels(route, method, str(status))
            self._histograms[route] = self._seconds.labels(route)
        counter.inc()
        self._histograms[route].observe(time.perf_counter() - began)


def observe_server(services: Services, render_cache: ByteLru[Any, bytes]) -> None:
    """From now on the services' registry shows the server's parts, and the process it runs in."""
    services.registry.register(_ServerCollector(services, render_cache))
    ProcessCollector(namespace="timebase", registry=services.registry)


class _ServerCollector(Collector):
    """Gauges of the server's parts, read when scraped."""

    def __init__(self, services: Services, render_cache: ByteLru[Any, bytes]) -> None:
        self._services = services
        self._cache = render_cache

    def collect(self) -> Iterator[Metric]:
        services = self._services
        build = GaugeMetricFamily("timebase_build_info", "The server's version.", labels=("version",))
        build.add_metric((services.version,), 1)
        yield build
        uptime_s = (now_us() - services.started_us) / SECOND_US
        yield GaugeMetricFamily("timebase_uptime_seconds", "Since the server started.", uptime_s)
        yield GaugeMetricFamily("timebase_store_up", "1 when the database answers.", float(services.store.is_up))
        yield GaugeMetricFamily("timebase_render_cache_bytes", "Rendered bodies kept.", self._cache.bytes)
        yield CounterMetricFamily("timebase_render_cache_hits", "Bodies taken from the cache.", value=self._cache.hits)
        yield CounterMetricFamily("timebase_render_cache_misses", "Bodies rendered.", value=self._cache.misses)
        yield from self._spool()
        yield from self._actors()
        yield from self._providers()
        yield from self._hub()
        yield from self._feeds()
        yield from self._road()

    def _actors(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("timebase_actor_up", "1 while the actor is running.", labels=("actor",))
        for name, state in self._services.actors().items():
            up.add_metric((name,), float(state == "running"))
        yield up

    def _spool(self) -> Iterator[Metric]:
        spool = self._services.spool
        yield GaugeMetricFamily("timebase_spool_waiting", "Files that wait for the database.", len(spool))
        yield GaugeMetricFamily("timebase_spool_bytes", "What the spool takes on disk.", spool.bytes)
        yield GaugeMetricFamily("timebase_spool_limit_bytes", "What it may take: spool_mb.", spool.max_bytes)
        yield GaugeMetricFamily("timebase_spool_refusing", "1 while nothing more can be kept.", bool(spool.refusal))
        yield GaugeMetricFamily("timebase_spool_stuck", "Stored files that cannot be deleted.", spool.stuck)
        yield CounterMetricFamily("timebase_spool_lost", "Batches that could not be kept.", value=spool.lost)

    def _hub(self) -> Iterator[Metric]:
        hub = self._services.hub
        figures = hub.figures()
        for name, meaning in _HUB_GAUGES.items():
            yield GaugeMetricFamily(f"timebase_stream_{name}", meaning, figures[name])
        for name, meaning in _HUB_COUNTERS.items():
            yield CounterMetricFamily(f"timebase_stream_{name}", meaning, value=figures[name])
        ticks = CounterMetricFamily("timebase_ticks", "Trades and quotes that are stored, by rows.", labels=("kind",))
        for kind, n in hub.ticks.items():
            ticks.add_metric((kind,), n)
        yield ticks
        lag = HistogramMetricFamily(
            "timebase_stream_lag_seconds", "From the stage before: event, received, durable, sent.", labels=("stage",)
        )
        for stage, seen in (("received", hub.lags.received), ("durable", hub.lags.durable), ("sent", hub.lags.sent)):
            bounds = [*map(str, BOUNDS_S), "+Inf"]
            lag.add_metric((stage,), list(zip(bounds, seen.cumulative(), strict=True)), seen.sum_s)
        yield lag

    def _road(self) -> Iterator[Metric]:
        depth = GaugeMetricFamily("timebase_queue_depth", "Batches that wait between two stages.", labels=("queue",))
        for name, n in self._services.depths().items():
            depth.add_metric((name,), n)
        labels = ("provider", "kind", "rule")
        refused = CounterMetricFamily("timebase_refused_rows", "Live rows that a rule refused.", labels=labels)
        for names, n in self._services.refused().items():
            refused.add_metric(names, n)
        yield from (depth, refused)

    def _providers(self) -> Iterator[Metric]:
        labels = ("provider",)
        state = GaugeMetricFamily("timebase_provider_state", "1 for the state it is in.", labels=("provider", "state"))
        up = GaugeMetricFamily("timebase_provider_up", "1 when it can be asked.", labels=labels)
        memory = GaugeMetricFamily("timebase_provider_memory_bytes", "Resident memory of its process.", labels=labels)
        in_flight = GaugeMetricFamily("timebase_provider_in_flight", "Questions it is working on.", labels=labels)
        restarts = CounterMetricFamily("timebase_provider_restarts", "Times its process was restarted.", labels=labels)
        for each in self._services.roster.all():
            state.add_metric((each.slug, each.state), 1)
            up.add_metric((each.slug,), float(each.state == "ready"))
            memory.add_metric((each.slug,), each.memory_bytes)
            in_flight.add_metric((each.slug,), each.in_flight)
            restarts.add_metric((each.slug,), each.restarts)
        yield from (state, up, memory, in_flight, restarts)

    def _feeds(self) -> Iterator[Metric]:
        services = self._services
        state = GaugeMetricFamily("timebase_feeds", "Live feeds in each state.", labels=("provider", "state"))
        for names, n in services.feeds.counts().items():
            state.add_metric(names, n)
        failed = CounterMetricFamily(
            "timebase_feed_failures", "Times a feed fell or could not be had, to be made anew.", labels=("provider",)
        )
        for slug, n in services.feeds.failed().items():
            failed.add_metric((slug,), n)
        heals = CounterMetricFamily("timebase_heals", "Gaps of live series.", labels=("provider", "outcome"))
        for names, n in services.healer.outcomes.items():
            heals.add_metric(names, n)
        yield from (state, failed, heals)
