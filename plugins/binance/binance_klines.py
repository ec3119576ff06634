"""Answers of GET /api/v3/klines to bars. Pure, and without numpy."""

from array import array

from timebase.sdk import Bars, Interval, Malformed

# Binance tells months from minutes by case.
NATIVE_INTERVALS = {
    Interval.M1: "1m",
    Interval.M5: "5m",
    Interval.M15: "15m",
    Interval.M30: "30m",
    Interval.H1: "1h",
    Interval.H4: "4h",
    Interval.D1: "1d",
    Interval.W1: "1w",
    Interval.MO1: "1M",
}


def parse_klines(answer: object) -> Bars:
    """Read one page of klines.

    Source: Binance Spot API docs, "Kline/Candlestick data".
    Raw: [[open_ms, "open", "high", "low", "close", "volume", close_ms, …], …], oldest first. `close_ms` is the last
        millisecond of the period and is ignored, and so is the volume in the quote currency.
    Raises: Malformed when the answer is no list of such rows.
    """
    if not isinstance(answer, list):
        raise Malformed(f"Binance's klines are not a list but {type(answer).__name__}")
    try:
        time, open_, high, low, close, volume = list(zip(*(row[:6] for row in answer), strict=True)) or [()] * 6
        time_us = array("q", (at_ms * 1_000 for at_ms in time))
        return Bars(time_us, *(array("d", map(float, column)) for column in (open_, high, low, close, volume)))
    except (TypeError, ValueError, KeyError, OverflowError) as exc:
        raise Malformed(f"Binance's klines cannot be read: {exc}") from exc


def parse_natives(answer: object) -> list[str]:
    """Read the symbols of GET /api/v3/ticker/price.

    Raw: [{"symbol", "price"}, …]
    Raises: Malformed.
    """
    try:
        return [str(row["symbol"]) for row in answer]  # type: ignore[attr-defined]
    except (TypeError, KeyError) as exc:
        raise Malformed(f"Binance's prices cannot be read: {exc!r}") from exc
