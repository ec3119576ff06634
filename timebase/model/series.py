"""One provider's bars of one instrument at one interval: the key of everything stored."""

from dataclasses import dataclass

from timebase.model.interval import Interval


@dataclass(frozen=True, slots=True)
class Series:
    id: int
    instrument_id: int
    symbol: str
    provider: str
    interval: Interval


@dataclass(frozen=True, slots=True)
class TickSeries:
    """One provider's trades or quotes of one instrument."""

    id: int
    instrument_id: int
    symbol: str
    provider: str
    kind: str  # trades | quotes
