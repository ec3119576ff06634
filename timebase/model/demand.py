"""What goes up the road: a client's question, and the demand it makes of one provider."""

from dataclasses import dataclass

from timebase.model.instrument import Instrument
from timebase.model.interval import Interval
from timebase.model.series import Series
from timebase.model.timerange import EVER, TimeRange

ADJUSTMENTS = ("raw", "splits", "dividends", "all")
MAX_BARS = 1_000_000  # a range is answered whole up to this many bars, beyond by cursor
BACKFILL = "backfill"  # the reason of what heals a gap: its bars say so themselves


@dataclass(frozen=True, slots=True)
class Question:
    """One client's question about one symbol, parsed.

    Units: `range` half-open, µs UTC; `as_of_us` reads the data as it was known then.
    """

    symbol: str
    interval: Interval
    range: TimeRange
    limit: int | None = None
    keep: str = "oldest"  # of more bars than the limit: "oldest" (then `next` leads on) or "newest"
    adjust: str = "raw"  # one of ADJUSTMENTS
    provider: str | None = None  # only this one
    as_of_us: int | None = None
    refresh: bool = False  # ask the provider even for what is covered
    reason: str = "history"  # why it is fetched: history | live (a period that is just over) | BACKFILL


@dataclass(frozen=True, slots=True)
class Demand:
    """One range of one series to be fetched from its provider; its batches carry `id`.

    `instrument` goes by the symbol that means it in `named`: corporate actions outside of that are another's.
    """

    id: int
    series: Series
    instrument: Instrument
    range: TimeRange
    reason: str = "history"
    named: TimeRange = EVER
