"""yfinance as TimeBase uses it: without its caches of answers, without its silence about errors.

Loads pandas, so it is imported in `setup`.
"""

import logging
import sqlite3
import warnings
from contextlib import closing
from pathlib import Path
from typing import Any

import yfinance
from curl_cffi.requests.exceptions import RequestException
from yahoo_account import Asking, asked_by
from yahoo_actions import Ledger, parse_ledger
from yahoo_bars import Table
from yahoo_errors import check_chart, unreachable
from yahoo_session import YahooSession
from yahoo_symbols import asset_class_of, to_canonical
from yahoo_windows import Window
from yfinance.data import YfData
from yfinance.exceptions import YFException, YFPricesMissingError, YFRateLimitError
from yfinance.scrapers.history import PriceHistory

from timebase.sdk import AssetClass, Empty, Instrument, Interval, Malformed, RateLimited

CHART_URL = "https://query2.finance.yahoo.com/v8/finance/chart/"

# What yfinance raises when an answer does not have the form that it expects.
_UNREADABLE = (KeyError, TypeError, ValueError, IndexError, AttributeError, YFException)


class _Fresh:
    """yfinance's source of data without its memory of answers about the past: a refresh must refresh."""

    def __init__(self, data: YfData) -> None:
        self.get = data.get
        self.cache_get = data.get


class Yahoo:
    """Yahoo's answers about native symbols."""

    def __init__(self, base_url: str, timeout_s: float, cache_dir: Path) -> None:
        logging.getLogger("yfinance").setLevel(logging.CRITICAL)  # what it would say is raised, or is no news
        warnings.filterwarnings("ignore", module=r"yfinance\.")  # its deprecated calls into pandas, for each answer
        yfinance.config.debug.hide_exceptions = False
        yfinance.config.network.retries = 0  # retrying is the router's trade, and it knows the budget
        drop_broken(cache_dir)
        yfinance.set_tz_cache_location(str(cache_dir))
        self._session = YahooSession(base_url, timeout_s)
        self._data = YfData(session=self._session)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        self._session.close()

    def table(self, native: str, interval: Interval, window: Window, asking: Asking) -> Table | None:
        """Prices as Yahoo gives them: adjusted for splits, not for dividends. None when there are none in that window.

        Yahoo's half-hours are skipped before (`windows` refuses them); what yfinance repairs is kept: days stamped an
        hour early where summer time begins at midnight, today's trade given as a row of its own, prices from outside
        the session.
        """
        # The time zone is only used for dates without one, and asking for it would be one more request per symbol.
        prices = PriceHistory(_Fresh(self._data), native, "UTC", session=self._session)  # type: ignore[no-untyped-call]
        start, end = window
        with asked_by(asking):
            try:
                frame = prices.history(interval=str(interval), start=start, end=end, auto_adjust=False, actions=True)
            except YFRateLimitError as exc:
                raise RateLimited(f"Yahoo limits requests: {exc}") from exc
            except (Empty, YFPricesMissingError):
                return None  # for yfinance: the session let the answer pass, so it is a chart, one without rows
            except RequestException as exc:
                raise unreachable(exc) from exc
            except _UNREADABLE as exc:
                raise Malformed(f"yfinance could not read Yahoo's answer: {exc!r}") from exc
        return Table(frame, interval) if len(frame) else None

    def ledger(self, native: str, asking: Asking) -> Ledger:
        """Every split and dividend up to now, from a chart of quarters: the smallest answer that has them all."""
        params = {"range": "max", "interval": "3mo", "events": "div,splits"}
        with asked_by(asking):
            try:
                body = self._data.get_raw_json(CHART_URL + native, params=params)  # type: ignore[no-untyped-call]
            except YFRateLimitError as exc:
                raise RateLimited(f"Yahoo limits requests: {exc}") from exc
            except RequestException as exc:
                raise unreachable(exc) from exc
            except ValueError as exc:
                raise Malformed(f"Yahoo's answer is not JSON: {exc}") from exc
        return parse_ledger(check_chart(body))

    def symbols(self, query: str, limit: int, asking: Asking) -> list[Instrument]:
        with asked_by(asking):
            try:
                found = yfinance.Search(  # type: ignore[no-untyped-call]
                    query, max_results=limit, news_count=0, lists_count=0, recommended=0, session=self._session
                )
            except YFRateLimitError as exc:
                raise RateLimited(f"Yahoo limits requests: {exc}") from exc
            except RequestException as exc:
                raise unreachable(exc) from exc
            except _UNREADABLE as exc:
                raise Malformed(f"yfinance could not read Yahoo's answer: {exc!r}") from exc
        return [instrument for row in found.quotes if (instrument := _instrument(row)) is not None][:limit]


def drop_broken(cache_dir: Path) -> None:
    """Remove what is no database any more (a full disk leaves such files): yfinance would fail with it for ever."""
    for file in cache_dir.glob("*.db"):
        try:
            with closing(sqlite3.connect(file)) as database:
                database.execute("PRAGMA quick_check").fetchall()
        except sqlite3.DatabaseError:
            for part in cache_dir.glob(f"{file.name}*"):
                part.unlink(missing_ok=True)


def _instrument(row: dict[str, Any]) -> Instrument | None:
    asset_class = asset_class_of(str(row.get("quoteType", "")))
    if asset_class is None:
        return None
    symbol = to_canonical(str(row["symbol"]), asset_class)
    name = str(row.get("longname") or row.get("shortname") or "").strip()
    currency = symbol.rpartition("-")[2] if asset_class in {AssetClass.FOREX, AssetClass.CRYPTO} else ""
    return Instrument(0, symbol, asset_class, name, currency, str(row.get("exchDisp") or row.get("exchange") or ""))
