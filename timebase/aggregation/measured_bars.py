"""Bars that close after so many trades, so much volume or so much money, instead of so much time."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from timebase.aggregation.rebuild import BuiltBars, in_order
from timebase.aggregation.rows import CLOSE, COUNT, HIGH, LOW, NOTIONAL, OPEN, VOLUME, Row, Rows, join
from timebase.model.ticks import Trades

LOOK_AHEAD = 64  # trades that are added up at first to find the end of a bar; it learns from there


class Measure(StrEnum):
    TICKS = "ticks"  # every n trades
    VOLUME = "volume"  # every v units
    DOLLARS = "dollars"  # every d of price times size


@dataclass(frozen=True, slots=True)
class _Pile:
    """A bar that is not full. `measured` is the sum of what fills it, added up trade by trade."""

    stamp: int
    row: Row
    measured: float


class MeasuredBars:
    """Bars from a tape in order, cut as it may be: each trade goes whole into one bar, the one that it fills is over.

    A bar's time is that of its first trade; several may open in one microsecond. Trades have to come in the order of
    the tape (`rebuild.in_order`), so live ones only after the watermark has passed them.
    Raises: ValueError when `every` is not above zero.
    """

    def __init__(self, measure: Measure, every: float) -> None:
        if not every > 0:
            raise ValueError(f"a bar needs more than {every:g} {measure.value}")
        self._measure = measure
        self._every = every
        self._pile: _Pile | None = None
        self._ahead = LOOK_AHEAD

    def take(self, time: NDArray[np.int64], price: NDArray[np.float64], size: NDArray[np.float64]) -> BuiltBars:
        """Returns: the bars that are full now."""
        weights = self._weights(price, size)
        full: list[tuple[int, Row]] = []
        begin = 0
        while begin < len(time):
            end, measured, is_full = self._fill(weights, begin)
            part = _row_of(price[begin:end], size[begin:end], self._pile.row if self._pile else None)
            self._pile = _Pile(self._pile.stamp if self._pile else int(time[begin]), part, measured)
            if is_full:
                full.append((self._pile.stamp, part))
                self._pile = None
            begin = end
        return _built(full)

    def forming(self) -> BuiltBars:
        """The bar that is not full, if there is one."""
        return _built([(self._pile.stamp, self._pile.row)] if self._pile else [])

    def _weights(self, price: NDArray[np.float64], size: NDArray[np.float64]) -> NDArray[np.float64]:
        match self._measure:
            case Measure.TICKS:
                return np.ones(len(price))
            case Measure.VOLUME:
                return size
            case Measure.DOLLARS:
                return np.abs(price * size)

    def _fill(self, weights: NDArray[np.float64], begin: int) -> tuple[int, float, bool]:
        """Where the bar that goes on at `begin` ends (exclusive), what it holds then, and whether it is full."""
        measured, at = self._pile.measured if self._pile else 0.0, begin
        while at < len(weights):
            piece = weights[at : at + self._ahead].copy()
            piece[0] += measured
            held = np.cumsum(piece)
            full = int(np.searchsorted(held, self._every))
            if full < len(held):
                self._ahead = max(LOOK_AHEAD, 2 * (at + full - begin))
                return at + full + 1, float(held[full]), True
            measured, at = float(held[-1]), at + len(piece)
            self._ahead *= 2
        return len(weights), measured, False


def measured_bars(trades: Trades, *, measure: Measure, every: float) -> BuiltBars:
    """The full bars of a whole tape, in any order; copies count once, cancels and corrections are applied.

    Example: `measured_bars(tape, measure=Measure.VOLUME, every=100.0).bars`
    """
    return MeasuredBars(measure, every).take(*in_order(trades))


def _row_of(price: NDArray[np.float64], size: NDArray[np.float64], before: Row | None) -> Row:
    """Left to right, as in `rows`: what was piled up before goes on with the first trade."""
    size, notional = size.copy(), price * size
    if before is not None:
        size[0] += before[VOLUME]
        notional[0] += before[NOTIONAL]
    volume, amount = float(np.cumsum(size)[-1]), float(np.cumsum(notional)[-1])
    row = (float(price[0]), float(price.max()), float(price.min()), float(price[-1]), volume, amount, len(price))
    if before is None:
        return row
    joined = join(before, row)
    return (joined[OPEN], joined[HIGH], joined[LOW], joined[CLOSE], volume, amount, joined[COUNT])


def _built(bars: list[tuple[int, Row]]) -> BuiltBars:
    if not bars:
        return BuiltBars.of(Rows.empty())
    return BuiltBars.of(Rows(np.array([stamp for stamp, _ in bars], np.int64), np.array([row for _, row in bars]).T))
