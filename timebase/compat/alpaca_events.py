"""Events as Alpaca's market-data stream has them, version 2, in JSON or msgpack.

Source: docs.alpaca.markets, "Real-time Stock Data" and "Real-time Crypto Data"; what their SDK makes of it was seen on
the wire (alpaca-py 0.44). Cancelled and corrected trades are left out: Alpaca tells of them with the original's price
and exchange, which are not known here; what they change shows as updated bars.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgpack
import orjson

from timebase.model.feed import Channel
from timebase.model.instrument import AssetClass, classify
from timebase.model.interval import Interval
from timebase.model.live import BarStatus
from timebase.model.ticks import NO_TRADE_ID, Quotes, Trades
from timebase.streaming.event import BarRows, Event

Row = dict[str, Any]

_MICRO = 1_000_000
# An array of up to 2^32 items: a frame is put together from rows that are packed already.
_MANY = b"\xdd"


class MsgpackEncoder:
    """`t` is msgpack's timestamp: the SDK calls a method of it."""

    content_type = "application/msgpack"

    def encode(self, event: Event) -> bytes:
        return b"".join(msgpack.packb({**row, "t": _timestamp(row["t"])}) for row in rows(event))

    def frame(self, events: Sequence[Event]) -> bytes:
        shown = [(len(event), event.encoded(self)) for event in events]
        count = sum(rows for rows, packed in shown if packed)
        return _MANY + count.to_bytes(4, "big") + b"".join(packed for _, packed in shown) if count else b""

    def words(self, said: Mapping[str, object]) -> bytes:
        packed: bytes = msgpack.packb([said])
        return packed


class JsonEncoder:
    """`t` is RFC 3339 text."""

    content_type = "application/json"

    def encode(self, event: Event) -> bytes:
        return orjson.dumps([{**row, "t": _text(row["t"])} for row in rows(event)])[1:-1]

    def frame(self, events: Sequence[Event]) -> bytes:
        shown = [packed for event in events if (packed := event.encoded(self))]
        return b"[%b]" % b",".join(shown) if shown else b""

    def words(self, said: Mapping[str, object]) -> bytes:
        return orjson.dumps([said])


MSGPACK, JSON = MsgpackEncoder(), JsonEncoder()


def rows(event: Event) -> list[Row]:
    """The messages of one event; `t` still in µs UTC. None where Alpaca has no such message."""
    if event.channel is None:
        return []
    match event.content:
        case Trades() as trades if not trades.flags.any():
            return _trades(alpaca_symbol(event.channel), trades)
        case Trades() as trades:
            return _trades(alpaca_symbol(event.channel), trades.pick(trades.flags == 0))
        case Quotes() as quotes:
            return _quotes(alpaca_symbol(event.channel), quotes)
        case BarRows() as bars:
            return _bars(event.channel, bars)
        case _:
            return []


def alpaca_symbol(channel: Channel) -> str:
    """Pairs of coins have a slash there: BTC/USD."""
    symbol = channel.symbol
    return symbol.replace("-", "/", 1) if classify(symbol) is AssetClass.CRYPTO else symbol


def _trades(symbol: str, trades: Trades) -> list[Row]:
    columns = (trades.time, trades.price, trades.size, trades.side, trades.id)
    takers = {1: "B", -1: "S"}
    return [
        {
            "T": "t", "S": symbol, "i": None if number == NO_TRADE_ID else number, "x": "", "p": price, "s": size,
            "c": [], "z": "", "tks": takers.get(side, "-"), "t": time,
        }
        for time, price, size, side, number in zip(*(column.tolist() for column in columns), strict=True)
    ]  # fmt: skip


def _quotes(symbol: str, quotes: Quotes) -> list[Row]:
    return [
        {
            "T": "q", "S": symbol, "bx": "", "bp": bid, "bs": bid_size, "ax": "", "ap": ask, "as": ask_size, "c": [],
            "z": "", "t": time,
        }
        for time, bid, bid_size, ask, ask_size in zip(*(c.tolist() for c in quotes.columns()), strict=True)
    ]  # fmt: skip


def bar_type(interval: Interval | None, status: BarStatus) -> str:
    """b a minute as it closed, u one that changed afterwards, d a day so far; "" for what is not told."""
    if interval is Interval.D1:
        return "" if status is BarStatus.MISSING else "d"
    if interval is not Interval.M1:
        return ""
    changed = {BarStatus.REVISED: "u", BarStatus.BACKFILLED: "u"}
    return "b" if status is BarStatus.CLOSED else changed.get(status, "")


def _bars(channel: Channel, given: BarRows) -> list[Row]:
    kind = bar_type(channel.interval, given.status)
    if not kind:
        return []
    symbol, bars = alpaca_symbol(channel), given.bars
    columns = (bars.time, bars.open, bars.high, bars.low, bars.close, bars.volume, given.trades, given.vwap)
    return [
        {
            "T": kind, "S": symbol, "o": open_, "h": high, "l": low, "c": close, "v": volume,
            "n": None if count < 0 else count, "vw": vwap if vwap == vwap else None, "t": time,
        }
        for time, open_, high, low, close, volume, count, vwap in zip(*(c.tolist() for c in columns), strict=True)
    ]  # fmt: skip


def _timestamp(time_us: int) -> msgpack.Timestamp:
    seconds, micros = divmod(time_us, _MICRO)
    return msgpack.Timestamp(seconds, micros * 1_000)


def _text(time_us: int) -> str:
    seconds, micros = divmod(time_us, _MICRO)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{micros:06d}Z"
