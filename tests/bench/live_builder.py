"""The bar builder alone: no server, no database, one thread. Beside it polars, compiled and on one interval only."""

import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np
import polars as pl

from timebase.aggregation.aggregator import Aggregator
from timebase.aggregation.bar_builder import BarBuilder, Building
from timebase.aggregation.rebuild import rebuild
from timebase.model.feed import Feed, FeedKind
from timebase.model.instrument import AssetClass, Instrument
from timebase.model.interval import Interval
from timebase.model.live import Arrival, Live
from timebase.model.series import Series
from timebase.model.ticks import Trades

TRADES = 1_000_000
BATCH = 1_000
SYMBOLS = 1_000
ROUNDS = 5
BEGIN_US = 1_704_067_200_000_000


def live_builder(say: Callable[[str, str, str], None]) -> None:
    """The bar builder alone, all nine intervals at once, batches of 1,000 trades; polars on one interval."""
    for per_second, reach in ((10_000, ">= 10 M"), (1_000, ">= 10 M"), (50, "")):
        ours, forming, theirs = _fastest(_tape(per_second), _build, _build_and_form, _polars_by_batch)
        say(f"bar builder, nine intervals, {per_second:,} trades/s", _rate(ours), reach)
        say("  and nine forming bars with every batch", _rate(forming), "")
        say(
            "  polars, one interval, the same batches",
            f"{_rate(theirs)}: we are {theirs / ours:.1f} x",
            "the reference",
        )
    ours, theirs = _fastest(_tape(1_000), _rebuild, _minutes)
    say("rebuild, nine intervals, the whole tape at once", _rate(ours), "")
    say("  polars, one interval, the whole tape at once", f"{_rate(theirs)}: we are {theirs / ours:.2f} x", "")
    for each in (1, 5, 50):
        seconds = min(_many_symbols(each) for _ in range(ROUNDS))
        figure = f"{SYMBOLS * each / seconds / 1e6:.2f} M trades/s, {seconds / SYMBOLS * 1e6:.0f} µs a symbol"
        say(f"{SYMBOLS:,} symbols, {each} trades of each in a message", figure, "")


def _fastest(tape: Trades, *works: Callable[[Trades], object]) -> list[float]:
    """Seconds of each, in turn, and of several turns the best: what else runs here slows them, nothing speeds them."""
    turns = [[_seconds(work, tape) for work in works] for _ in range(ROUNDS)]
    return [min(times) for times in zip(*turns, strict=True)]


def _rate(seconds: float) -> str:
    return f"{TRADES / seconds / 1e6:.1f} M trades/s"


def _rebuild(tape: Trades) -> object:
    return rebuild(tape)


def _tape(per_second: int) -> Trades:
    mixer = np.random.default_rng(7)
    step_us = 1_000_000 // per_second
    times = BEGIN_US + np.cumsum(mixer.integers(0, 2 * step_us + 1, TRADES))
    prices = np.round(100 + np.cumsum(mixer.normal(0, 0.01, TRADES)), 2)
    return Trades.of(times, prices, mixer.random(TRADES), id=np.arange(1, TRADES + 1))


def _batches(tape: Trades) -> Iterator[Trades]:
    return (tape.pick(slice(at, at + BATCH)) for at in range(0, len(tape), BATCH))


def _feed(number: int) -> Feed:
    symbol = f"S{number}-USDT"
    series = {each: Series(number * 9 + at, number, symbol, "bench", each) for at, each in enumerate(Interval)}
    return Feed(number, FeedKind.TRADES, Instrument(number, symbol, AssetClass.CRYPTO), "bench", bars=series)


def _build(tape: Trades) -> None:
    builder = BarBuilder(_feed(1), Building())
    for batch in _batches(tape):
        builder.take(batch)
        builder.closed()


def _build_and_form(tape: Trades) -> None:
    builder, intervals = BarBuilder(_feed(1), Building()), tuple(Interval)
    for batch in _batches(tape):
        builder.take(batch)
        builder.closed()
        builder.forming(intervals)


def _polars_by_batch(tape: Trades) -> None:
    for batch in _batches(tape):
        _minutes(batch)


def _minutes(trades: Trades) -> pl.DataFrame:
    """Open, high, low, close, volume, count and vwap of minutes; of a batch, without joining what batches share."""
    frame = pl.DataFrame({"time": trades.time, "price": trades.price, "size": trades.size})
    price, size = pl.col("price"), pl.col("size")
    return (
        frame.with_columns(pl.col("time").cast(pl.Datetime("us")).set_sorted())
        .group_by_dynamic("time", every="1m")
        .agg(
            price.first().alias("open"), price.max().alias("high"), price.min().alias("low"),
            price.last().alias("close"), size.sum().alias("volume"), pl.len().alias("trades"),
            ((price * size).sum() / size.sum()).alias("vwap"),
        )
    )  # fmt: skip


def _seconds(work: Callable[[Trades], object], tape: Trades) -> float:
    began = time.perf_counter()
    work(tape)
    return time.perf_counter() - began


def _many_symbols(each: int) -> float:
    """Seconds for one message that brings a few trades of each of many symbols, once all of them are known."""
    aggregator, feeds = Aggregator(Building(), is_followed=lambda _: False), [_feed(n) for n in range(SYMBOLS)]
    took = []
    for turn in range(4):
        since = BEGIN_US + turn * 10_000_000
        times = since + 1_000 * np.arange(each)
        trades = Trades.of(times, np.full(each, 10.0), np.ones(each), id=turn * each + np.arange(1, each + 1))
        message = Live(tuple(Arrival(feed, since, trades=trades) for feed in feeds))
        began = time.perf_counter()
        aggregator.take([message])
        took.append(time.perf_counter() - began)
    return statistics.median(took[1:])
