"""What a file of the spool holds: batches, or one live delivery, as JSON and raw columns. Pure.

Format, little-endian: a magic of eight bytes; records, each a uint32 length, that much JSON, and the columns that it
announces as raw bytes; at the end a uint32 CRC-32 of everything between. `TBSPOOL1`: a record per batch, with the
columns of its bars and of its refused rows. `TBSPOOL2`: a record that names the delivery, then one for each Ticks,
BarUpdate and word that is stored; what is only shown does not wait.
"""

import json
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from timebase.model.bars import Bars, Batch, Outcome, Refused
from timebase.model.feed import Feed, FeedKind
from timebase.model.instrument import AssetClass, CorporateAction, Instrument
from timebase.model.interval import Interval
from timebase.model.live import Arrival, BarStatus, BarUpdate, LiveBatch, Ticks
from timebase.model.series import Series, TickSeries
from timebase.model.ticks import Quotes, Trades
from timebase.model.timerange import TimeRange
from timebase.storage.delivery import Delivery
from timebase.storage.gather import is_stored, is_word

MAGIC, LIVE_MAGIC = b"TBSPOOL1", b"TBSPOOL2"
_U32 = struct.Struct("<I")
_BARS = ("<i8", *["<f8"] * 5, "<i2")
_TRADES = ("<i8", "<f8", "<f8", "<i1", "<i8", "<i1")
_QUOTES = ("<i8", *["<f8"] * 4)
_EXTRAS = ("<i8", "<f8", "<i4")  # of a BarUpdate: trades, vwap, revision


class Damaged(Exception):
    """A file of the spool is not what was written."""


@dataclass(frozen=True, slots=True)
class SpooledLive:
    """One live delivery that waited. Feeds and series as the database knew them that it was meant for."""

    delivery: Delivery
    batch: LiveBatch


def pack(batches: Sequence[Batch]) -> Iterator[bytes]:
    return _sealed(MAGIC, _pack_batches(batches))


def pack_live(batches: Sequence[LiveBatch], delivery: Delivery) -> Iterator[bytes]:
    return _sealed(LIVE_MAGIC, _pack_delivery(batches, delivery))


def unpack(data: bytes) -> tuple[Batch, ...] | SpooledLive:
    """Raises: Damaged."""
    view = memoryview(data)
    magic, body = data[: len(MAGIC)], view[len(MAGIC) : -_U32.size]
    if magic not in (MAGIC, LIVE_MAGIC) or _U32.pack(zlib.crc32(body)) != view[-_U32.size :]:
        raise Damaged("its checksum is wrong")
    try:
        return tuple(_unpack_batches(body)) if magic == MAGIC else _unpack_delivery(body)
    except (ArithmeticError, LookupError, TypeError, ValueError, struct.error) as error:
        raise Damaged(f"it is whole, and not of this version of TimeBase: {error!r}") from error


def _sealed(magic: bytes, pieces: Iterable[bytes]) -> Iterator[bytes]:
    yield magic
    crc = 0
    for piece in pieces:
        crc = zlib.crc32(piece, crc)
        yield piece
    yield _U32.pack(crc)


def _pack_head(head: Mapping[str, object]) -> bytes:
    text = json.dumps(head).encode()
    return _U32.pack(len(text)) + text


def _pack_columns(columns: Sequence[NDArray[Any]], dtypes: Sequence[str]) -> Iterator[bytes]:
    for column, dtype in zip(columns, dtypes, strict=True):
        yield np.ascontiguousarray(column, dtype).tobytes()


class _Body:
    """Reads from one end of a file's body to the other."""

    def __init__(self, body: memoryview) -> None:
        self._body = body
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._body)

    def head(self) -> dict[str, Any]:
        (length,) = _U32.unpack_from(self._body, self._at)
        self._at += _U32.size + length
        found: dict[str, Any] = json.loads(bytes(self._body[self._at - length : self._at]))
        return found

    def columns(self, dtypes: Sequence[str], n: int) -> list[NDArray[Any]]:
        found = []
        for dtype in dtypes:
            found.append(np.frombuffer(self._body, dtype, n, self._at))
            self._at += found[-1].nbytes
        return found


# --- batches


def _pack_batches(batches: Sequence[Batch]) -> Iterator[bytes]:
    for batch in batches:
        yield _pack_head(_head(batch))
        for bars in (batch.bars, *(refused.bars for refused in batch.refused)):
            yield from _pack_columns(bars.columns(), _BARS)


def _head(batch: Batch) -> dict[str, object]:
    return {
        "demand_id": batch.demand_id,
        "series": _series_head(batch.series),
        "covers": [batch.covers.start_us, batch.covers.end_us],
        "outcome": batch.outcome.value,
        "reason": batch.reason,
        "fetched_us": batch.fetched_us,
        "settled_us": batch.settled_us,
        "is_last": batch.is_last,
        "actions": [[a.ex_date_us, a.kind, a.value, a.currency] for a in batch.actions],
        "warnings": batch.warnings,
        "why": batch.why,
        "bars": len(batch.bars),
        "refused": [[refused.rule, len(refused.bars)] for refused in batch.refused],
    }


def _unpack_batches(data: memoryview) -> Iterator[Batch]:
    body = _Body(data)
    while body:
        head = body.head()
        bars = Bars(*body.columns(_BARS, head["bars"]))
        refused = tuple(Refused(rule, Bars(*body.columns(_BARS, n))) for rule, n in head["refused"])
        yield _batch(head, bars, refused)


def _batch(head: Mapping[str, Any], bars: Bars, refused: tuple[Refused, ...]) -> Batch:
    return Batch(
        demand_id=head["demand_id"],
        series=_series(head["series"]),
        covers=TimeRange(*head["covers"]),
        outcome=Outcome(head["outcome"]),
        reason=head["reason"],
        fetched_us=head["fetched_us"],
        bars=bars,
        is_last=head["is_last"],
        actions=tuple(CorporateAction(*action) for action in head["actions"]),
        refused=refused,
        warnings=tuple(head["warnings"]),
        why=head["why"],
        settled_us=head["settled_us"],
    )


def _series_head(series: Series) -> list[object]:
    return [series.id, series.instrument_id, series.symbol, series.provider, series.interval.value]


def _series(head: Sequence[Any]) -> Series:
    series_id, instrument_id, symbol, provider, interval = head
    return Series(series_id, instrument_id, symbol, provider, Interval(interval))


# --- live deliveries


def _pack_delivery(batches: Sequence[LiveBatch], delivery: Delivery) -> Iterator[bytes]:
    yield _pack_head(asdict(delivery))
    for batch in batches:
        for ticks in batch.ticks:
            yield from _pack_ticks(ticks)
        for update in filter(is_stored, batch.updates):
            yield from _pack_update(update)
        for word in filter(is_word, batch.words):
            said = {"is_up": word.is_up, "reason": word.reason, "received_us": word.received_us}
            yield _pack_head({"word": said, "feed": _feed_head(word.feed)})


def _pack_ticks(ticks: Ticks) -> Iterator[bytes]:
    head = {"feed": _feed_head(ticks.feed), "received_us": ticks.received_us}
    if ticks.trades is not None:
        yield _pack_head({"trades": len(ticks.trades), **head})
        yield from _pack_columns(ticks.trades.columns(), _TRADES)
    if ticks.quotes is not None:
        yield _pack_head({"quotes": len(ticks.quotes), **head})
        yield from _pack_columns(ticks.quotes.columns(), _QUOTES)


def _pack_update(update: BarUpdate) -> Iterator[bytes]:
    yield _pack_head({
        "bars": len(update.bars), "feed": _feed_head(update.feed), "series": _series_head(update.series),
        "status": update.status.value, "event_us": update.event_us,
    })  # fmt: skip
    yield from _pack_columns(update.bars.columns(), _BARS)
    yield from _pack_columns((update.trades, update.vwap, update.revision), _EXTRAS)


def _feed_head(feed: Feed) -> dict[str, object]:
    """What storing needs of a feed; the series of its bars are with their updates."""
    return {
        "id": feed.id,
        "kind": feed.kind.value,
        "instrument": [feed.instrument.id, feed.instrument.symbol, feed.instrument.asset_class.value],
        "provider": feed.provider,
        "interval": feed.interval and feed.interval.value,
        "ticks": feed.ticks and [feed.ticks.id, feed.ticks.kind],
    }


def _feed(head: Mapping[str, Any]) -> Feed:
    instrument_id, symbol, asset_class = head["instrument"]
    ticks = None
    if head["ticks"]:
        series_id, kind = head["ticks"]
        ticks = TickSeries(series_id, instrument_id, symbol, head["provider"], kind)
    return Feed(
        id=head["id"],
        kind=FeedKind(head["kind"]),
        instrument=Instrument(instrument_id, symbol, AssetClass(asset_class)),
        provider=head["provider"],
        interval=Interval(head["interval"]) if head["interval"] else None,
        ticks=ticks,
    )


def _unpack_delivery(data: memoryview) -> SpooledLive:
    body = _Body(data)
    delivery = Delivery(**body.head())
    ticks: list[Ticks] = []
    updates: list[BarUpdate] = []
    words: list[Arrival] = []
    while body:
        head = body.head()
        feed = _feed(head["feed"])
        if "trades" in head:
            ticks.append(Ticks(feed, head["received_us"], trades=Trades(*body.columns(_TRADES, head["trades"]))))
        elif "quotes" in head:
            ticks.append(Ticks(feed, head["received_us"], quotes=Quotes(*body.columns(_QUOTES, head["quotes"]))))
        elif "bars" in head:
            updates.append(_update(head, feed, body))
        else:
            words.append(Arrival(feed, **head["word"]))
    return SpooledLive(delivery, LiveBatch(tuple(ticks), tuple(updates), tuple(words)))


def _update(head: Mapping[str, Any], feed: Feed, body: _Body) -> BarUpdate:
    n = head["bars"]
    bars = Bars(*body.columns(_BARS, n))
    trades, vwap, revision = body.columns(_EXTRAS, n)
    return BarUpdate(
        feed, _series(head["series"]), BarStatus(head["status"]), bars, trades, vwap, revision, head["event_us"]
    )
