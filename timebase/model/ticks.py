"""Trades and quotes as columns."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Self

import numpy as np
from numpy.typing import NDArray

from timebase.model.columns import Columns


class Side(IntEnum):
    """Who crossed the spread."""

    SELL = -1
    UNKNOWN = 0
    BUY = 1


class TradeFlag(IntFlag):
    """What a row of trades is, in `Trades.flags`. 0 is a trade as it happened."""

    CANCEL = 1  # takes back the trade with that id
    CORRECTION = 2  # replaces the trade with that id


NO_TRADE_ID = 0
"""The vendor gives none: such trades are never taken for copies of each other, however alike they are."""


@dataclass(frozen=True, slots=True, eq=False)
class Trades(Columns):
    """Trades of one instrument from one provider, as columns.

    Shape: six arrays of length n >= 0.
    Units: `time` int64 µs UTC, the exchange's event time; `price` float64 in the quote currency per unit; `size`
        float64 in units traded; `side` int8, values of `Side`; `id` int64, the vendor's number or NO_TRADE_ID; `flags`
        int8, bits of `TradeFlag`.
    Order: as they came; where (time, id) is not ascending, the tape is.
    """

    time: NDArray[np.int64]
    price: NDArray[np.float64]
    size: NDArray[np.float64]
    side: NDArray[np.int8]
    id: NDArray[np.int64]
    flags: NDArray[np.int8]

    def columns(self) -> tuple[NDArray[np.generic], ...]:
        return (self.time, self.price, self.size, self.side, self.id, self.flags)

    @classmethod
    def of(
        cls,
        time: Iterable[int],
        price: Iterable[float],
        size: Iterable[float],
        side: Iterable[int] | None = None,
        id: Iterable[int] | None = None,
        flags: Iterable[int] | None = None,
    ) -> Self:
        """Trades from anything numpy can read as columns; what is not given is zeros: unknown, without a number."""
        times = np.asarray(time, np.int64)
        return cls(
            times,
            np.asarray(price, np.float64),
            np.asarray(size, np.float64),
            np.zeros(len(times), np.int8) if side is None else np.asarray(side, np.int8),
            np.zeros(len(times), np.int64) if id is None else np.asarray(id, np.int64),
            np.zeros(len(times), np.int8) if flags is None else np.asarray(flags, np.int8),
        )

    @classmethod
    def empty(cls) -> Self:
        return cls.of((), (), ())


@dataclass(frozen=True, slots=True, eq=False)
class Quotes(Columns):
    """Best bid and ask of one instrument from one provider, as columns.

    Shape: five arrays of length n >= 0.
    Units: `time` int64 µs UTC, event time; prices float64 in the quote currency per unit, sizes float64 in units;
        0 is what the vendor does not say, or that there is none.
    """

    time: NDArray[np.int64]
    bid: NDArray[np.float64]
    bid_size: NDArray[np.float64]
    ask: NDArray[np.float64]
    ask_size: NDArray[np.float64]

    def columns(self) -> tuple[NDArray[np.generic], ...]:
        return (self.time, self.bid, self.bid_size, self.ask, self.ask_size)

    @classmethod
    def of(
        cls,
        time: Iterable[int],
        bid: Iterable[float],
        bid_size: Iterable[float],
        ask: Iterable[float],
        ask_size: Iterable[float],
    ) -> Self:
        return cls(
            np.asarray(time, np.int64),
            np.asarray(bid, np.float64),
            np.asarray(bid_size, np.float64),
            np.asarray(ask, np.float64),
            np.asarray(ask_size, np.float64),
        )

    @classmethod
    def empty(cls) -> Self:
        return cls.of((), (), (), (), ())


@dataclass(frozen=True, slots=True)
class TickPlace:
    """Where a page of a stored tape ended: `given` rows of that instant and commit belong to the pages before."""

    time_us: int
    commit_id: int
    given: int
