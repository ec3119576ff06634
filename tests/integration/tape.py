"""Feeds, ticks and live batches for tests of the store."""

from collections.abc import Iterable
from types import MappingProxyType

import numpy as np
from integration.market import MONDAY_US

from timebase.model.bars import Bars
from timebase.model.feed import Feed, FeedKind
from timebase.model.instrument import AssetClass, Instrument
from timebase.model.interval import Interval
from timebase.model.live import Arrival, BarStatus, BarUpdate, LiveBatch, Ticks
from timebase.model.ticks import Quotes, Trades
from timebase.model.timerange import SECOND_US
from timebase.storage.store import Store


async def a_feed(
    store: Store, symbol: str = "BTC-USDT", provider: str = "demo", kind: FeedKind = FeedKind.TRADES, id: int = 1
) -> Feed:
    (instrument,) = await store.upsert_instruments([Instrument(0, symbol, AssetClass.CRYPTO)])
    series = {interval: await store.series(instrument, provider, interval) for interval in (Interval.M1, Interval.M5)}
    ticks = None if kind is FeedKind.BARS else await store.tick_series(instrument, provider, kind.value)
    return Feed(id, kind, instrument, provider, ticks=ticks, bars=MappingProxyType(series))


def trades(n: int, first_id: int = 1, first_us: int = MONDAY_US, step_us: int = 1_000, seed: int = 1) -> Trades:
    """`first_id` 0: without numbers."""
    random = np.random.default_rng(seed)
    ids = np.arange(first_id, first_id + n) if first_id else np.zeros(n, np.int64)
    price = 100 + random.standard_normal(n).cumsum() / 100
    return Trades.of(
        first_us + np.arange(n) * step_us, price, random.random(n), random.integers(-1, 2, n), ids, np.zeros(n)
    )


def quotes(n: int, first_us: int = MONDAY_US, step_us: int = 1_000) -> Quotes:
    bid = 100 + np.arange(n) / 7
    return Quotes.of(first_us + np.arange(n) * step_us, bid, np.ones(n), bid + 0.01, np.full(n, 2.5))


def ticked(feed: Feed, rows: Trades | Quotes, received_us: int | None = None) -> LiveBatch:
    at_us = received_us if received_us is not None else int(rows.time[-1]) + 5_000 if len(rows) else MONDAY_US
    if isinstance(rows, Trades):
        return LiveBatch((Ticks(feed, at_us, trades=rows),))
    return LiveBatch((Ticks(feed, at_us, quotes=rows),))


def update(
    feed: Feed, bars: Bars, status: BarStatus = BarStatus.CLOSED, interval: Interval = Interval.M1, vwap: float = 1.5
) -> BarUpdate:
    n = len(bars)
    revision = np.full(n, status is BarStatus.REVISED, np.int32)
    end_us = interval.end_us(int(bars.time[-1]))
    return BarUpdate(
        feed, feed.bars[interval], status, bars, np.full(n, 7), np.full(n, vwap), revision, end_us + SECOND_US
    )


def barred(*updates: BarUpdate) -> LiveBatch:
    return LiveBatch(updates=updates)


def word(feed: Feed, is_up: bool, at_us: int, reason: str = "") -> Arrival:
    return Arrival(feed, at_us, is_up=is_up, reason=reason)


def same_ticks(a: Trades | Quotes, b: Trades | Quotes) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a.columns(), b.columns(), strict=True))


def cut_tape(feed: Feed, tape: Trades, rows: int) -> Iterable[LiveBatch]:
    return [ticked(feed, tape.pick(slice(first, first + rows))) for first in range(0, len(tape), rows)]
