"""Messages of Binance's market streams to values. Pure."""

from dataclasses import dataclass

from binance_klines import NATIVE_INTERVALS
from binance_symbols import to_native

from timebase.sdk import BUY, SELL, FeedKind, Malformed, Subscription, Unsupported


@dataclass(frozen=True, slots=True)
class Trade:
    """Units: µs UTC; `time_us` is when it was traded, `event_us` when Binance sent it."""

    event_us: int
    time_us: int
    price: float
    size: float
    side: int
    id: int


@dataclass(frozen=True, slots=True)
class Quote:
    """Best bid and ask. Binance's spot market says no time with it."""

    bid: float
    bid_size: float
    ask: float
    ask_size: float


@dataclass(frozen=True, slots=True)
class Kline:
    """Units: µs UTC; `open_us` is the opening instant."""

    event_us: int
    open_us: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    is_closed: bool


@dataclass(frozen=True, slots=True)
class Event:
    """What came on one stream."""

    stream: str
    what: Trade | Quote | Kline


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to our own request `id`. `streams` is what LIST_SUBSCRIPTIONS says; `error` is "" when it was done."""

    id: int
    streams: frozenset[str] | None = None
    error: str = ""


def stream_name(feed: Subscription) -> str:
    """Example: trades of `BTC-USDT` -> `btcusdt@trade`

    Raises: SymbolNotFound when it is no pair, Unsupported when Binance has no such stream.
    """
    native = to_native(feed.symbol).lower()
    if feed.kind is FeedKind.TRADES:
        return f"{native}@trade"
    if feed.kind is FeedKind.QUOTES:
        return f"{native}@bookTicker"
    if feed.interval in NATIVE_INTERVALS:
        return f"{native}@kline_{NATIVE_INTERVALS[feed.interval]}"
    raise Unsupported(f"Binance streams no {feed.interval} klines")


def parse_message(message: object) -> Event | Reply:
    """Read one message of a combined stream.

    Source: Binance Spot API docs, "Web Socket Streams": Trade, Individual Symbol Book Ticker and Kline Streams, "Live
        Subscribing/Unsubscribing to streams".
    Raw: {"stream", "data": {"e": "trade", "E", "s", "t", "p", "q", "T", "m"} | {"u", "s", "b", "B", "a", "A"} |
        {"e": "kline", "E", "k": {"t", "o", "h", "l", "c", "v", "x", …}}}, or {"result": null | [stream, …], "id"}, or
        {"error": {"code", "msg"}, "id"}. Times are ms, numbers in quotes.
    Raises: Malformed.
    """
    try:
        match message:
            case {"stream": str(stream), "data": dict(data)}:
                return Event(stream, _parse_data(stream, data))
            case {"error": {"code": code, "msg": text}, "id": id_}:
                return Reply(int(id_ or 0), error=f"{text} (code {code})")
            case {"result": list(streams), "id": int(id_)}:
                return Reply(id_, frozenset(map(str, streams)))
            case {"result": None, "id": int(id_)}:
                return Reply(id_)
    except (KeyError, TypeError, ValueError, OverflowError) as exc:
        raise Malformed(f"Binance's message cannot be read: {exc!r}: {str(message)[:200]}") from exc
    raise Malformed(f"Binance sent what is no message of a stream: {str(message)[:200]}")


def _parse_data(stream: str, data: dict[str, object]) -> Trade | Quote | Kline:
    number = _Numbers(data)
    _, _, what = stream.partition("@")
    if what == "trade":
        side = SELL if data["m"] is True else BUY  # the taker sold where the buyer was the maker
        return Trade(number.us("E"), number.us("T"), number("p"), number("q"), side, int(str(data["t"])))
    if what == "bookTicker":
        return Quote(number("b"), number("B"), number("a"), number("A"))
    if what.startswith("kline_"):
        kline = data["k"]
        if not isinstance(kline, dict):
            raise TypeError("k is no object")
        of = _Numbers(kline)
        prices = (of("o"), of("h"), of("l"), of("c"), of("v"))
        return Kline(number.us("E"), of.us("t"), *prices, is_closed=kline["x"] is True)
    raise ValueError(f"nobody asked for {stream}")


class _Numbers:
    def __init__(self, data: dict[str, object]) -> None:
        self._data = data

    def __call__(self, name: str) -> float:
        return float(str(self._data[name]))

    def us(self, name: str) -> int:
        return int(str(self._data[name])) * 1_000
