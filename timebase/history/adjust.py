"""Splits and dividends, applied when bars are read; what is stored stays raw. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from timebase.model.bars import Bars
from timebase.model.instrument import CorporateAction
from timebase.model.timerange import to_datetime

WHICH = ("raw", "splits", "dividends", "all")


@dataclass(frozen=True, slots=True)
class Factor:
    """Bars that open before `ex_date_us` are multiplied: prices by `price`, volume by `volume`."""

    ex_date_us: int
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


def factor(action: CorporateAction, close_before: float | None) -> Factor | None:
    """The multipliers of one action; None for a dividend when no close before its ex-date is known.

    `close_before` is the last raw close before the ex-date: a dividend's factor is
    1 - dividend / close (CRSP's method).
    """
    if action.kind == "split":
        return Factor(action.ex_date_us, action.kind, action.value, 1.0 / action.value, action.value)
    if close_before is None or close_before <= action.value:
        return None
    return Factor(action.ex_date_us, action.kind, action.value, 1.0 - action.value / close_before, 1.0)


def adjust(bars: Bars, factors: Sequence[Factor]) -> Bars:
    """New bars with every factor applied to the bars before its ex-date. Order of `factors`: any."""
    if not factors or not len(bars):
        return bars
    price, volume = np.ones(len(bars)), np.ones(len(bars))
    for each in factors:
        before = int(np.searchsorted(bars.time, each.ex_date_us))
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
