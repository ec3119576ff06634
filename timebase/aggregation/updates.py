"""Rows as the updates that go down the road."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from timebase.aggregation.rows import CLOSE, COUNT, HIGH, LOW, NOTIONAL, OPEN, VOLUME, WIDTH, Row, Rows
from timebase.model.bars import Bars, Flag
from timebase.model.feed import Feed
from timebase.model.interval import Interval
from timebase.model.live import BarStatus, BarUpdate

NOT_REVISED = np.zeros(1, np.int32)

_FLAGS: dict[BarStatus, int] = {BarStatus.FORMING: Flag.FORMING, BarStatus.REVISED: Flag.REVISED}


def bar_update(
    feed: Feed,
    interval: Interval,
    status: BarStatus,
    rows: Rows,
    *,
    event_us: int,
    revision: NDArray[np.int32] | None = None,
) -> BarUpdate:
    return BarUpdate(
        feed,
        feed.bars[interval],
        status,
        bars_of(rows, _FLAGS.get(status, 0)),
        rows.values[COUNT].astype(np.int64),
        vwap_of(rows),
        np.zeros(len(rows), np.int32) if revision is None else revision,
        event_us,
    )


def forming_updates(
    feed: Feed, standing: Mapping[Interval, tuple[int, Row]], *, event_us: int
) -> tuple[BarUpdate, ...]:
    """One update for each interval; their columns are made together, for they are made with every batch."""
    wanted = [(feed.bars[interval], *bar) for interval, bar in standing.items() if interval in feed.bars]
    if not wanted:
        return ()
    rows = Rows(np.array([stamp for _, stamp, _ in wanted], np.int64), np.array([row for _, _, row in wanted]).T)
    columns = (*bars_of(rows, Flag.FORMING).columns(), rows.values[COUNT].astype(np.int64), vwap_of(rows))
    # A column of n rows, taken as n columns of one.
    each = zip(wanted, *(column.reshape(-1, 1) for column in columns), strict=True)
    return tuple(
        BarUpdate(feed, series, BarStatus.FORMING, Bars(*bar), trades, vwap, NOT_REVISED, event_us)
        for (series, _, _), *bar, trades, vwap in each
    )


def bars_of(rows: Rows, flag: int = 0) -> Bars:
    values = rows.values
    flags = np.full(len(rows), int(flag), np.int16)  # a bare int: numpy takes 10 µs to look through an enum
    return Bars(rows.stamp, values[OPEN], values[HIGH], values[LOW], values[CLOSE], values[VOLUME], flags)


def vwap_of(rows: Rows) -> NDArray[np.float64]:
    """NaN where there is no volume. Rounding may not lead it out of the bar."""
    volume = rows.values[VOLUME]
    mean = np.divide(rows.values[NOTIONAL], volume, out=np.full(len(rows), np.nan), where=volume > 0)
    return np.asarray(np.minimum(np.maximum(mean, rows.values[LOW]), rows.values[HIGH]))


def missing_update(feed: Feed, interval: Interval, stamps: NDArray[np.int64], *, event_us: int) -> BarUpdate:
    nothing = np.zeros((WIDTH, len(stamps)))
    nothing[OPEN : CLOSE + 1] = np.nan
    return bar_update(feed, interval, BarStatus.MISSING, Rows(stamps, nothing), event_us=event_us)


def flat_rows(rows: Rows, every: NDArray[np.int64], before: Row | None) -> Rows:
    """`rows` and, for each other stamp of `every`, a bar without volume at the close before it, once there is one."""
    last = np.searchsorted(rows.stamp, every, side="right") - 1
    closes = np.concatenate(([before[CLOSE] if before else np.nan], rows.values[CLOSE]))[last + 1]
    quiet = ~np.isin(every, rows.stamp) & ~np.isnan(closes)
    flat = np.zeros((WIDTH, int(np.count_nonzero(quiet))))
    flat[OPEN : CLOSE + 1] = closes[quiet]
    stamp = np.concatenate((rows.stamp, every[quiet]))
    order = np.argsort(stamp)
    return Rows(stamp[order], np.concatenate((rows.values, flat), axis=1)[:, order])
