"""The demo provider: a synthetic market that answers at once and offline, for its own five symbols and no other.

It imports numpy at the first question only, so that it stays small while nobody asks.
"""

from collections.abc import Iterator, Sequence

from markets import MARKETS, Market

from timebase.clock import SteadyClock
from timebase.model.timerange import DAY_US, MINUTE_US
from timebase.sdk import Bars, CorporateAction, HistoryRequest, Instrument, Provider, Stream, SymbolNotFound


class Demo(Provider):
    """The same (symbol, interval, bar time) is the same bar on every machine, whatever range it is asked in.

    A bar whose period is not over holds the minutes that have begun; what has not begun is not given.
    """

    def setup(self) -> None:
        self._steady = SteadyClock()  # the market goes on while the machine's clock steps, as a real one does

    def history(self, request: HistoryRequest) -> Iterator[Bars | list[CorporateAction]]:
        market = MARKETS.get(request.symbol)
        if market is None:
            raise SymbolNotFound(f"the demo invents prices for {', '.join(MARKETS)} only, not for {request.symbol}")
        return _answer(market, request, self.now_us())

    async def stream(self, stream: Stream) -> None:
        """Trades and quotes as the clock goes; the trades of a minute make the bar that history has for it."""
        from live import follow

        await follow(stream, self.now_us)

    def symbols(self, query: str, limit: int) -> Sequence[Instrument]:
        found = (market.instrument for market in MARKETS.values())
        return [each for each in found if query.upper() in f"{each.symbol} {each.name}".upper()][:limit]

    def now_us(self) -> int:
        return self._steady.now_us()


def _answer(market: Market, request: HistoryRequest, now_us: int) -> Iterator[Bars | list[CorporateAction]]:
    import prices

    until = now_us // MINUTE_US + 1  # the minute that now is in has begun
    actions = _actions(market, prices.dividends(market, until), until)
    if actions:
        yield actions
    asked = prices.Question(
        start=max(-(-request.start_us // MINUTE_US), prices.FIRST_MINUTE),
        end=min(-(-request.end_us // MINUTE_US), until),
        until=until,
    )
    if asked.start < asked.end:
        for columns in prices.batches(market, prices.bars(market, request.interval, asked)):
            yield Bars(*columns)


def _actions(market: Market, dividends: Sequence[tuple[int, float]], until: int) -> list[CorporateAction]:
    """All until now, whatever range was asked: a later split is what adjusts earlier bars."""
    splits = [
        CorporateAction(day * DAY_US, "split", float(ratio)) for day, ratio in market.splits if day * 1440 < until
    ]
    currency = market.instrument.currency
    cash = [CorporateAction(day * DAY_US, "dividend", value, currency) for day, value in dividends]
    return sorted(splits + cash, key=lambda action: action.ex_date_us)
