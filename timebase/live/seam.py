"""Where history meets live: one subscription gives both, numbered, without a hole and without a duplicate.

Order: follow first, so that whatever happens from then on is held; then read the past; what is held and known from it
is left out; the rest goes on live. A number is given by the hub when an event becomes durable, so the past is numbered
backwards from the newest event that it contains.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Protocol

import numpy as np
import trio
from numpy.typing import NDArray

from timebase.errors import NotSupported, TimeBaseError
from timebase.history.answer import Answer
from timebase.model.bars import Bars, Flag
from timebase.model.calendar import Calendar, zone_of
from timebase.model.demand import Question
from timebase.model.feed import Channel, FeedKind
from timebase.model.instrument import Instrument
from timebase.model.live import BarStatus
from timebase.model.receipt import Attempt
from timebase.model.series import TickSeries
from timebase.model.ticks import Trades
from timebase.model.timerange import DAY_US, TimeRange
from timebase.streaming.event import BarRows, Event, Fault, Remark
from timebase.streaming.follower import Follower, Sift
from timebase.streaming.hub import EVENT_ROWS, Hub

MAX_ROWS = 100_000  # of the past, per channel: 5 MB held while a client reads it. More is for GET /data and /trades
BIND_S = 3.0  # for a feed to be planned; without one, anybody's history will do
SHOWN_S = 2.0  # for what is committed to be shown: a few milliseconds, unless the road is jammed
RECENT = 64  # bars that may still be told as closed after the past was read


class History(Protocol):
    """Who answers questions about the past; see history/historian.py."""

    async def answer(self, question: Question, attempts: list[Attempt]) -> Answer: ...


class Tape(Protocol):
    """Where trades are kept; see storage/store.py. Raises: StoreUnavailable."""

    async def instrument(self, symbol: str) -> Instrument | None: ...
    async def tick_series(self, instrument: Instrument, provider: str, kind: str) -> TickSeries: ...
    async def read_trades(
        self, series: TickSeries, within: TimeRange, *, limit: int | None = None, newest_first: bool = False
    ) -> tuple[Trades, NDArray[np.int64]]:
        """Trades of `within`, ascending, and the commit that brought each."""
        ...


@dataclass(frozen=True, slots=True)
class Past:
    """What was before, as one numbered event's content would hold it, and what is known from it."""

    parts: Sequence[BarRows | Trades] = ()
    provider: str = ""
    knows: "Callable[[Sequence[Event]], int | None]" = lambda _: None  # the newest number of those that it contains
    sift: Sift | None = None
    is_cut: bool = False  # there is more before
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)


class Clocks(Protocol):
    """Who knows the time of a feed's data; see live/feeds.py. A tape has a clock of its own."""

    def event_now_us(self, symbol: str, provider: str) -> int | None: ...


class Seam:
    def __init__(self, hub: Hub, history: History, tape: Tape, clocks: Clocks, clock: Callable[[], int]) -> None:
        self._hub = hub
        self._history = history
        self._tape = tape
        self._clocks = clocks
        self._clock = clock

    async def bridge(self, follower: Follower, channel: Channel, joined_seq: int, from_us: int) -> None:
        """Give a follower who has joined `channel` held the past since `from_us`, then let it go on live.

        What cannot be read is told as an `error` of the channel, which goes on live nevertheless.
        """
        try:
            past = await self._read(channel, from_us)
        except TimeBaseError as error:
            past = Past()
            follower.tell(Event(Fault(error.code, str(error)), channel, joined_seq))
        newest = past.knows(follower.held(channel)) or joined_seq
        for event in _numbered(past, channel, newest):
            await follower.offer(event)
        end = {"seq": newest, "count": len(past), "provider": past.provider or None, "is_cut": past.is_cut}
        follower.tell(Event(Remark("history_end", {**end, "warnings": past.warnings}), channel))
        follower.release(channel, newest, past.sift)

    async def _read(self, channel: Channel, from_us: int) -> Past:
        match channel.kind:
            case FeedKind.BARS:
                return await self._bars(channel, from_us)
            case FeedKind.TRADES:
                return await self._trades(channel, from_us)
        await trio.lowlevel.checkpoint()
        return Past()

    async def _supplier(self, channel: Channel) -> str | None:
        with trio.move_on_after(BIND_S):
            return await self._hub.supplier(channel)
        return None

    # --- bars ---

    async def _bars(self, channel: Channel, from_us: int) -> Past:
        """Those whose period is over: the one that is forming is live.

        When no whole period is asked for, a past that nobody has is none: live begins with what there is.
        """
        interval = channel.interval
        assert interval is not None
        provider = await self._supplier(channel)
        calendar, now_us = Calendar(await self._zone(channel)), self._now_us(channel.symbol, provider)
        start_us = calendar.stamp_at(interval, from_us)
        end_us = min(calendar.stamp_at(interval, now_us), interval.floor_us(now_us))
        if start_us >= end_us:
            return Past()
        question = Question(
            channel.symbol,
            interval,
            TimeRange(start_us, end_us),
            limit=MAX_ROWS,
            keep="newest",
            provider=provider,
        )
        try:
            answer = await self._ask(question, channel)
        except NotSupported:
            if start_us < from_us and interval.end_us(start_us) >= end_us:
                return Past()
            raise
        bars = await answer.load()
        bars = bars.pick((bars.flags & Flag.FORMING) == 0)
        known = _Known(bars)
        is_cut = len(bars) >= MAX_ROWS
        return Past(
            tuple(_by_status(bars)), answer.series.provider, known.newest, _Sift(bars).rest, is_cut, answer.warnings
        )

    def _now_us(self, symbol: str, provider: str | None) -> int:
        """Now, where the bars are made: what is later than that on the feed's clock will come live."""
        event_now_us = None if provider is None else self._clocks.event_now_us(symbol, provider)
        return self._clock() if event_now_us is None else min(self._clock(), event_now_us)

    async def _zone(self, channel: Channel) -> str:
        """Whose dates count; see `calendar.zone_of`. Within the day it does not matter."""
        if channel.interval is None or channel.interval.is_intraday:
            return ""
        instrument = await self._tape.instrument(channel.symbol)
        return "" if instrument is None else zone_of(instrument)

    async def _ask(self, question: Question, channel: Channel) -> Answer:
        """Of the provider that is live; of any, when that one knows only the present and the client does not mind."""
        try:
            return await self._history.answer(question, [])
        except NotSupported:
            if channel.provider is not None or question.provider is None:
                raise
            return await self._history.answer(replace(question, provider=None), [])

    # --- trades ---

    async def _trades(self, channel: Channel, from_us: int) -> Past:
        provider = await self._supplier(channel)
        instrument = await self._tape.instrument(channel.symbol)
        if provider is None or instrument is None:
            return Past()
        series = await self._tape.tick_series(instrument, provider, FeedKind.TRADES.value)
        # A vendor's clock may be ahead of ours: everything from then on.
        within = TimeRange(from_us, max(self._clock(), from_us) + DAY_US)
        trades, commits = await self._tape.read_trades(series, within, limit=MAX_ROWS, newest_first=True)
        if not len(trades):
            return Past(provider=provider)
        newest_commit = int(commits.max())
        with trio.move_on_after(SHOWN_S):  # what was read may be on its way to the hub still
            await self._hub.shown(newest_commit)

        def is_known(event: Event) -> bool:
            return event.commit_id is not None and event.commit_id <= newest_commit and event.provider == provider

        def newest(held: Sequence[Event]) -> int | None:
            """Commits ascend, and what waited in the spool (None) is stored before anything newer."""
            return max((event.last_seq for event in held if is_known(event)), default=None)

        return Past(
            (trades,), provider, newest, lambda event: () if is_known(event) else (event,), len(trades) >= MAX_ROWS
        )  # fmt: skip


class _Known:
    """Which of the bars that are held the past has told already."""

    def __init__(self, bars: Bars) -> None:
        self._rows = _rows(bars)

    def newest(self, held: Sequence[Event]) -> int | None:
        """The newest number up to which everything held is in the past, as it was told or as it became later.

        A missing period is in no history: it counts as told when something later is.
        """
        told = [
            (seq, status, time, values)
            for event in held
            if event.is_numbered
            for seq, status, time, values in _bars(event)
        ]
        newest: int | None = None
        for at, (seq, status, time, _) in enumerate(told):
            later = [each for _, _, other, each in told[at:] if other == time]
            if self._rows.get(time) in later:
                newest = seq
            elif status is not BarStatus.MISSING:
                break
        return newest


class _Sift:
    """Takes out bars that the past has told with the same values: a period that was just over may be closed live
    after its bar was fetched. With other values it is a revision to this follower, who has seen it closed.
    """

    def __init__(self, bars: Bars) -> None:
        self._rows = _rows(bars.pick(slice(max(len(bars) - RECENT, 0), None)))

    def rest(self, event: Event) -> Sequence[Event]:
        if not self._rows or not event.is_numbered or not isinstance(event.content, BarRows):
            return (event,)
        told = [self._verdict(status, time, values) for _, status, time, values in _bars(event)]
        if all(verdict is event.content.status for verdict in told):
            return (event,)
        parts = ((verdict, event.pick(slice(at, at + 1))) for at, verdict in enumerate(told))
        return [_with_status(part, verdict) for verdict, part in parts if verdict is not None]

    def _verdict(self, status: BarStatus, time: int, values: tuple[float, ...]) -> BarStatus | None:
        """What a bar is to the follower; None: known. Once it has changed, every later word about it counts."""
        known = self._rows.pop(time, None)
        if known == values:
            return None
        return BarStatus.REVISED if known is not None and status is BarStatus.CLOSED else status


def _with_status(event: Event, status: BarStatus) -> Event:
    assert isinstance(event.content, BarRows)
    return replace(event, content=replace(event.content, status=status), _encoded={})


def _rows(bars: Bars) -> dict[int, tuple[float, ...]]:
    columns = (bars.open, bars.high, bars.low, bars.close, bars.volume)
    values = zip(*(column.tolist() for column in columns), strict=True)
    return dict(zip(bars.time.tolist(), values, strict=True))


def _bars(event: Event) -> Iterator[tuple[int, BarStatus, int, tuple[float, ...]]]:
    """Number, status, time and values of each bar of an event."""
    assert isinstance(event.content, BarRows)
    for at, (time, values) in enumerate(_rows(event.content.bars).items()):
        yield event.seq + at, event.content.status, time, values


def _by_status(bars: Bars) -> Iterator[BarRows]:
    """Runs of bars that were fetched as usual, and of those that filled a gap."""
    is_healed = (bars.flags & Flag.BACKFILLED) != 0
    first = 0
    for healed, run in groupby(is_healed.tolist()):
        count = len(list(run))
        status = BarStatus.BACKFILLED if healed else BarStatus.CLOSED
        yield BarRows.bare(status, bars.pick(slice(first, first + count)))
        first += count


def _numbered(past: Past, channel: Channel, newest: int) -> Iterator[Event]:
    """The past in pieces, the last row of which has the number `newest`."""
    seq = newest - len(past) + 1
    for part in past.parts:
        whole = Event(part, channel, seq, past.provider, is_numbered=True)
        for start in range(0, len(part), EVENT_ROWS):
            yield whole.pick(slice(start, start + EVENT_ROWS))
        seq += len(part)
