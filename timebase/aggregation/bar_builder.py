"""Bars of every interval from one feed of trades, closed once each, revised when their trades change afterwards."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from timebase.aggregation.holes import Holes
from timebase.aggregation.ladder import Ladder, Step
from timebase.aggregation.rows import Rows, seconds_of
from timebase.aggregation.tape import Tape, seconds
from timebase.aggregation.updates import bar_update, flat_rows, forming_updates, missing_update
from timebase.aggregation.watermark import Watermark
from timebase.model.calendar import Calendar, zone_of
from timebase.model.feed import Feed
from timebase.model.interval import Interval
from timebase.model.live import BarStatus, BarUpdate
from timebase.model.presence import NEVER_US
from timebase.model.ticks import Trades
from timebase.model.timerange import MINUTE_US, SECOND_US

# Of a period that is told by the period (missing, or empty when the operator wants those): a week of minutes. What is
# older is in the ledger, or rather not in it.
TOLD_AT_MOST = 10_080


# Trades that are kept however old they are: forgetting a few costs more (100 µs) than keeping them (64 kB).
WORTH_FORGETTING = 2_048


@dataclass(frozen=True, slots=True)
class Building:
    """How bars are built.

    Units: µs of event time. `lateness_us`: how much later than newer ones a trade may come and still belong. `keep_us`,
    `keep_trades`: how far back a closed bar can be revised; what is later still is counted, and changes no bar.
    """

    lateness_us: int = 500_000
    keep_us: int = 15 * MINUTE_US
    keep_trades: int = 32_768  # 1 MB of a busy feed
    fills_quiet: bool = False  # a flat bar without volume for a period without trades


class BarBuilder:
    """Order: what comes late within the lateness belongs; cutting and shuffling within it change nothing.

    `too_late` counts trades, cancels and corrections that came after what they concern was forgotten.
    """

    def __init__(self, feed: Feed, building: Building) -> None:
        self.feed = feed
        self.too_late = 0
        self._building = building
        self._tape = Tape()
        self._mark = Watermark(building.lateness_us, feed.since_us)
        self._ladder = Ladder({Interval.M1, *feed.bars}, Calendar(zone_of(feed.instrument)))
        self._has_news = False  # for `forming`
        self._forget_at_us = NEVER_US
        self._room = 2 * building.keep_trades  # trades on the tape until it is time to forget
        self._updates: list[BarUpdate] = []

    def take(self, trades: Trades) -> Trades:
        """Returns: those that are new."""
        if not len(trades):
            return trades
        if trades.time[0] >= self._closed_us() and self._tape.continues(trades):
            self._tape.append(trades)
            last = self._ladder.seconds.last()
            self._ladder.seconds.extend(seconds_of(trades.time, trades.price, trades.size, onto=last))
        else:
            trades = self._sort_in(trades)
            if not len(trades):
                return trades
        self._has_news = True
        self._hear(trades.time)
        if len(self._tape) > self._room:
            self._forget()
        return trades

    def pulse(self, at_us: int) -> None:
        """The vendor's connection is alive, and nothing older is to come."""
        self._hear(np.array((at_us,), np.int64))

    def leave(self) -> None:
        """The feed is down, or was made anew: from the newest trade on, something may be missing."""
        self._mark.leave()

    def come(self, since_us: int) -> None:
        """A connection was made, at an instant of our clock."""
        self._mark.come(since_us)

    def closed(self) -> tuple[BarUpdate, ...]:
        """All that closed, is missing or was revised since this was last asked, in the order in which it did."""
        updates, self._updates = tuple(self._updates), []
        return updates

    def forming(self, intervals: Collection[Interval]) -> tuple[BarUpdate, ...]:
        """The bars of the newest trade's periods, if there was a trade since this was last asked."""
        if not self._has_news or self._mark.is_in_doubt:
            return ()
        self._has_news = False
        newest = self._ladder.forming(intervals)
        standing = {
            step.interval: newest[step.interval]
            for step in self._ladder
            if step.interval in newest and newest[step.interval][0] >= step.open_stamp
        }
        return forming_updates(self.feed, standing, event_us=self._mark.newest_us)

    def _sort_in(self, trades: Trades) -> Trades:
        """The long way: copies out, late ones in, cancels and corrections heard, the bars they touch made anew."""
        is_word, is_lost = trades.flags != 0, trades.time < max(self._tape.from_us, self._kept_since_us())
        self.too_late += int(np.count_nonzero(is_lost & ~is_word))
        fresh = np.ones(len(trades), np.bool_)
        in_time = ~is_word & ~is_lost
        news = trades.pick(in_time)
        fresh[in_time] = self._tape.insert(news)
        changed = [seconds(trades.time[in_time & fresh])]
        if is_word.any():
            fresh[is_word], spoken_of = self._tape.put_right(trades.pick(is_word))
            changed.append(spoken_of)
        self._make_anew(np.unique(np.concatenate(changed)))
        return trades.pick(fresh)

    def _make_anew(self, changed: NDArray[np.int64]) -> None:
        if not len(changed):
            return
        time, price, size = self._tape.within(int(changed[0]), int(changed[-1]) + SECOND_US)
        touched = np.isin(time // SECOND_US * SECOND_US, changed)
        held = touched.any()
        rows = seconds_of(time[touched], price[touched], size[touched]) if held else Rows.empty()
        self._ladder.seconds.replace(changed, rows)
        changed_in = {id(self._ladder.seconds): changed}
        for step in self._ladder:
            bars = self._ladder.repair(step, changed_in[id(step.parts)])
            changed_in[id(step.table)] = bars.stamp
            if len(bars) and step.interval in self.feed.bars:
                self._revise(step, bars)

    def _revise(self, step: Step, bars: Rows) -> None:
        bars = bars.pick(~self._holes(step).among(bars.stamp))
        if not len(bars):
            return
        for stamp in bars.stamp.tolist():
            step.revisions[stamp] = step.revisions.get(stamp, 0) + 1
        revision = np.array([step.revisions[stamp] for stamp in bars.stamp.tolist()], np.int32)
        self._tell(step, BarStatus.REVISED, bars, revision)

    def _hear(self, time: NDArray[np.int64]) -> None:
        for part in self._mark.parts(time):
            self._mark.hear(part)
            self._advance()

    def _advance(self) -> None:
        """Close what the watermark has passed."""
        mark = self._mark
        if mark.settle():
            self._settle()
        if mark.is_unknown or mark.at_us < next(iter(self._ladder)).next_us:
            return
        for step in self._ladder:
            if mark.at_us >= step.next_us:
                self._close(step)
        if mark.at_us >= self._forget_at_us and (len(self._tape) > WORTH_FORGETTING or self._tape.has_words):
            self._forget()

    def _settle(self) -> None:
        """The feed has joined: nothing between the newest trade before and the first one after is whole."""
        joined_us, left_us = self._mark.joined_us, self._mark.left_us
        assert joined_us is not None
        if left_us == NEVER_US:
            self._ladder.open_at(joined_us)
        calendar = self._ladder.calendar
        for step in self._ladder:
            start = NEVER_US if left_us == NEVER_US else calendar.stamp_at(step.interval, left_us)
            step.holes.add(start, step.interval.end_us(calendar.stamp_at(step.interval, joined_us)))

    def _close(self, step: Step) -> None:
        since, until, rows = self._ladder.close(step, self._mark.at_us)
        if step.interval not in self.feed.bars:
            return
        for start, end in self._holes(step).within(since, until):
            self._tell_closed(step, rows, since, start)
            self._tell_missing(step, start, end)
            since = end
        self._tell_closed(step, rows, since, until)

    def _holes(self, step: Step) -> Holes:
        """What is not whole; while the feed has not joined again, all since it was down."""
        if not self._mark.is_joining or self._mark.left_us == NEVER_US:
            return step.holes
        return step.holes.copy_with_open_end(self._ladder.calendar.stamp_at(step.interval, self._mark.left_us))

    def _tell_closed(self, step: Step, rows: Rows, start: int, end: int) -> None:
        rows = rows.pick((rows.stamp >= start) & (rows.stamp < end))
        if self._building.fills_quiet and start < end:
            every = self._ladder.calendar.between(step.interval, start, end, at_most=TOLD_AT_MOST)
            rows = flat_rows(rows, every, step.table.before(start))
        if len(rows):
            self._tell(step, BarStatus.CLOSED, rows, np.zeros(len(rows), np.int32))

    def _tell_missing(self, step: Step, start: int, end: int) -> None:
        every = self._ladder.calendar.between(step.interval, start, end, at_most=TOLD_AT_MOST)
        self._updates.append(missing_update(self.feed, step.interval, every, event_us=self._mark.at_us))

    def _tell(self, step: Step, status: BarStatus, rows: Rows, revision: NDArray[np.int32]) -> None:
        event_us = self._mark.at_us if status is BarStatus.CLOSED else self._mark.newest_us
        self._updates.append(bar_update(self.feed, step.interval, status, rows, revision=revision, event_us=event_us))

    def _closed_us(self) -> int:
        """Trades before this belong to a bar that is closed."""
        return next(iter(self._ladder)).open_stamp

    def _kept_since_us(self) -> int:
        return (self._mark.at_us - self._building.keep_us) // SECOND_US * SECOND_US

    def _forget(self) -> None:
        at_us, keep = self._mark.at_us, self._building
        words_us = self._kept_since_us()
        before_us = max(words_us, self._tape.from_us)
        spare = self._tape.older_than(at_us // SECOND_US * SECOND_US) - keep.keep_trades
        if spare > 0:
            before_us = max(before_us, self._tape.time_of(spare) // SECOND_US * SECOND_US)
        self.too_late += self._tape.forget(before_us, words_us)
        self._ladder.forget(before_us)
        self._forget_at_us = at_us + keep.keep_us // 4
        self._room = len(self._tape) + keep.keep_trades
