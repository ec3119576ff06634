"""Bars as columns, and the batch that carries them down the road."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import IntFlag, StrEnum
from typing import Self

import numpy as np
from numpy.typing import NDArray

from timebase.model.columns import Columns
from timebase.model.instrument import CorporateAction
from timebase.model.series import Series
from timebase.model.timerange import TimeRange

PRICES = ("open", "high", "low", "close")
COLUMNS = ("time", *PRICES, "volume", "flags")


class Flag(IntFlag):
    """What a bar says of itself, in `Bars.flags`. 0 is a closed bar as the provider first gave it."""

    FORMING = 1  # its period was not over when it was fetched
    REVISED = 2  # a closed bar that the provider later changed; the old one is in bar_revisions
    REPAIRED = 4
    BACKFILLED = 8


class Outcome(StrEnum):
    """What is known about a range of a series, in the coverage ledger."""

    COMPLETE = "complete"
    EMPTY = "empty"  # the provider confirmed that there is nothing
    REFUSED = "refused"  # the provider answered, the validator refused those rows; asked again after a day
    PARTIAL = "partial"  # asked again
    FAILED = "failed"  # asked again


@dataclass(frozen=True, slots=True, eq=False)
class Bars(Columns):
    """Bars of one series, as columns.

    Shape: seven arrays of length n >= 0; `time` strictly ascending once validated.
    Units: `time` int64 µs UTC, the period's *opening* instant; prices float64 in the series' quote currency per unit;
        `volume` float64 in units traded, not notional; `flags` int16, bits of `Flag`.
    """

    time: NDArray[np.int64]
    open: NDArray[np.float64]
    high: NDArray[np.float64]
    low: NDArray[np.float64]
    close: NDArray[np.float64]
    volume: NDArray[np.float64]
    flags: NDArray[np.int16]

    def columns(self) -> tuple[NDArray[np.generic], ...]:
        """In the order of COLUMNS."""
        return (self.time, self.open, self.high, self.low, self.close, self.volume, self.flags)

    def within(self, start_us: int, end_us: int) -> Self:
        """A view of the bars that open in [start_us, end_us); needs ascending time."""
        first, last = np.searchsorted(self.time, (start_us, end_us))
        return self.pick(slice(int(first), int(last)))

    def equals(self, other: Self) -> bool:
        return all(np.array_equal(a, b) for a, b in zip(self.columns(), other.columns(), strict=True))

    @classmethod
    def empty(cls) -> Self:
        return cls.of((), (), (), (), (), ())

    @classmethod
    def of(
        cls,
        time: Iterable[int],
        open: Iterable[float],
        high: Iterable[float],
        low: Iterable[float],
        close: Iterable[float],
        volume: Iterable[float],
        flags: Iterable[int] | None = None,
    ) -> Self:
        """Bars from anything numpy can read as columns; without `flags` they are all closed."""
        return cls(
            np.asarray(time, np.int64),
            np.asarray(open, np.float64),
            np.asarray(high, np.float64),
            np.asarray(low, np.float64),
            np.asarray(close, np.float64),
            np.asarray(volume, np.float64),
            np.zeros(len(np.asarray(time)), np.int16) if flags is None else np.asarray(flags, np.int16),
        )


@dataclass(frozen=True, slots=True)
class Refused:
    """Rows that one rule of the validator refused; they go to quarantine under its name."""

    rule: str
    bars: Bars


@dataclass(frozen=True, slots=True)
class Batch:
    """Bars of one series on their way down the road, with the range that they settle.

    `covers` is the part of the demand's range that this batch says everything about, and `outcome` what it says.
    Batches of one demand come in ascending order and their `covers` follow each other without a hole; the last one has
    `is_last`. A demand that fails ends in a batch without bars whose outcome is FAILED (or PARTIAL, when bars came
    before), so that the ledger hears of failures on the same road as everyone else.
    """

    demand_id: int
    series: Series
    covers: TimeRange
    outcome: Outcome
    reason: str  # live | history | backfill | refresh | import: lands in `batches`
    fetched_us: int
    bars: Bars
    is_last: bool = False
    actions: tuple[CorporateAction, ...] = ()
    refused: tuple[Refused, ...] = ()
    warnings: tuple[str, ...] = ()
    why: str = ""  # of a FAILED or PARTIAL outcome
    settled_us: int | None = field(default=None)  # closed bars opening before this are final; None: until fetched_us

    def with_bars(self, bars: Bars, refused: tuple[Refused, ...], warnings: tuple[str, ...]) -> "Batch":
        return replace(self, bars=bars, refused=refused, warnings=(*self.warnings, *warnings))


@dataclass(frozen=True, slots=True)
class Durable:
    """A batch that cannot be lost any more, as the writer reports it down the road."""

    batch: Batch
    is_spooled: bool = False  # on disk, not yet in the database
    error: str = ""  # not durable after all: the spool is full or broken
    new: int = 0
    revised: int = 0
