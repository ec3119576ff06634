"""Binance's public spot endpoints: what the loopback vendor says when python-binance asks.

Raw: klines are [[open_ms, "open", "high", "low", "close", "volume", close_ms, …], …], oldest first, at most `limit`,
    those whose opening instant is in [startTime, endTime].
"""

import json
from collections.abc import Sequence
from pathlib import Path

from recorded.vendor import Answer, Seen, Vendor

KLINES = "/api/v3/klines"
PRICES = "/api/v3/ticker/price"

INVALID_SYMBOL = {"code": -1121, "msg": "Invalid symbol."}
TOO_MUCH_WEIGHT = {"code": -1003, "msg": "Too much request weight used; current limit is 6000 per 1 MINUTE."}
INVALID_KEY = {"code": -2015, "msg": "Invalid API-key, IP, or permissions for action."}
NOT_HERE = {"code": 0, "msg": "Service unavailable from a restricted location according to 'b. Eligibility'."}

Kline = Sequence[int | str]


class Exchange:
    """A vendor that knows the klines given to it and no other symbol."""

    def __init__(self, vendor: Vendor) -> None:
        self.vendor = vendor
        self._klines: dict[tuple[str, str], list[Kline]] = {}
        vendor.serve(KLINES, self.klines)
        vendor.serve(PRICES, self.prices)

    @property
    def pages(self) -> list[Seen]:
        return self.vendor.asked(KLINES)

    def list(self, symbol: str, interval: str, klines: Sequence[Kline]) -> None:
        known = {kline[0]: kline for kline in (*self._klines.get((symbol, interval), ()), *klines)}
        self._klines[symbol, interval] = [known[at] for at in sorted(known)]

    def replay(self, file: Path) -> None:
        """Everything in a recording {"routes": {path: {"GET": [{"queryString", "data"}]}}} that are spot klines."""
        for answer in json.loads(file.read_text())["routes"][KLINES]["GET"]:
            query = dict(pair.split("=") for pair in answer["queryString"].split("&"))
            self.list(query["symbol"], query["interval"], answer["data"])

    def of(self, symbol: str, interval: str) -> Sequence[Kline]:
        return self._klines[symbol, interval]

    def klines(self, seen: Seen) -> Answer:
        if not any(symbol == seen.query["symbol"] for symbol, _ in self._klines):
            return Answer(INVALID_SYMBOL, status=400)
        start_ms, end_ms = int(seen.query["startTime"]), int(seen.query["endTime"])
        klines = self._klines.get((seen.query["symbol"], seen.query["interval"]), [])
        page = [kline for kline in klines if start_ms <= kline[0] <= end_ms]
        return Answer(page[: int(seen.query["limit"])])

    def prices(self, _seen: Seen) -> Answer:
        return Answer([{"symbol": symbol, "price": "1.0"} for symbol in sorted({s for s, _ in self._klines})])


def minutes(first_ms: int, n: int, step_ms: int = 60_000) -> list[Kline]:
    """Klines that differ from each other, one after the other."""
    return [
        [at_ms, f"{i}.5", f"{i}.9", f"{i}.1", f"{i}.75", f"{i}.125", at_ms + step_ms - 1, "0", 1, "0", "0", "0"]
        for i, at_ms in enumerate(range(first_ms, first_ms + n * step_ms, step_ms), start=1)
    ]
