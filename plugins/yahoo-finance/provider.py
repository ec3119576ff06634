"""Yahoo Finance, by way of yfinance.

    question -> splits and dividends (kept an hour) -> one request per window -> raw bars
    feeds of bars -> polls, each of them paid for -> bars, forming and closed: yahoo_polling.py
    feeds of quotes -> one WebSocket -> best bid and ask, where Yahoo gives them: yahoo_quoting.py

What is done to Yahoo's numbers. Yahoo adjusts open, high, low, close and volume for every split up to today, whatever
range is asked for, and divides dividends by later splits; TimeBase stores what was traded and paid. So the whole list
of splits up to now is fetched beside the bars, in one small request that is kept for an hour (and renewed at once when
the bars show a newer split), and each bar is multiplied back, its volume divided, by the splits whose ex-date is later
than the bar's date in exchange time; a week or month counts as its opening date. Dividends are multiplied back the same
way and sent as they were paid. All splits and dividends since the question's start go along, also those after its end,
so that a reader can adjust. `Adj Close` is not used. Prices are the shortest decimals of Yahoo's 32-bit numbers; what
is multiplied back keeps the decimals that are good: 19 dollars before a 15:1 split are 19 and not 19.000005.

Bars are stamped with their opening instant; days with 00:00 UTC of the exchange's date, weeks Monday, months the first.
Left out: capital gains of funds (Yahoo counts some of them twice), prices outside the regular session, the last trade
that Yahoo appends as a row of its own. London prices are in pence, as Yahoo quotes them.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import anyio
from anyio.to_thread import run_sync
from yahoo_account import Asking
from yahoo_actions import NO_LEDGER, Ledger
from yahoo_ledgers import Ledgers
from yahoo_news import Known, News
from yahoo_shares import Share, divide
from yahoo_symbols import to_native
from yahoo_windows import windows

from timebase.clock import SteadyClock, now_us
from timebase.model.timerange import MINUTE_US
from timebase.sdk import (
    AssetClass,
    Bars,
    CorporateAction,
    FeedKind,
    HistoryRequest,
    Instrument,
    Provider,
    ProviderError,
    Stream,
    Subscription,
    SymbolNotFound,
    Unsupported,
)

# What neither splits nor pays.
WITHOUT_ACTIONS = frozenset({AssetClass.CRYPTO, AssetClass.FOREX, AssetClass.INDEX, AssetClass.FUTURE})

LONGEST_POLL_S = 900.0
LONGEST_ANSWER_S = 10.0  # to a handshake or a ping, which take a fraction of a second


@contextmanager
def without_pyarrow() -> Iterator[None]:
    """Keep pandas from loading it where it is installed: 36 of 136 MB, for strings that nobody here has."""
    is_loaded = "pyarrow" in sys.modules
    if not is_loaded:
        sys.modules["pyarrow"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if not is_loaded:
            del sys.modules["pyarrow"]


class YahooFinance(Provider):
    def setup(self) -> None:
        """Offline: nothing is asked of Yahoo before the first question."""
        with without_pyarrow():
            from yahoo_vendor import Yahoo  # loads yfinance and pandas, which takes most of a second

        base_url = str(self.options.get("base_url") or "")
        self._yahoo = Yahoo(base_url, float(self.options.get("timeout", 30)), self.cache_dir)
        self._ledgers = Ledgers()
        self._steady = SteadyClock()

    def close(self) -> None:
        self._yahoo.close()

    def history(self, request: HistoryRequest) -> Iterator[Bars | list[CorporateAction]]:
        native = to_native(request.symbol, request.asset_class)
        asking = Asking(self.spend_sync)
        fetch = partial(self._yahoo.ledger, native, asking)
        has_actions = request.asset_class not in WITHOUT_ACTIONS
        wanted = list(windows(request, now_us()))
        ledger = self._ledgers.get(native, fetch) if has_actions else NO_LEDGER
        yield ledger.since(request.start_us)
        for window in wanted:
            table = self._yahoo.table(native, request.interval, window, asking)
            if table is None:
                continue
            if has_actions and table.has_split_after(ledger):
                ledger = self._ledgers.renew(native, fetch)
                yield ledger.since(request.start_us)
            bars = table.bars(ledger.splits, request.start_us, request.end_us)
            if len(bars):
                yield bars

    async def stream(self, stream: Stream) -> None:
        bars, quotes = Share(stream), Share(stream)
        late_us = int(float(self.options.get("late_minutes", 15)) * MINUTE_US)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._poll, stream, bars, late_us)
            tasks.start_soon(self._quote, stream, quotes, late_us)
            await divide(stream, {FeedKind.BARS: bars, FeedKind.QUOTES: quotes})

    async def _poll(self, stream: Stream, share: Share, late_us: int) -> None:
        from yahoo_polling import Polling, Rhythm

        rhythm = Rhythm(float(self.options.get("poll_seconds", 60)), LONGEST_POLL_S)
        await Polling(stream, share, self._newest, late_us, rhythm, self.log).run()

    async def _quote(self, stream: Stream, share: Share, late_us: int) -> None:
        from yahoo_quoting import Patience, Quoting
        from yahoo_socket import open_socket

        timeout_s = min(float(self.options.get("timeout", 30)), LONGEST_ANSWER_S)
        opener = partial(open_socket, str(self.options.get("stream_url") or ""), timeout_s)
        patience = Patience(float(self.options.get("heartbeat", 15)), timeout_s, late_us)
        await Quoting(stream, share, opener, self._admit, patience, self.log).run()

    async def _admit(self, feed: Subscription) -> None:
        """Yahoo's stream is silent about what it does not have; its ledger of splits and dividends is not.

        Raises: SymbolNotFound, Unsupported.
        """
        native = to_native(feed.symbol, feed.asset_class)
        try:
            await run_sync(self._ledgers.get, native, partial(self._look_up, native))
        except (SymbolNotFound, Unsupported):
            raise
        except ProviderError as error:
            self.log.warning("whether Yahoo has %s cannot be told, it is subscribed all the same: %s", native, error)

    def _look_up(self, native: str) -> Ledger:
        self.spend_sync()  # nobody has asked a question that would have paid for it
        return self._yahoo.ledger(native, Asking(self.spend_sync))

    def _newest(self, feed: Subscription, known: Known) -> News:
        """One poll, in a thread. Today's bars are as they were traded: no split comes after them."""
        assert feed.interval is not None
        native = to_native(feed.symbol, feed.asset_class)
        at_us = now_us()
        request = HistoryRequest(feed.symbol, feed.asset_class, feed.interval, known.since_us(at_us), at_us)
        asking = Asking(self.spend_sync)
        rows: list[Bars] = []
        for window in windows(request, at_us):
            self.spend_sync()  # nobody has asked a question that would have paid for it
            table = self._yahoo.table(native, feed.interval, window, asking)
            if table is not None:
                rows.append(table.bars(NO_LEDGER.splits, request.start_us, request.end_us))
        return known.news(rows[-1] if rows else Bars((), (), (), (), (), ()), self._steady.earliest_us())

    def symbols(self, query: str, limit: int) -> list[Instrument]:
        return self._yahoo.symbols(query, limit, Asking(self.spend_sync))
