"""Feeds, tapes and what was told of them, for the tests of this folder."""

from collections.abc import Iterable, Mapping
from itertools import pairwise

import numpy as np

from timebase.aggregation.bar_builder import BarBuilder, Building
from timebase.aggregation.rebuild import BuiltBars
from timebase.model.feed import Feed, FeedKind
from timebase.model.instrument import AssetClass, Instrument
from timebase.model.interval import Interval
from timebase.model.live import Arrival, BarStatus, BarUpdate, Live
from timebase.model.series import Series
from timebase.model.ticks import Trades
from timebase.model.timerange import SECOND_US

Bar = tuple[float, ...]  # open high low close volume trades vwap


def feed_of(
    intervals: Iterable[Interval] = tuple(Interval),
    *,
    id: int = 1,
    kind: FeedKind = FeedKind.TRADES,
    interval: Interval | None = None,
    asset_class: AssetClass = AssetClass.CRYPTO,
    timezone: str = "",
    since_us: int = 0,
) -> Feed:
    instrument = Instrument(1, "BTC-USDT", asset_class, timezone=timezone)
    series = {each: Series(n, 1, "BTC-USDT", "demo", each) for n, each in enumerate(intervals)}
    return Feed(id, kind, instrument, "demo", interval, bars=series, since_us=since_us)


def builder_of(
    intervals: Iterable[Interval] = tuple(Interval),
    *,
    lateness_us: int = 0,
    timezone: str = "",
    since_us: int = 0,
    **building: object,
) -> BarBuilder:
    asset_class = AssetClass.STOCK if timezone else AssetClass.CRYPTO
    feed = feed_of(intervals, timezone=timezone, asset_class=asset_class, since_us=since_us)
    return BarBuilder(feed, Building(lateness_us=lateness_us, **building))  # type: ignore[arg-type]


def trades_at(
    *seconds: float, price: float = 10.0, size: float = 1.0, ids: Iterable[int] | None = None, since: int = 0
) -> Trades:
    """Trades at seconds after `since`, all alike."""
    time = [since + round(second * SECOND_US) for second in seconds]
    return Trades.of(time, [price] * len(time), [size] * len(time), id=ids)


def told(updates: Iterable[BarUpdate], interval: Interval, *statuses: BarStatus) -> list[tuple[int, str, int]]:
    """(stamp, status, revision) of each bar, in the order in which it was told."""
    return [
        (int(time), update.status.value, int(revision))
        for update in updates
        if update.series.interval is interval and (not statuses or update.status in statuses)
        for time, revision in zip(update.bars.time, update.revision, strict=True)
    ]


def standing(updates: Iterable[BarUpdate], interval: Interval) -> dict[int, Bar]:
    """What a follower holds in the end: closed bars, each as it was last revised."""
    held: dict[int, Bar] = {}
    for update in updates:
        if update.series.interval is interval and update.status in {BarStatus.CLOSED, BarStatus.REVISED}:
            held |= bars_of(update)
    return held


def bars_of(built: BarUpdate | BuiltBars) -> dict[int, Bar]:
    bars = built.bars
    columns = (bars.open, bars.high, bars.low, bars.close, bars.volume, built.trades, built.vwap)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return dict(zip(bars.time.tolist(), rows, strict=True))


def whole(rebuilt: Mapping[Interval, BuiltBars], interval: Interval, *, since: int, until: int) -> dict[int, Bar]:
    """The rebuilt bars whose stamps lie in [since, until): those that a feed could see whole."""
    return {stamp: bar for stamp, bar in bars_of(rebuilt[interval]).items() if since <= stamp < until}


def live(feed: Feed, *, received_us: int = 0, **brought: object) -> Live:
    return Live((Arrival(feed, received_us, **brought),))  # type: ignore[arg-type]


def cut(trades: Trades, at: Iterable[int]) -> list[Trades]:
    edges = [0, *sorted(set(at) & set(range(1, len(trades)))), len(trades)]
    return [trades.pick(slice(a, b)) for a, b in pairwise(edges)]


def same(a: Mapping[int, Bar], b: Mapping[int, Bar]) -> bool:
    """Bit for bit; NaN equals NaN."""
    return a.keys() == b.keys() and all(np.array_equal(a[key], b[key], equal_nan=True) for key in a)
