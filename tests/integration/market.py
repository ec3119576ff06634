"""Bars and batches for tests of the store."""

from collections.abc import Sequence

import numpy as np

from timebase.clock import now_us
from timebase.model.bars import Bars, Batch, Outcome
from timebase.model.instrument import AssetClass, Instrument
from timebase.model.interval import Interval
from timebase.model.series import Series
from timebase.model.timerange import DAY_US, MINUTE_US, TimeRange
from timebase.storage.store import Store

MONDAY_US = 1_704_067_200_000_000  # 2024-01-01
ALWAYS = TimeRange(-(10**15), 4 * 10**15)


def minutes(n: int, first_us: int = MONDAY_US, step_us: int = MINUTE_US, seed: int = 1) -> Bars:
    random = np.random.default_rng(seed)
    close = 100 + random.standard_normal(n).cumsum() / 100
    return Bars.of(
        first_us + np.arange(n) * step_us, close, close + 0.5, close - 0.5, close + 0.25, random.integers(0, 9_999, n)
    )


def flat(times: Sequence[int], price: float = 1.0, flags: Sequence[int] | None = None) -> Bars:
    column = [price] * len(times)
    return Bars.of(times, column, column, column, column, column, flags)


def batch(series: Series, bars: Bars, covers: TimeRange | None = None, **more: object) -> Batch:
    """COMPLETE over its bars and fetched now, unless told otherwise."""
    around = covers or TimeRange(int(bars.time[0]), series.interval.end_us(int(bars.time[-1])))
    given = {"outcome": Outcome.COMPLETE, "reason": "history", "fetched_us": now_us(), "bars": bars, **more}
    return Batch(1, series, around, **given)  # type: ignore[arg-type]


def cut(series: Series, bars: Bars, rows: int = 65_536) -> list[Batch]:
    return [batch(series, bars.pick(slice(first, first + rows))) for first in range(0, len(bars), rows)]


def days(first: int, last: int) -> TimeRange:
    """Days of 2024, from 0."""
    return TimeRange(MONDAY_US + first * DAY_US, MONDAY_US + last * DAY_US)


async def a_series(
    store: Store, interval: Interval = Interval.M1, symbol: str = "AAPL", provider: str = "demo"
) -> Series:
    (instrument,) = await store.upsert_instruments([Instrument(0, symbol, AssetClass.STOCK)])
    return await store.series(instrument, provider, interval)
