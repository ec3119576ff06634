"""How a recorded tape is cut into bars."""

from dataclasses import dataclass
from enum import StrEnum


class By(StrEnum):
    """What fills a bar."""

    TRADES = "trades"
    VOLUME = "volume"
    VALUE = "value"  # price times size
    TIME = "time"


@dataclass(frozen=True, slots=True)
class Cut:
    """How a tape becomes bars. Units: `every` trades, units, money, or µs."""

    by: By
    every: float

    @property
    def period_us(self) -> int:
        """The length of a bar by time, whose opening instants are multiples of it; 1 when it is by something else."""
        return int(self.every) if self.by is By.TIME else 1
