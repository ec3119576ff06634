"""Binance's spot market, by way of python-binance: klines in pages of 1000, and streams. No key is needed.

    question -> BTC-USDT is BTCUSDT -> page after page, each counted against the budget -> bars
    feeds -> trades, book tickers and klines over a few connections: binance_lines.py

Bars are stamped with their opening instant, UTC; weeks begin on Monday. Pages come one after the other: Binance skips
what lies before a pair's first trade, so that ten years of nothing cost one request.
"""

import time
from collections.abc import AsyncIterator

from binance_klines import NATIVE_INTERVALS, parse_klines, parse_natives
from binance_messages import stream_name
from binance_symbols import matching, to_instrument, to_native

from timebase.sdk import (
    Bars,
    HistoryRequest,
    Instrument,
    Malformed,
    Provider,
    ProviderError,
    Stream,
    Subscription,
    SymbolNotFound,
    Unsupported,
)

KEEP_SYMBOLS_S = 86_400.0
LONGEST_ANSWER_S = 10.0  # to a request on a stream, which takes a fraction of a second


class Binance(Provider):
    async def setup(self) -> None:
        """Offline: nothing is asked of Binance before the first question."""
        from binance_vendor import BASE_URL, PAGE, Market  # a quarter of a second

        self._market = Market(str(self.options.get("base_url") or BASE_URL), float(self.options.get("timeout", 30)))
        self._page = PAGE
        self._natives: list[str] = []
        self._natives_until_s = 0.0

    async def close(self) -> None:
        await self._market.close()

    async def history(self, request: HistoryRequest) -> AsyncIterator[Bars]:
        native = to_native(request.symbol)
        interval = NATIVE_INTERVALS.get(request.interval)
        if interval is None:
            raise Unsupported(f"Binance has no {request.interval} klines")
        # Binance includes both ends; both count opening instants.
        from_ms, last_ms = max(0, -(-request.start_us // 1_000)), -(-request.end_us // 1_000) - 1
        is_paid = True  # the first page comes with the question
        while from_ms <= last_ms:
            if not is_paid:
                await self.spend()
            is_paid = False
            bars = parse_klines(await self._market.klines(native, interval, from_ms, last_ms))
            if len(bars):
                yield bars
            if len(bars) < self._page:
                return
            next_ms = request.interval.end_us(bars.time[-1]) // 1_000
            if next_ms <= from_ms:
                raise Malformed("Binance gave the same page again")
            from_ms = next_ms

    async def stream(self, stream: Stream) -> None:
        from binance_lines import Patience, run_lines
        from binance_socket import STREAM_URL, Sockets

        timeout_s = min(float(self.options.get("timeout", 30)), LONGEST_ANSWER_S)
        patience = Patience(float(self.options.get("heartbeat", 5.0)), timeout_s)
        url = str(self.options.get("stream_url") or STREAM_URL)
        sockets = Sockets(self._market.client, url, timeout_s)
        await run_lines(stream, sockets.open, self._admit, patience, self.log)

    async def _admit(self, feed: Subscription) -> bool:
        """Binance acknowledges streams of symbols that it does not have, and is silent then.

        Returns: whether it is certain to have the symbol; nobody can tell while its list cannot be had.
        Raises: SymbolNotFound, Unsupported.
        """
        stream_name(feed)
        native = to_native(feed.symbol)
        try:
            if time.monotonic() >= self._natives_until_s:
                await self.spend()
            known = native in await self._known()
        except ProviderError as error:
            self.log.warning("whether Binance has %s cannot be told, it is subscribed all the same: %s", native, error)
            return False
        if not known:
            raise SymbolNotFound(f"Binance has no {feed.symbol}")
        return True

    async def symbols(self, query: str, limit: int) -> list[Instrument]:
        found = (to_instrument(native) for native in matching(await self._known(), query))
        return [instrument for instrument in found if instrument is not None][:limit]

    async def _known(self) -> list[str]:
        """From the list of prices, which is a hundredth of the size of Binance's description of its symbols."""
        if time.monotonic() >= self._natives_until_s:
            self._natives = parse_natives(await self._market.prices())
            self._natives_until_s = time.monotonic() + KEEP_SYMBOLS_S
        return self._natives
