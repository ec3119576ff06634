"""What is kept up to date without anybody asking for it."""

from dataclasses import dataclass

from timebase.model.interval import Interval


@dataclass(frozen=True, slots=True, order=True)
class Collected:
    """One line of the collector's list: bars of a symbol, from one provider or (None) from the best one there is."""

    symbol: str
    interval: Interval
    provider: str | None = None
