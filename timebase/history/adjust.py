"""Splits and dividends, applied when bars are read; what is stored stays raw. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from timebase.model.bars import Bars
from timebase.model.instrument import CorporateAction
from timebase.model.interval import Interval
from timebase.model.timerange import to_datetime, to_us


@dataclass(frozen=True, slots=True)
class Factor:
    """Bars that open before `from_us` are multiplied: prices by `price`, volume by `volume`.

    `from_us`: where the ex-date begins in the series: see `begins_us`.
    """

    ex_date_us: int
    from_us: int
    kind: str
    value: float
    price: float
    volume: float

    def as_fact(self) -> dict[str, object]:
        """As the reply's `adjustment` shows it."""
        ex_date = to_datetime(self.ex_date_us).date().isoformat()
        return {"ex_date": ex_date, "kind": self.kind, "value": self.value, "price_factor": self.price}


def applicable(actions: Iterable[CorporateAction], which: str) -> tuple[CorporateAction, ...]:
    """The actions that `adjust=which` applies, oldest first."""
    kinds = {"raw": (), "splits": ("split",), "dividends": ("dividend",), "all": ("split", "dividend")}[which]
    return tuple(sorted((a for a in actions if a.kind in kinds and a.value > 0), key=lambda a: a.ex_date_us))


def begins_us(action: CorporateAction, interval: Interval, timezone: str) -> int:
    """The instant from which bars of `interval` are of the ex-date or later.

    Daily and longer bars are stamped 00:00 UTC of their date. Intraday ones have the clock: where the time zone of the
    instrument is known, its date begins at its own midnight. Sydney opens at 23:00 UTC of the day before, New York's
    late session ends after 00:00 UTC of the day after.
    """
    if not interval.is_intraday or not timezone:
        return action.ex_date_us
    try:
        zone = ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # what a provider calls a time zone may be none
        return action.ex_date_us
    return to_us(to_datetime(action.ex_date_us).replace(tzinfo=zone))


def factor(action: CorporateAction, close_before: float | None, from_us: int | None = None) -> Factor | None:
    """The multipliers of one action; None for a dividend when no close before its ex-date is known.

    `from_us` is where its ex-date begins, 00:00 UTC if not given.
    `close_before` is the last raw close before the ex-date: a dividend's factor is
    1 - dividend / close (CRSP's method).
    """
    from_us = action.ex_date_us if from_us is None else from_us
    if action.kind == "split":
        return Factor(action.ex_date_us, from_us, action.kind, action.value, 1.0 / action.value, action.value)
    if close_before is None or close_before <= action.value:
        return None
    return Factor(action.ex_date_us, from_us, action.kind, action.value, 1.0 - action.value / close_before, 1.0)


def adjust(bars: Bars, factors: Sequence[Factor]) -> Bars:
    """New bars with every factor applied to the bars before its ex-date. Order of `factors`: any."""
    if not factors or not len(bars):
        return bars
    price, volume = np.ones(len(bars)), np.ones(len(bars))
    for each in factors:
        before = int(np.searchsorted(bars.time, each.from_us))
        price[:before] *= each.price
        volume[:before] *= each.volume
    return Bars(
        bars.time,
        bars.open * price,
        bars.high * price,
        bars.low * price,
        bars.close * price,
        bars.volume * volume,
        bars.flags,
    )
