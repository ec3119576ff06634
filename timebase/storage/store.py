"""The trio side of storage: what history, the API and the writer ask of the database.

Every method raises StoreUnavailable when the database is away, and StoreFault when it refuses.
"""

import difflib
import logging
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import numpy as np
from numpy.typing import NDArray

from timebase.clock import now_us
from timebase.errors import ConfigError
from timebase.model.bars import Bars, Batch, Durable
from timebase.model.collected import Collected
from timebase.model.feed import FeedKind
from timebase.model.instrument import AssetClass, CorporateAction, Instrument, classify
from timebase.model.interval import Interval
from timebase.model.live import DurableLive, LiveBatch
from timebase.model.lru import ByteLru
from timebase.model.series import Series, TickSeries
from timebase.model.ticks import Quotes, TickPlace, Trades
from timebase.model.timerange import Ranges, TimeRange
from timebase.storage.annex import Annex, Connection, open_annex
from timebase.storage.coverage import Coverage, Ledger, settled_then
from timebase.storage.delivery import Delivery
from timebase.storage.embedded import Cluster, open_embedded
from timebase.storage.faults import StoreFault, is_misconfigured
from timebase.storage.gather import gather
from timebase.storage.migrate import Migrated, migrate
from timebase.storage.put import put_batches
from timebase.storage.put_live import put_live
from timebase.storage.queries import bars as bar_queries
from timebase.storage.queries import batches as batch_queries
from timebase.storage.queries import (
    budgets,
    collected,
    corporate_actions,
    hypertable,
    instruments,
    providers,
    quarantine,
    replayed,
)
from timebase.storage.queries import coverage as coverage_queries
from timebase.storage.queries import live as live_queries
from timebase.storage.queries import series as series_queries
from timebase.storage.queries import ticks as tick_queries
from timebase.storage.queries.bars import Holding
from timebase.storage.queries.batches import Provenance
from timebase.storage.queries.budgets import BudgetTake
from timebase.storage.queries.providers import ProviderRow
from timebase.storage.queries.quarantine import Quarantined
from timebase.storage.upkeep import Upkeep

logger = logging.getLogger(__name__)

CONNECTIONS = 8  # for questions: more readers than cores only cost memory
COMPRESS_AFTER_DAYS = 7
REMEMBERED = 20_000  # instruments, series and ledgers kept in memory, of each; about 10 MB together when full
NEAR_CANDIDATES = 5_000


class Store:
    """Made by `open_store`. Remembers instruments, series and ledgers, so that a cached answer costs no query."""

    def __init__(self, annex: Annex, cluster: Cluster | None, migrated: Migrated) -> None:
        self._annex = annex
        self._cluster = cluster
        self._migrated = migrated
        self._instruments = ByteLru[str, Instrument](REMEMBERED)
        self._series = ByteLru[tuple[int, str, Interval], Series](REMEMBERED)
        self._series_of = ByteLru[int, tuple[Series, ...]](REMEMBERED)
        self._tick_series = ByteLru[tuple[int, str, str], TickSeries](REMEMBERED)
        self._ledgers = ByteLru[int, Ledger](REMEMBERED)
        self._generations: Counter[int] = Counter()
        self._action_generations: Counter[int] = Counter()
        self.upkeep = Upkeep(annex, self._touch, has_timescale=migrated.has_timescale)
        self._recording: set[int] = set()  # feeds that are known to be up, in that life of a server
        self._life = ""
        self._writer = f"alone-{secrets.token_hex(8)}"  # of deliveries that nobody repeats but this store itself

    # --- instruments and series

    async def instrument(self, symbol: str) -> Instrument | None:
        found = self._instruments.get(symbol)
        if found is None:
            found = await self._annex.run(instruments.select_instrument, symbol)
            if found is not None:
                self._instruments.put(symbol, found, 1)
        return found

    async def known_instrument(self, symbol: str) -> Instrument | None:
        """The same, but None for a symbol that was asked for and that no provider knew."""
        return await self._annex.run(instruments.select_known_instrument, symbol)

    def asset_class(self, series: Series) -> AssetClass:
        """Of its instrument, from memory; what its symbol looks like when that is not there."""
        known = self._instruments.get(series.symbol)
        return classify(series.symbol) if known is None else known.asset_class

    async def upsert_instruments(self, given: Sequence[Instrument]) -> tuple[Instrument, ...]:
        """The same with ids, in the same order. What is left empty does not wipe what is known."""
        if not given:
            return ()
        known = await self._annex.run(instruments.upsert_instruments, given)
        for instrument in known:
            self._instruments.put(instrument.symbol, instrument, 1)
        return known

    async def list_symbols(
        self, query: str = "", asset_class: AssetClass | None = None, after: str = "", limit: int = 100
    ) -> tuple[Instrument, ...]:
        """Instruments whose symbol or name contains `query`; `after` is the last symbol of the page before."""
        return await self._annex.run(instruments.list_instruments, query, asset_class, after, limit)

    async def near_symbols(self, text: str, limit: int = 5) -> tuple[str, ...]:
        """Symbols that `text` may have meant, nearest first."""
        candidates = await self._annex.run(instruments.select_symbols_like, text.upper(), NEAR_CANDIDATES)
        return tuple(difflib.get_close_matches(text.upper(), candidates, limit, cutoff=0.5))

    async def series(self, instrument: Instrument, provider: str, interval: Interval) -> Series:
        """The series of that key, made where there is none."""
        key = (instrument.id, provider, interval)
        found = self._series.get(key)
        if found is None:
            found = await self._annex.run(series_queries.ensure_series, instrument, provider, interval)
            self._series.put(key, found, 1)
            self._series_of.drop(instrument.id)
        return found

    async def series_of(self, instrument_id: int) -> tuple[Series, ...]:
        """Those that another server on this database makes are seen when a question here comes to them."""
        found = self._series_of.get(instrument_id)
        if found is None:
            found = await self._annex.run(series_queries.select_series_of, instrument_id)
            self._series_of.put(instrument_id, found, 1)
        return found

    async def tick_series(self, instrument: Instrument, provider: str, kind: str) -> TickSeries:
        """The series of that provider's trades or quotes, made where there is none. `kind`: trades | quotes."""
        key = (instrument.id, provider, kind)
        found = self._tick_series.get(key)
        if found is None:
            found = await self._annex.run(series_queries.ensure_tick_series, instrument, provider, kind)
            self._tick_series.put(key, found, 1)
        return found

    async def tick_series_of(self, instrument_id: int, kind: str) -> tuple[TickSeries, ...]:
        """By provider."""
        return await self._annex.run(series_queries.select_tick_series_of, instrument_id, kind)

    # --- bars

    def generation(self, series_id: int) -> int:
        """Counts the commits that touched the series since the start: a key for caches."""
        return self._generations[series_id]

    def actions_generation(self, instrument_id: int) -> int:
        """Counts the commits that brought corporate actions of the instrument, by whichever of its series."""
        return self._action_generations[instrument_id]

    async def coverage(self, series_id: int) -> Coverage:
        generation = self._generations[series_id]
        ledger = self._ledgers.get(series_id)
        if ledger is None:
            ledger = (await self._annex.run(coverage_queries.select_ledgers, [series_id]))[series_id]
            if generation == self._generations[series_id]:
                self._ledgers.put(series_id, ledger, 1)
        return ledger.coverage(now_us(), generation)

    async def settled_then(self, series: Series, within: TimeRange, at_us: int) -> Ranges:
        """What of `within` was settled at an instant of the past."""
        by_then = await self._annex.run(batch_queries.select_settled_by, series.id, within, at_us)
        return settled_then(by_then, series.interval, (await self.coverage(series.id)).settled)

    async def put(self, batches: Sequence[Batch]) -> tuple[Durable, ...]:
        """Make `batches` durable: bars, provenance, coverage, quarantine and actions, or none. May be repeated."""
        if not batches:
            return ()
        touched = {batch.series.id for batch in batches}
        try:
            stored = await self._annex.write(put_batches, batches, has_rollup=self.has_timescale)
        finally:
            # Also when it failed: an answer that got lost on its way may have been a commit.
            for series_id in touched:
                self._touch(series_id)
            self._action_generations.update({batch.series.instrument_id for batch in batches if batch.actions})
        for series_id, ledger in stored.ledgers.items():
            self._ledgers.put(series_id, ledger, 1)
        return stored.durables

    async def put_live(self, batches: Sequence[LiveBatch], delivery: Delivery | None = None) -> tuple[DurableLive, ...]:
        """Make live batches durable in one commit: ticks, closed and revised bars, what is claimed of them; or none.

        Whoever may have to try again names the `delivery`, and it is made once however often it is tried. Beyond that,
        trades that carry a number are stored once, and bars that are stored already change nothing.
        """
        if not batches:
            return ()
        delivery = delivery or Delivery(self._writer)
        recording = set(self._recording) if delivery.life == self._life else set[int]()
        what = gather(batches, delivery.at_us, recording)
        try:
            stored = await self._annex.write(put_live, what, delivery, has_rollup=self.has_timescale)
        finally:
            for batch in what.bars:
                self._touch(batch.series.id)
        self._life, self._recording = delivery.life, recording
        for series_id, ledger in stored.ledgers.items():
            self._ledgers.put(series_id, ledger, 1)
        return tuple(DurableLive(batch, stored.commit_id, now_us(), is_last=batch is batches[-1]) for batch in batches)

    async def note_replayed(self, writer: str, file: str) -> None:
        """A file of that writer's spool is stored, and stays on the disk all the same. May be repeated."""
        await self._annex.write(replayed.insert_replayed, writer, file)

    async def replayed(self, writer: str) -> frozenset[str]:
        return await self._annex.write(replayed.select_replayed, writer)

    def _touch(self, series_id: int) -> None:
        self._generations[series_id] += 1
        self._ledgers.drop(series_id)

    async def read(
        self,
        series: Series,
        within: TimeRange,
        *,
        limit: int | None = None,
        newest_first: bool = False,
        as_of_us: int | None = None,
    ) -> Bars:
        """Bars that open in `within`, ascending. `newest_first`: `limit` keeps the newest ones.

        `as_of_us`: as they were known then; forming bars are not known.
        """
        return await self._annex.run(bar_queries.select_bars, series.id, within, limit, newest_first, as_of_us)

    async def read_trades(
        self,
        series: TickSeries,
        within: TimeRange,
        *,
        limit: int | None = None,
        newest_first: bool = False,
        after: TickPlace | None = None,
    ) -> tuple[Trades, NDArray[np.int64]]:
        """Trades of `within` as the tape has them, and the commit that brought each.

        `newest_first`: `limit` keeps the newest ones. `after`: those that follow the page that ended there.
        """
        return await self._annex.run(tick_queries.select_trades, series.id, within, limit, newest_first, after)

    async def read_quotes(
        self,
        series: TickSeries,
        within: TimeRange,
        *,
        limit: int | None = None,
        newest_first: bool = False,
        after: TickPlace | None = None,
    ) -> tuple[Quotes, NDArray[np.int64]]:
        """The same of quotes."""
        return await self._annex.run(tick_queries.select_quotes, series.id, within, limit, newest_first, after)

    async def newest_tick_us(self, series: TickSeries, within: TimeRange) -> int | None:
        return await self._annex.run(tick_queries.select_newest_us, series.kind, series.id, within)

    async def first_heard_us(self, series: Series) -> int | None:
        """The first trade that the series' provider is known to have streamed; None: none is stored."""
        for ticks in await self.tick_series_of(series.instrument_id, FeedKind.TRADES.value):
            if ticks.provider == series.provider:
                return await self._annex.run(live_queries.select_first_heard_us, ticks.id)
        return None

    async def recorded(self, series: TickSeries, within: TimeRange) -> Ranges:
        """When the feed was up. Where a crash has left no word, until its last tick."""
        return await self._annex.run(live_queries.select_recorded, series.kind, series.id, within)

    async def holding(self, series_id: int) -> Holding:
        """How many bars, the first and the last; counts them all."""
        return await self._annex.run(bar_queries.select_holding, series_id)

    async def provenance(self, series_id: int, within: TimeRange, limit: int = 100) -> tuple[Provenance, ...]:
        """The batches that spoke about that range, newest first."""
        return await self._annex.run(batch_queries.select_provenance, series_id, within, limit)

    async def quarantined(self, series_id: int, within: TimeRange, limit: int = 1000) -> tuple[Quarantined, ...]:
        return await self._annex.run(quarantine.select_quarantined, series_id, within, limit)

    async def actions(self, instrument_id: int, provider: str) -> tuple[CorporateAction, ...]:
        """By ex-date."""
        return await self._annex.run(corporate_actions.select_actions, instrument_id, provider)

    # --- providers and budgets

    async def put_providers(self, rows: Sequence[ProviderRow]) -> None:
        if rows:
            await self._annex.run(providers.upsert_providers, rows)

    async def providers(self) -> tuple[ProviderRow, ...]:
        return await self._annex.run(providers.select_providers)

    async def take_budget(self, provider: str, at_us: int, n: int = 1, key: str | None = None) -> None:
        """Durable when this returns, so that the request may be sent."""
        await self._annex.run(budgets.insert_take, BudgetTake(provider, at_us, n, key))

    async def load_budget_takes(self, since_us: int) -> list[BudgetTake]:
        """Order: oldest first."""
        return await self._annex.run(budgets.select_takes, since_us)

    async def prune_budget_takes(self, before_us: int) -> None:
        await self._annex.run(budgets.prune_takes, before_us)

    # --- the collector's list

    async def collected(self) -> tuple[Collected, ...]:
        """By symbol, then as they were added."""
        return await self._annex.run(collected.select_collected)

    async def collect(self, line: Collected) -> None:
        """May be repeated."""
        await self._annex.run(collected.insert_collected, line)

    async def collected_since_us(self, series: Series) -> int | None:
        """By the database's clock; None: it is not collected."""
        return await self._annex.run(collected.select_collected_since_us, series)

    async def uncollect(self, line: Collected) -> None:
        await self._annex.run(collected.delete_collected, line)

    # --- the database itself

    @property
    def is_up(self) -> bool:
        """What the last question to the database found; asks nothing."""
        return self._annex.is_up

    async def ping(self) -> None:
        """Raises: StoreUnavailable."""
        await self._annex.run(_select_one)

    @property
    def applied_migrations(self) -> tuple[str, ...]:
        """Those that were missing when the store was opened."""
        return self._migrated.applied

    @property
    def has_timescale(self) -> bool:
        return self._migrated.has_timescale

    def health(self) -> dict[str, object]:
        """For /health; asks nothing. The URL without its password."""
        return {
            "url": _without_password(self._annex.url),
            "is_embedded": self._cluster is not None,
            "has_timescale": self.has_timescale,
            "schema": self._migrated.known[-1] if self._migrated.known else "",
        }

    async def revive(self) -> None:
        """Start the embedded database again when it is not running. Does nothing to a database that is not ours."""
        if self._cluster is not None and not self._cluster.is_running:
            logger.warning("the embedded database is down: starting it again")
            await self._cluster.start()


@asynccontextmanager
async def open_store(
    url: str | None, data_dir: Path, *, compress_after_days: int | None = COMPRESS_AFTER_DAYS
) -> AsyncIterator[Store]:
    """The database of `url`, or the embedded one of `data_dir`, migrated.

    Raises: StoreUnavailable when it cannot be reached, ConfigError when it is not ours to use.
    """
    if url is not None:
        async with _open_at(url, None, compress_after_days) as store:
            yield store
        return
    async with (
        open_embedded(data_dir / "postgres") as cluster,
        _open_at(cluster.url, cluster, compress_after_days) as store,
    ):
        yield store


@asynccontextmanager
async def _open_at(url: str, cluster: Cluster | None, compress_after_days: int | None) -> AsyncIterator[Store]:
    async with open_annex(url, connections=CONNECTIONS) as annex:
        try:
            migrated = await annex.run(migrate)
        except StoreFault as fault:
            if is_misconfigured(fault.__cause__):
                raise ConfigError([f"database_url: {fault.__cause__}"]) from fault
            raise
        if migrated.has_timescale:
            await annex.run(hypertable.set_compression, compress_after_days)
        yield Store(annex, cluster, migrated)


async def _select_one(conn: Connection) -> None:
    await conn.fetchval("SELECT 1")


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.replace(f":{parts.password}@", ":***@")))
