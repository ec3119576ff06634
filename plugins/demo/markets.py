"""The five invented symbols and what makes each of them different. Plain facts; `prices` makes bars of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from types import MappingProxyType

from sessions import EPOCH, FRIDAY, Session, foreign_exchange, new_york_stocks, round_the_clock

from timebase.sdk import AssetClass, Instrument

NO_DATES: frozenset[int] = frozenset()


def day_of(year: int, month: int, day: int) -> int:
    return (date(year, month, day) - EPOCH).days


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """One invented symbol.

    Units: `ticks_per_unit` prices are whole ticks; `lots_per_unit` volumes are whole lots; `base` price and `volume` of
        a day at the beginning of 2000; `drift`, `sigma` and `gap` of the log price per trading day; `splits` pairs of
        ex-day and new shares per old; `dividend_yield` of each quarterly dividend, in parts of the price; `halted_days`
        have no session; `holes` are minutes of a session in which nobody trades; sessions of `late_days` begin
        `late_minutes` late. Days count from 1970-01-01.
    """

    instrument: Instrument
    seed: int
    calendar: Callable[[int], tuple[Session, ...]]
    has_weekends: bool = False
    ticks_per_unit: int = 100
    lots_per_unit: int = 1
    base: float
    drift: float
    sigma: float
    gap: float = 0.0
    volume: int
    splits: tuple[tuple[int, int], ...] = ()
    dividend_yield: float = 0.0
    halted_days: frozenset[int] = NO_DATES
    holes: tuple[int, ...] = ()
    late_days: frozenset[int] = NO_DATES
    late_minutes: int = 0

    @property
    def has_holes(self) -> bool:
        return bool(self.holes or self.late_days)


def dividend_days(last: int) -> list[int]:
    """Ex-days of the quarterly dividends until the day `last`: second Fridays of Feb, May, Aug and Nov since 2003.

    New York trades on all of them and on the Thursdays before.
    """
    found = []
    for year in range(2003, (EPOCH + timedelta(days=last)).year + 1):
        for month in (2, 5, 8, 11):
            first = date(year, month, 1)
            second_friday = first + timedelta(days=(FRIDAY - first.weekday()) % 7 + 7)
            found.append((second_friday - EPOCH).days)
    return [day for day in found if day <= last]


def _stock(symbol: str, name: str) -> Instrument:
    return Instrument(0, symbol, AssetClass.STOCK, name, "USD", "DEMO", "America/New_York")


_HALTED = (
    day_of(2008, 9, 17), day_of(2012, 6, 13), day_of(2016, 6, 22), day_of(2020, 3, 18), day_of(2024, 6, 12),
    day_of(2025, 3, 12),
)  # fmt: skip

MARKETS: Mapping[str, Market] = MappingProxyType({
    market.instrument.symbol: market
    for market in (
        Market(
            instrument=_stock("DEMO-STOCK", "Demo: a stock with New York sessions"),
            seed=1, calendar=new_york_stocks, base=40.0, drift=0.0002, sigma=0.012, gap=0.004, volume=4_000_000,
        ),
        Market(
            instrument=_stock("DEMO-SPLIT", "Demo: a stock with splits and quarterly dividends"),
            seed=2, calendar=new_york_stocks, base=60.0, drift=0.0004, sigma=0.014, gap=0.004, volume=900_000,
            splits=((day_of(2005, 2, 28), 2), (day_of(2014, 6, 9), 4), (day_of(2020, 8, 31), 4)), dividend_yield=0.004,
        ),
        Market(
            instrument=Instrument(
                0, "DEMO-CRYPTO", AssetClass.CRYPTO, "Demo: a coin that trades round the clock", "USD", "DEMO", "UTC"
            ),
            seed=3, calendar=round_the_clock, has_weekends=True, lots_per_unit=64, base=40.0, drift=0.0011, sigma=0.03,
            volume=20_000,
        ),
        Market(
            instrument=Instrument(
                0, "DEMO-FX", AssetClass.FOREX, "Demo: a currency pair, Sunday 17:00 to Friday 17:00 New York", "USD",
                "DEMO", "America/New_York",
            ),
            seed=4, calendar=foreign_exchange, ticks_per_unit=100_000, base=1.1, drift=0.0, sigma=0.005, gap=0.0002,
            volume=600_000,
        ),
        Market(
            instrument=_stock("DEMO-HALT", "Demo: a stock with halted days and minutes without trades"),
            seed=5, calendar=new_york_stocks, base=15.0, drift=0.0002, sigma=0.018, gap=0.006, volume=400_000,
            halted_days=frozenset(_HALTED), late_days=frozenset(day + 1 for day in _HALTED), late_minutes=30,
            holes=(47, *range(150, 155)),  # 10:17, and 12:00 to 12:04
        ),
    )
})  # fmt: skip
