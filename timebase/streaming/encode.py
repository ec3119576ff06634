"""Our own JSON: a frame is an array of events. Its text is in docs/streaming.md.

Measured for 1,000 trades: dicts through orjson 0.59 µs a row, columns through orjson and put together as text 0.54 µs
(and slower below 16 rows), `repr` of each float 1.48 µs.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from timebase.model.feed import Channel
from timebase.model.ticks import NO_TRADE_ID, Quotes, Side, TradeFlag, Trades
from timebase.streaming.event import BarRows, Dropped, Event, Fault, FeedWord, Goodbye, Remark

_SIDES: dict[int, str | None] = {Side.BUY: "buy", Side.SELL: "sell", Side.UNKNOWN: None}


class JsonEncoder:
    def encode(self, event: Event) -> bytes:
        return orjson.dumps(rows(event), default=_plain)[1:-1]

    def frame(self, events: Sequence[Event]) -> bytes:
        return b"[%b]" % b",".join([event.encoded(self) for event in events])


JSON = JsonEncoder()


def rows(event: Event) -> list[dict[str, Any]]:
    match event.content:
        case Trades() as trades:
            return _trades(event, trades)
        case BarRows() as bars:
            return _bars(event, bars)
        case Quotes() as quotes:
            return _quotes(event, quotes)
        case _ as word:
            return [_word(event, word)]


def _trades(event: Event, trades: Trades) -> list[dict[str, Any]]:
    channel, provider = _name(event.channel), event.provider
    made = [
        {
            "type": "trade", "channel": channel, "seq": seq, "time": time, "price": price, "size": size,
            "side": _SIDES[side], "id": None if number == NO_TRADE_ID else number, "provider": provider,
        }
        for seq, time, price, size, side, number in zip(
            range(event.seq, event.seq + len(trades)), (trades.time / 1000).tolist(), trades.price.tolist(),
            trades.size.tolist(), trades.side.tolist(), trades.id.tolist(), strict=True,
        )
    ]  # fmt: skip
    if trades.flags.any():
        for row, flag in zip(made, trades.flags.tolist(), strict=True):
            if flag:
                row["flag"] = "cancel" if flag & TradeFlag.CANCEL else "correction"
    return made


def _bars(event: Event, rows: BarRows) -> list[dict[str, Any]]:
    channel, provider, bars, status = _name(event.channel), event.provider, rows.bars, rows.status.value
    seqs = range(event.seq, event.seq + len(bars)) if event.is_numbered else [event.seq] * len(bars)
    return [
        {
            "type": "bar", "channel": channel, "seq": seq, "status": status, "time": time, "open": open_, "high": high,
            "low": low, "close": close, "volume": volume, "trades": _count(count, volume), "vwap": vwap,
            "revision": revision, "provider": provider,
        }
        for seq, time, open_, high, low, close, volume, count, vwap, revision in zip(
            seqs, (bars.time // 1000).tolist(), bars.open.tolist(), bars.high.tolist(), bars.low.tolist(),
            bars.close.tolist(), bars.volume.tolist(), rows.trades.tolist(), rows.vwap.tolist(),
            rows.revision.tolist(), strict=True,
        )
    ]  # fmt: skip


def _count(trades: int, volume: float) -> int | None:
    """A volume without trades: nobody has counted them."""
    return trades if trades > 0 or (trades == 0 and volume == 0) else None


def _quotes(event: Event, quotes: Quotes) -> list[dict[str, Any]]:
    channel = _name(event.channel)
    return [
        {
            "type": "quote", "channel": channel, "seq": event.seq, "time": time, "bid": bid, "bid_size": bid_size,
            "ask": ask, "ask_size": ask_size, "provider": event.provider,
        }
        for time, bid, bid_size, ask, ask_size in zip(
            (quotes.time / 1000).tolist(), quotes.bid.tolist(), quotes.bid_size.tolist(), quotes.ask.tolist(),
            quotes.ask_size.tolist(), strict=True,
        )
    ]  # fmt: skip


def _word(event: Event, word: FeedWord | Dropped | Fault | Goodbye | Remark) -> dict[str, Any]:
    channel = {"channel": _name(event.channel)} if event.channel else {}
    match word:
        case FeedWord():
            said = {"state": word.state.value, "since": word.since_us // 1000, "reason": word.reason}
            return {"type": "feed", **channel, **said, "provider": event.provider}
        case Dropped():
            return {
                "type": "dropped", **channel, "count": word.count, "from_seq": event.seq, "to_seq": word.to_seq
            }  # fmt: skip
        case Fault():
            return {"type": "error", **channel, "code": word.code, "message": word.message}
        case Goodbye():
            return {"type": "goodbye", "code": word.code, "message": word.message}
        case Remark():
            return {"type": word.type, **channel, **word.fields}


def _name(channel: Channel | None) -> str:
    return "" if channel is None else str(channel)


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
