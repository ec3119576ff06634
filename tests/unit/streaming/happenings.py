"""Live batches made by hand: what the writer would hand the hub."""

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import orjson

from timebase.model.bars import Bars
from timebase.model.feed import Channel, Feed, FeedKind
from timebase.model.instrument import AssetClass, Instrument
from timebase.model.interval import Interval
from timebase.model.live import BarStatus, BarUpdate, DurableLive, LiveBatch, Ticks
from timebase.model.series import Series
from timebase.model.ticks import Quotes, Trades
from timebase.model.timerange import MINUTE_US
from timebase.streaming.encode import JSON
from timebase.streaming.event import Event

NOW_US = 1_700_000_040_000_000  # a full minute
BTC = Instrument(1, "BTC-USDT", AssetClass.CRYPTO)
M1 = Series(10, 1, "BTC-USDT", "binance", Interval.M1)
TRADES_FEED = Feed(1, FeedKind.TRADES, BTC, "binance", bars=MappingProxyType({Interval.M1: M1}))
QUOTES_FEED = Feed(2, FeedKind.QUOTES, BTC, "binance")
TRADES = Channel(FeedKind.TRADES, "BTC-USDT")
QUOTES = Channel(FeedKind.QUOTES, "BTC-USDT")
BARS = Channel(FeedKind.BARS, "BTC-USDT", Interval.M1)


def trades(first: int, count: int, *, commit_id: int | None = 1, feed: Feed = TRADES_FEED) -> DurableLive:
    """Trades whose ids, and µs, count from `first`."""
    return durable(ticks=[Ticks(feed, NOW_US, trades=tape(first, count))], commit_id=commit_id)


def tape(first: int, count: int) -> Trades:
    ids = np.arange(first, first + count)
    return Trades.of(NOW_US + ids, 100.0 + ids, np.ones(count), id=ids)


def quote(bid: float) -> DurableLive:
    return durable(ticks=[Ticks(QUOTES_FEED, NOW_US, quotes=Quotes.of([NOW_US], [bid], [1.0], [bid + 1], [2.0]))])


def bar(
    minute: int, close: float, status: BarStatus = BarStatus.CLOSED, *, commit_id: int | None = None
) -> DurableLive:
    return durable(updates=[update(minute, close, status)], commit_id=commit_id)


def update(minute: int, close: float, status: BarStatus = BarStatus.CLOSED) -> BarUpdate:
    bars = bars_of([minute], [close])
    return BarUpdate(TRADES_FEED, M1, status, bars, np.asarray([3]), np.asarray([close]), np.zeros(1, np.int32), NOW_US)


def bars_of(minutes: Sequence[int], closes: Sequence[float]) -> Bars:
    times = [NOW_US + minute * MINUTE_US for minute in minutes]
    return Bars.of(times, closes, closes, closes, closes, [1.0] * len(times))


def durable(
    *, ticks: Sequence[Ticks] = (), updates: Sequence[BarUpdate] = (), commit_id: int | None = 1, error: str = ""
) -> DurableLive:
    return DurableLive(LiveBatch(tuple(ticks), tuple(updates)), commit_id, NOW_US, error)


def shown(events: Sequence[Event]) -> list[dict[str, Any]]:
    """As a client reads them."""
    made: list[dict[str, Any]] = orjson.loads(JSON.frame(events))
    return made
