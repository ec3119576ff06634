"""What one transaction stores of the live batches that wait: columns over all their series. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from timebase.model.bars import Bars, Batch, Flag, Outcome
from timebase.model.feed import Feed
from timebase.model.live import Arrival, BarStatus, BarUpdate, LiveBatch, Ticks
from timebase.model.series import Series
from timebase.model.ticks import NO_TRADE_ID, Quotes, Trades
from timebase.model.timerange import MINUTE_US, Ranges, TimeRange
from timebase.storage.coverage import Claim
from timebase.storage.queries.bar_extras import Extras
from timebase.storage.queries.live import Word
from timebase.storage.tick_rows import T, TickRows

REASON = "live"
_SHOWN_ONLY = (BarStatus.FORMING, BarStatus.MISSING)
_FLAG = {BarStatus.CLOSED: 0, BarStatus.REVISED: Flag.REVISED, BarStatus.BACKFILLED: Flag.BACKFILLED}


@dataclass(frozen=True, slots=True)
class Gathered:
    """`claims`: series id -> what its closed bars settle."""

    trades: TickRows[Trades]
    quotes: TickRows[Quotes]
    bars: tuple[Batch, ...]
    claims: Mapping[int, Sequence[Claim]]
    extras: Extras
    words: tuple[Word, ...]

    @property
    def compared_ids(self) -> list[int]:
        """The series of which something is compared with what is stored; the rest is only added to."""
        numbered = self.trades.series_id[self.trades.ticks.id != NO_TRADE_ID]
        return sorted({*np.unique(numbered).tolist(), *(batch.series.id for batch in self.bars)})


def is_stored(update: BarUpdate) -> bool:
    return update.status not in _SHOWN_ONLY and len(update.bars) > 0


def is_word(arrival: Arrival) -> bool:
    """True for what `recordings` keeps: the feed of a tick series came up or went down."""
    return arrival.is_up is not None and arrival.feed.ticks is not None


def first_us(ticks: Ticks) -> int:
    """When the first of them happened, which is before they were heard; of a tape that is played, when that was."""
    rows = ticks.quotes if ticks.trades is None else ticks.trades
    if rows is None or not len(rows):
        return ticks.received_us
    oldest_us = int(rows.time.min())
    return oldest_us if 0 <= ticks.received_us - oldest_us < MINUTE_US else ticks.received_us


def has_to_store(batch: LiveBatch) -> bool:
    return bool(batch.ticks) or any(map(is_stored, batch.updates)) or any(map(is_word, batch.words))


def gather(batches: Sequence[LiveBatch], known_us: int, recording: set[int]) -> Gathered:
    """`recording`: the ids of feeds that are known to be up; those whose ticks come without a word are added."""
    updates = [update for batch in batches for update in batch.updates if is_stored(update)]
    closed = [update for update in updates if update.status is BarStatus.CLOSED]
    return Gathered(
        _rows(((t.feed, t.trades) for b in batches for t in b.ticks if t.trades is not None), Trades),
        _rows(((t.feed, t.quotes) for b in batches for t in b.ticks if t.quotes is not None), Quotes),
        tuple(_bar_batches(updates, known_us)),
        _claims(closed, known_us),
        _extras(updates),
        tuple(word for batch in batches for word in _words(batch, recording)),
    )


def _rows(given: Iterable[tuple[Feed, T]], kind: type[T]) -> TickRows[T]:
    by_series: defaultdict[int, list[T]] = defaultdict(list)
    for feed, ticks in given:
        if feed.ticks is not None and len(ticks):
            by_series[feed.ticks.id].append(ticks)
    parts = [part for series_id in sorted(by_series) for part in by_series[series_id]]
    counts = [sum(map(len, by_series[series_id])) for series_id in sorted(by_series)]
    series_id = np.repeat(np.asarray(sorted(by_series), np.int32), counts)
    return TickRows(parts[0] if len(parts) == 1 else kind.concat(parts), series_id)


def _bar_batches(updates: Iterable[BarUpdate], known_us: int) -> Iterable[Batch]:
    """One batch per series, ascending; more only where a period is told of again, as by its revision.

    Each of those is a version of its own, so that the one before stays readable.
    """
    for same in _by_series(updates).values():
        layer: list[Bars] = []
        seen: set[int] = set()
        for update in same:
            times = update.bars.time.tolist()
            if not seen.isdisjoint(times):
                yield _bar_batch(same[0].series, layer, known_us)
                layer, seen = [], set()
            layer.append(_flagged(update))
            seen.update(times)
        yield _bar_batch(same[0].series, layer, known_us)


def _by_series(updates: Iterable[BarUpdate]) -> Mapping[int, list[BarUpdate]]:
    by_series: defaultdict[int, list[BarUpdate]] = defaultdict(list)
    for update in updates:
        by_series[update.series.id].append(update)
    return by_series


def _flagged(update: BarUpdate) -> Bars:
    flags = (update.bars.flags & ~np.int16(Flag.FORMING)) | np.int16(_FLAG[update.status])
    return replace(update.bars, flags=flags)


def _bar_batch(series: Series, layer: Sequence[Bars], known_us: int) -> Batch:
    bars = layer[0] if len(layer) == 1 else Bars.concat(layer)
    if len(bars) > 1:
        bars = bars.pick(np.argsort(bars.time, kind="stable"))
    covers = TimeRange(int(bars.time[0]), series.interval.end_us(int(bars.time[-1])))
    return Batch(0, series, covers, Outcome.COMPLETE, REASON, known_us, bars)


def _claims(closed: Iterable[BarUpdate], known_us: int) -> Mapping[int, Sequence[Claim]]:
    """Each closed bar settles its own period; what lies between two of them nobody has vouched for."""
    return {
        series_id: [Claim(Outcome.COMPLETE, Ranges.of(_periods(same)), known_us)]
        for series_id, same in _by_series(closed).items()
    }


def _periods(updates: Iterable[BarUpdate]) -> Iterable[TimeRange]:
    for update in updates:
        for at_us in update.bars.time.tolist():
            yield TimeRange(at_us, update.series.interval.end_us(at_us))


def _extras(updates: Sequence[BarUpdate]) -> Extras:
    if not updates:
        return Extras(np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0), np.empty(0, np.int64))
    series_id = np.repeat(
        np.asarray([u.series.id for u in updates], np.int32), [len(update.bars) for update in updates]
    )
    time = np.concatenate([update.bars.time for update in updates])
    vwap = np.concatenate([update.vwap for update in updates])
    trades = np.concatenate([update.trades for update in updates])
    order = np.lexsort((time, series_id))  # stable: of one period the last word comes last
    ids, times = series_id[order], time[order]
    is_last = np.append((ids[1:] != ids[:-1]) | (times[1:] != times[:-1]), True)
    kept = order[is_last]
    return Extras(series_id[kept], time[kept], vwap[kept], trades[kept])


def _words(batch: LiveBatch, recording: set[int]) -> Iterable[Word]:
    for ticks in batch.ticks:
        if ticks.feed.id not in recording and ticks.feed.ticks is not None:
            recording.add(ticks.feed.id)
            yield Word(ticks.feed.ticks.id, first_us(ticks), True)
    for word in batch.words:
        if word.is_up is None or word.feed.ticks is None:
            continue
        is_known = word.feed.id in recording
        if word.is_up and not is_known:
            recording.add(word.feed.id)
            yield Word(word.feed.ticks.id, word.received_us, True, word.reason)
        if not word.is_up:
            recording.discard(word.feed.id)
            yield Word(word.feed.ticks.id, word.received_us, False, word.reason)
