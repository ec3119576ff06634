"""Trades and quotes of an invented market: pure functions of (symbol, minute), in columns.

How: every second has one or two trades at hashed instants. Their prices go from the minute's open by its high and low
to its close, and their sizes share out its volume: together the trades of a minute make exactly the bar that `prices`
has for it. All in whole ticks and parts of lots until the last line: every machine has the same tape.
"""

from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from markets import Market
from numpy.typing import NDArray
from prices import Columns, Floats, Ints, Question, bars, bits, hashed

from timebase.model.timerange import MINUTE_US, SECOND_US
from timebase.sdk import Interval

MOST = 128  # trades of a minute, and more than there are: numbers of trades count by it

_SECOND, _TRADE, _KNOT = range(5, 8)  # what a hash is for; `prices` has those before


class Tape(NamedTuple):
    """Shape: columns of one length, `time` strictly ascending. Units: µs UTC, units of currency, units traded."""

    time: Ints
    price: Floats
    size: Floats
    side: Ints
    id: Ints
    bid: Floats
    bid_size: Floats
    ask: Floats
    ask_size: Floats

    def after(self, start_us: int, end_us: int) -> "Tape":
        """What happened in (start, end]."""
        first, last = np.searchsorted(self.time, (start_us, end_us), side="right")
        rows = slice(int(first), int(last))
        return Tape(*(column[rows] for column in self))  # type: ignore[arg-type]


@lru_cache(maxsize=64)
def tape(market: Market, minute: int) -> Tape | None:
    """The whole minute; None when nobody trades in it."""
    for found in bars(market, Interval.M1, Question(minute, minute + 1, minute + 1)):
        if len(found.time):
            return _tape(market, found)
    return None


def _tape(market: Market, bar: Columns) -> Tape:
    minute = int(bar.time[0])
    seconds = minute * 60 + np.arange(60)
    counts = 1 + bits(hashed(seconds, market.seed * 8 + _SECOND), 0, 1)
    second = np.repeat(seconds, counts)
    place = np.concatenate(([0], second[1:] == second[:-1])).astype(np.int64)  # the second one of its second
    noise = hashed(second * 2 + place, market.seed * 8 + _TRADE)
    ticks = _prices(bar, noise, hashed(bar.time, market.seed * 8 + _KNOT))
    is_buy = bits(noise, 40, 1)
    bid = np.maximum(ticks - is_buy, 1)
    return Tape(
        time=second * SECOND_US + place * (SECOND_US // 2) + bits(noise, 0, 18),
        price=ticks / market.ticks_per_unit,
        size=_sizes(market, int(bar.volume[0]), noise),
        side=2 * is_buy - 1,
        id=minute * MOST + np.arange(len(ticks)),
        bid=bid / market.ticks_per_unit,
        bid_size=(1.0 + bits(noise, 41, 6)) * 100 / market.lots_per_unit,
        ask=(bid + 1) / market.ticks_per_unit,
        ask_size=(1.0 + bits(noise, 47, 6)) * 100 / market.lots_per_unit,
    )


def _prices(bar: Columns, noise: NDArray[np.uint64], where: NDArray[np.uint64]) -> Ints:
    """Whole ticks from open to close by both extremes, at hashed places; between them lines, and some noise."""
    open_, high, low, close = (int(column[0]) for column in bar[1:5])
    n = len(noise)
    one = 1 + int(bits(where, 0, 16)[0]) % (n - 2)
    other = 1 + int(bits(where, 16, 16)[0]) % (n - 3)
    other += other >= one
    extremes = (high, low) if bits(where, 32, 1)[0] else (low, high)
    knots = [(0, open_), *zip(sorted((one, other)), extremes, strict=True), (n - 1, close)]
    ticks = np.empty(n, np.int64)
    for (left, start), (right, end) in pairwise(knots):
        ticks[left : right + 1] = start + (end - start) * np.arange(right - left + 1) // (right - left)
    ticks = np.clip(ticks + ((bits(noise, 18, 8) - 128) * (high - low) >> 10), low, high)
    for at, value in knots:
        ticks[at] = value
    return ticks


def _sizes(market: Market, lots: int, noise: NDArray[np.uint64]) -> Floats:
    """Whole lots where there are enough of them, else binary fractions: either way their sum is the volume, exactly."""
    parts = 1 if lots >= 4 * len(noise) else 1024
    reached = np.cumsum(64 + bits(noise, 26, 6))
    cuts = lots * parts * reached // reached[-1]
    return np.asarray(np.diff(cuts, prepend=0) / (parts * market.lots_per_unit))


class Drip:
    """How far one feed has been told of its market's tape."""

    def __init__(self, market: Market, now_us: int) -> None:
        self._market = market
        self._told_us = now_us

    def until(self, now_us: int) -> list[Tape]:
        """What happened since it was last asked, minute by minute."""
        minutes = range(self._told_us // MINUTE_US, now_us // MINUTE_US + 1)
        whole = (tape(self._market, minute) for minute in minutes)
        parts = [part.after(self._told_us, now_us) for part in whole if part is not None]
        self._told_us = max(self._told_us, now_us)
        return [part for part in parts if len(part.time)]

    def next_us(self) -> int:
        """When to ask again: at the next trade of this minute, or at the next minute."""
        minute = self._told_us // MINUTE_US
        ahead = tape(self._market, minute)
        end_us = (minute + 1) * MINUTE_US
        rest = [] if ahead is None else ahead.after(self._told_us, end_us).time.tolist()
        return rest[0] if rest else end_us
