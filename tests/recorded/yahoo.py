"""Yahoo's public endpoints, as seen in recorded answers: what the loopback vendor says when yfinance asks.

Raw: {"chart": {"result": [{"meta", "timestamp": [s], "events": {"splits", "dividends"}, "indicators": {"quote": [{…}],
    "adjclose": [{…}]}}], "error": null}}. Prices, volumes and dividends are adjusted for every split up to today.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from recorded.vendor import Answer, Seen, Vendor

CHART = "/v8/finance/chart/"
SEARCH = "/v1/finance/search"
CRUMB = "/v1/test/getcrumb"
COLUMNS = ("open", "high", "low", "close", "volume")

NOT_FOUND = {
    "chart": {"result": None, "error": {"code": "Not Found", "description": "No data found, symbol may be delisted"}}
}
TOO_MANY = b"Too Many Requests\r\n"
DOWN = b"<html><title>Will be right back...</title>Thank you for your patience.</html>"
BAD_CRUMB = {"finance": {"result": None, "error": {"code": "Unauthorized", "description": "Invalid Crumb"}}}


def no_data_in(start_s: int, end_s: int) -> dict[str, object]:
    """Yahoo's words for a range in which a known symbol has nothing."""
    text = f"Data doesn't exist for startDate = {start_s}, endDate = {end_s}"
    return {"chart": {"result": None, "error": {"code": "Bad Request", "description": text}}}


@dataclass(slots=True)
class Recording:
    """One symbol as Yahoo knows it: rows by interval, events of its whole life."""

    meta: dict[str, Any]
    rows: dict[str, list[tuple[int, ...]]] = field(default_factory=dict)
    splits: list[dict[str, Any]] = field(default_factory=list)
    dividends: list[dict[str, Any]] = field(default_factory=list)

    def split(self, at: datetime, new: float, old: float = 1) -> None:
        ratio = f"{new}:{old}"
        self.splits.append({"date": _s(at), "numerator": new, "denominator": old, "splitRatio": ratio})

    def dividend(self, at: datetime, amount: float) -> None:
        self.dividends.append({"amount": amount, "date": _s(at)})


class Yahoo:
    """A vendor that knows the symbols given to it and nothing else."""

    def __init__(self, vendor: Vendor) -> None:
        self.vendor = vendor
        self.symbols: dict[str, Recording] = {}
        vendor.always("/", Answer(b"", status=404, headers={"Set-Cookie": "A3=loopback; Path=/"}))
        vendor.always(CRUMB, Answer(b"cr.umb"))
        vendor.serve(CHART, self.chart)
        vendor.serve(SEARCH, self.search)

    @property
    def charts(self) -> list[Seen]:
        """The questions for bars that were asked; the ledger of events is not among them."""
        return [seen for seen in self.vendor.asked(CHART) if seen.query.get("range") != "max"]

    @property
    def ledgers(self) -> list[Seen]:
        return [seen for seen in self.vendor.asked(CHART) if seen.query.get("range") == "max"]

    def list(
        self,
        symbol: str,
        zone: str = "America/New_York",
        *,
        kind: str = "EQUITY",
        currency: str = "USD",
        rows: Mapping[str, Iterable[tuple[datetime, Sequence[float | None]]]] | None = None,
    ) -> Recording:
        """Put a symbol on the list; rows are (opening instant, (open, high, low, close, volume)) by interval."""
        meta = {
            "currency": currency, "symbol": symbol, "instrumentType": kind, "exchangeTimezoneName": zone,
            "priceHint": 2, "validRanges": ["1d", "max"],
        }  # fmt: skip
        known = Recording(meta)
        for interval, bars in (rows or {}).items():
            known.rows[interval] = [(_s(at), *values) for at, values in bars]
        self.symbols[symbol] = known
        return known

    def replay(self, file: Path) -> Recording:
        """Put a recorded answer on the list, whether the bare body or {request, response: {bodyJson}}."""
        body = json.loads(file.read_text())
        body = body["response"]["bodyJson"] if "response" in body else body
        result = body["chart"]["result"][0]
        meta = result["meta"]
        known = self.symbols.setdefault(meta["symbol"], Recording(meta))
        quote = result["indicators"]["quote"][0]
        columns = [quote[name] for name in COLUMNS] if quote else [[]] * len(COLUMNS)
        known.rows[meta["dataGranularity"]] = list(zip(result.get("timestamp", []), *columns, strict=True))
        events = result.get("events", {})
        known.splits += events.get("splits", {}).values()
        known.dividends += events.get("dividends", {}).values()
        return known

    def search(self, seen: Seen) -> Answer:
        """The listed symbols that begin with what was typed."""
        found = [known.meta for symbol, known in self.symbols.items() if symbol.startswith(seen.query["q"].upper())]
        quotes = [{"symbol": meta["symbol"], "quoteType": meta["instrumentType"]} for meta in found]
        return Answer({"count": len(quotes), "quotes": quotes, "news": []})

    def chart(self, seen: Seen) -> Answer:
        known = self.symbols.get(seen.path.removeprefix(CHART))
        if known is None:
            return Answer(NOT_FOUND, status=404)
        start_s, end_s = int(seen.query.get("period1", -(10**11))), int(seen.query.get("period2", 10**11))
        rows = [row for row in known.rows.get(seen.query["interval"], ()) if start_s <= row[0] <= end_s]
        return Answer(chart_body(known, seen.query["interval"], rows, start_s, end_s))


def chart_body(
    known: Recording, interval: str, rows: Sequence[tuple[int, ...]], start_s: int, end_s: int
) -> dict[str, object]:
    """One answer of /v8/finance/chart: without rows there is no `timestamp` and the quote is an empty object."""
    meta = {**known.meta, "dataGranularity": interval}
    if interval[-1] in "mh":
        meta["tradingPeriods"] = _sessions(known, rows)
    result: dict[str, object] = {"meta": meta, "indicators": {"quote": [{}]}}
    if rows:
        stamps, *columns = zip(*rows, strict=True)
        quote = {name: list(column) for name, column in zip(COLUMNS, columns, strict=True)}
        result["timestamp"] = list(stamps)
        result["indicators"] = {"quote": [quote], "adjclose": [{"adjclose": quote["close"]}]}
    result["events"] = {
        "splits": {str(e["date"]): e for e in known.splits if start_s <= e["date"] <= end_s},
        "dividends": {str(e["date"]): e for e in known.dividends if start_s <= e["date"] <= end_s},
    }
    return {"chart": {"result": [result], "error": None}}


def _sessions(known: Recording, rows: Sequence[tuple[int, ...]]) -> list[list[dict[str, object]]]:
    """The regular session, 09:30 to 16:00 local time (round the clock for coins), of each day that has rows."""
    zone = ZoneInfo(known.meta["exchangeTimezoneName"])
    is_coin = known.meta["instrumentType"] == "CRYPTOCURRENCY"
    days = sorted({datetime.fromtimestamp(row[0], zone).date() for row in rows})
    hours = ((0, 0, 23, 59) if is_coin else (9, 30, 16, 0)) if days else ()
    return [
        [{
            "timezone": "LOC", "gmtoffset": 0,
            "start": _s(datetime(day.year, day.month, day.day, hours[0], hours[1], tzinfo=zone)),
            "end": _s(datetime(day.year, day.month, day.day, hours[2], hours[3], tzinfo=zone)),
        }]
        for day in days
    ]  # fmt: skip


def _s(at: datetime) -> int:
    return int(at.timestamp())
