"""Splits and dividends: read from Yahoo's answer, and the factor by which Yahoo's prices differ from raw ones. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from timebase.model.timerange import DAY_US, SECOND_US
from timebase.sdk import CorporateAction, Malformed


@dataclass(frozen=True, slots=True, eq=False)
class Splits:
    """All splits of one symbol.

    Shape: two arrays of one length. Order: ascending.
    Units: `ex_date` µs, 00:00 UTC of the exchange's date; `ratio` new shares per old.
    """

    ex_date: NDArray[np.int64]
    ratio: NDArray[np.float64]

    def after(self, dates: NDArray[np.int64]) -> NDArray[np.float64]:
        """For each date the product of all splits whose ex-date is later: raw price / Yahoo's price."""
        product = np.append(np.cumprod(self.ratio[::-1])[::-1], 1.0)
        return product[np.searchsorted(self.ex_date, dates, side="right")]


NO_SPLITS = Splits(np.empty(0, np.int64), np.empty(0))


@dataclass(frozen=True, slots=True, eq=False)
class Ledger:
    """All actions of one symbol up to the time it was fetched."""

    splits: Splits
    actions: tuple[CorporateAction, ...]

    def since(self, at_us: int) -> list[CorporateAction]:
        """What bears upon bars from `at_us` on, whenever it happened later."""
        return [action for action in self.actions if action.ex_date_us >= at_us // DAY_US * DAY_US]


NO_LEDGER = Ledger(NO_SPLITS, ())


def as_traded(quoted: NDArray[np.float64], factor: NDArray[np.float64]) -> NDArray[np.float64]:
    """Prices or dividends before their splits: 33.333332 before 3:1 is 100, 1.266667 before 15:1 is 19.

    Yahoo divides, rounds to six decimals and stores seven digits; the product keeps the decimals that this leaves good.
    """
    traded = quoted * factor
    is_product = (factor != 1.0) & np.isfinite(traded)
    doubt = np.maximum(1e-6 * factor, 1.2e-7 * np.abs(traded))
    decimals = np.floor(-np.log10(doubt, where=is_product, out=np.zeros_like(doubt)))
    for places in np.unique(decimals[is_product]):
        which = is_product & (decimals == places)
        traded[which] = np.round(traded[which], int(places))
    return traded


def parse_ledger(result: Mapping[str, Any]) -> Ledger:
    """Read the events of one chart result.

    Raw: {"meta": {"exchangeTimezoneName", "currency"}, "events": {"splits": {stamp: {"date", "numerator",
        "denominator"}}, "dividends": {stamp: {"date", "amount", "currency"?}}}}; `date` in s, within the ex-date's
        session; amounts are divided by every later split.
    Returns: dividends as they were paid, in the currency that Yahoo quotes (GBp is pence).
    Raises: Malformed.
    """
    meta, events = result["meta"], result.get("events") or {}
    try:
        zone = ZoneInfo(meta["exchangeTimezoneName"])
        splits = _splits((events.get("splits") or {}).values(), zone)
        dividends = [
            (_ex_date_us(row["date"], zone), float(row["amount"]), row.get("currency") or meta.get("currency") or "")
            for row in (events.get("dividends") or {}).values()
        ]
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as exc:
        raise Malformed(f"Yahoo's events cannot be read: {exc!r}") from exc
    actions = [
        CorporateAction(ex_date_us=int(at), kind="split", value=float(ratio))
        for at, ratio in zip(splits.ex_date, splits.ratio, strict=True)
    ]
    ex_dates, amounts, currencies = list(zip(*dividends, strict=True)) or ((), (), ())
    paid = as_traded(np.array(amounts, np.float64), splits.after(np.array(ex_dates, np.int64)))
    actions += [
        CorporateAction(ex_date_us=at, kind="dividend", value=value, currency=currency)
        for at, value, currency in zip(ex_dates, paid.tolist(), currencies, strict=True)
    ]
    return Ledger(splits, tuple(sorted(actions, key=lambda action: (action.ex_date_us, action.kind))))


def _splits(rows: Any, zone: ZoneInfo) -> Splits:  # noqa: ANN401 - parsed here
    pairs = sorted((_ex_date_us(row["date"], zone), row["numerator"] / row["denominator"]) for row in rows)
    if any(ratio <= 0 for _, ratio in pairs):
        raise ValueError("a split's ratio is not positive")
    return Splits(np.array([at for at, _ in pairs], np.int64), np.array([ratio for _, ratio in pairs], np.float64))


def _ex_date_us(stamp_s: int, zone: ZoneInfo) -> int:
    """00:00 UTC of the exchange's date at that second."""
    local = datetime.fromtimestamp(stamp_s, zone).replace(tzinfo=None)
    return (local - datetime(1970, 1, 1)).days * 86_400 * SECOND_US  # noqa: DTZ001 - wall clock minus wall clock
