"""yfinance's table of prices to raw bars. Pure."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from yahoo_actions import Ledger, Splits, as_traded

from timebase.model.timerange import DAY_US
from timebase.sdk import Bars, Interval

PRICES = ("Open", "High", "Low", "Close")


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """yfinance's prices of one window.

    Shape: columns Open High Low Close Volume, adjusted for every split up to today, `Stock Splits` 0 or a ratio; the
        index is the bars' opening in the exchange's time, of days and longer its midnight.
    """

    frame: pd.DataFrame
    interval: Interval

    def has_split_after(self, ledger: Ledger) -> bool:
        """Whether a split took place since `ledger` was fetched."""
        dates = self._dates[self.frame["Stock Splits"].to_numpy() != 0]
        known_us = max(ledger.splits.ex_date, default=None)
        return len(dates) > 0 and (known_us is None or known_us < dates.max())

    def bars(self, splits: Splits, start_us: int, end_us: int) -> Bars:
        """The bars that open in [start_us, end_us), as they were traded.

        Undone are all splits whose ex-date is later than the bar's own date: prices are multiplied by their product,
        volume is divided by it. Rows without any price are no bars (a halted minute, a dividend on a day without
        trading), and neither is a last row off the grid: it is the last trade, that Yahoo appends to the bars.
        """
        dates = _opening_dates(self._dates, self.interval)
        time = self._index.as_unit("us").asi8 if self.interval.is_intraday else dates
        keep = (time >= start_us) & (time < end_us) & self.frame[list(PRICES)].notna().any(axis=1).to_numpy()
        if self.interval.is_intraday:
            keep[-1:] &= time[-1:] % self.interval.grid_us == 0
        factor = splits.after(dates[keep])
        opened, high, low, close = (raw_prices(self._column(name)[keep], factor) for name in PRICES)
        volume = self._column("Volume")[keep]
        return Bars(time[keep], opened, high, low, close, np.where(factor == 1.0, volume, np.rint(volume / factor)))

    def _column(self, name: str) -> NDArray[np.float64]:
        return self.frame[name].to_numpy(np.float64)

    @property
    def _index(self) -> pd.DatetimeIndex:
        assert isinstance(self.frame.index, pd.DatetimeIndex)
        return self.frame.index

    @property
    def _dates(self) -> NDArray[np.int64]:
        """00:00 UTC of each row's date at the exchange."""
        wall_clock = self._index.tz_localize(None).as_unit("us").asi8
        return wall_clock // DAY_US * DAY_US


def raw_prices(quoted: NDArray[np.float64], factor: NDArray[np.float64]) -> NDArray[np.float64]:
    """Prices as they were on the tape: 124.80750274658203 before a 4:1 split is 499.23.

    Yahoo sends binary32 numbers written out as binary64 ones; what was meant is the shortest decimal that is that
    binary32 number.
    """
    narrow = quoted.astype(np.float32)
    is_narrow = narrow.astype(np.float64) == quoted
    meant = quoted.copy()
    meant[is_narrow] = narrow[is_narrow].astype(str).astype(np.float64)
    return as_traded(meant, factor)


def _opening_dates(dates: NDArray[np.int64], interval: Interval) -> NDArray[np.int64]:
    """The Monday or the first of the month of each date; a day is its own.

    Where summer time begins at midnight Yahoo stamps a month an hour too early, which is the last day of the month
    before: no month opens on its last day, so that day belongs to the next one.
    """
    if interval is Interval.W1:
        monday_us = 4 * DAY_US
        return (dates - monday_us) // (7 * DAY_US) * (7 * DAY_US) + monday_us
    if interval is Interval.MO1:
        months = (dates + DAY_US).astype("datetime64[us]").astype("datetime64[M]")
        return months.astype("datetime64[us]").astype(np.int64)
    return dates
