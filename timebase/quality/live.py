"""What comes live, judged row by row: what is refused never reaches a bar, and is counted by rule."""

import logging
from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from timebase.model.bars import Bars
from timebase.model.feed import Feed
from timebase.model.live import Arrival, Live
from timebase.model.ticks import Quotes, Trades
from timebase.model.timerange import DAY_US, SECOND_US
from timebase.quality.repair import fill_volume
from timebase.quality.rules import Context, Rule, alignment, finite, high, low, positive, time_range, volume
from timebase.quality.tick_rules import (
    AHEAD_US,
    QUOTE_RULES,
    TRADE_RULES,
    QuoteRule,
    TickContext,
    TradeRule,
    crossed,
    is_clean,
)

log = logging.getLogger(__name__)

# Of the rules for history those that judge a row by itself: one message may tell the same forming bar several times.
BAR_RULES = (
    time_range.RULE,
    alignment.RULE,
    finite.RULE,
    positive.RULE,
    volume.RULE,
    high.RULE,
    low.RULE,
)

# Up to here the clock is as likely as the vendor to be wrong about the time; more is a number that is no time at all.
CLOCK_BEHIND_US = 2 * DAY_US

_TRADES, _QUOTES, _BARS = (kind.empty().columns() for kind in (Trades, Quotes, Bars))

Rows = Trades | Quotes | Bars
Refusal = tuple[str, str, str, str]  # provider, symbol, kind of feed, rule


@dataclass(slots=True)
class Refusals:
    """How many rows each rule has refused since the start, by feed. `crossed` counts quotes that were let pass."""

    counts: Counter[Refusal] = field(default_factory=Counter)
    doubts_clock: bool = False  # it has been said that our clock may be behind

    def by_rule(self) -> Counter[tuple[str, str, str]]:
        """(provider, kind of feed, rule) -> rows, over all symbols."""
        totals: Counter[tuple[str, str, str]] = Counter()
        for (provider, _, kind, rule), rows in self.counts.items():
            totals[provider, kind, rule] += rows
        return totals

    def note(self, feed: Feed, rule: str, says: str, rows: int) -> None:
        """Count them, and say so the first time and then each time that there is a digit more."""
        if not rows:
            return
        of = (feed.provider, feed.instrument.symbol, feed.kind.value, rule)
        before = self.counts[of]
        self.counts[of] += rows
        if not before or len(str(self.counts[of])) > len(str(before)):
            log.warning(
                "%s:%s of %s: %d refused by rule %s: %s",
                feed.kind.value, feed.instrument.symbol, feed.provider, self.counts[of], rule, says,
            )  # fmt: skip

    def doubt_clock(self, feed: Feed, times: NDArray[np.int64], latest_us: int) -> None:
        """Of what was refused by its time: say once when it looks as if our clock were behind, not the vendor ahead."""
        ahead = times[(times > latest_us + AHEAD_US) & (times < latest_us + CLOCK_BEHIND_US)]
        if len(ahead) and not self.doubts_clock:
            self.doubts_clock = True
            log.warning(
                "%s:%s of %s is %.0f s ahead: this machine's clock may be behind; what is ahead of it is refused until "
                "the clock is put right",
                feed.kind.value, feed.instrument.symbol, feed.provider, (int(ahead.min()) - latest_us) / SECOND_US,
            )  # fmt: skip


def validate_live(live: Live, refusals: Refusals, *, latest_us: int) -> Live:
    """The same arrivals in the same order, with good rows only. Clean arrivals are passed on as they are.

    Units: `latest_us`, the latest that it can be now, µs UTC. When an arrival was received is not asked: that is the
    earliest that it can have been, and while the wall clock is put back that is an hour behind.
    """
    return Live(tuple(_judged(arrival, refusals, latest_us) for arrival in live.arrivals))


def _judged(arrival: Arrival, refusals: Refusals, latest_us: int) -> Arrival:
    trades, quotes, bars = arrival.trades, arrival.quotes, arrival.bars
    if trades is not None:
        trades = _good_trades(arrival, trades, refusals, latest_us) if _is_whole(trades, _TRADES) else None
    if quotes is not None:
        quotes = _good_quotes(arrival, quotes, refusals, latest_us) if _is_whole(quotes, _QUOTES) else None
    if bars is not None:
        bars = _good_bars(arrival, bars, refusals, latest_us) if _is_whole(bars, _BARS) else None
    for given, good in ((arrival.trades, trades), (arrival.quotes, quotes), (arrival.bars, bars)):
        if given is not None and good is None:
            refusals.note(arrival.feed, "columns", "columns of different lengths or types", max(1, len(given)))
    pulse_us = arrival.pulse_us
    if pulse_us is not None and pulse_us > latest_us + AHEAD_US:
        refusals.note(arrival.feed, "pulse", "a pulse ahead of our clock", 1)
        refusals.doubt_clock(arrival.feed, np.array([pulse_us]), latest_us)
        pulse_us = None
    if (trades, quotes, bars, pulse_us) == (arrival.trades, arrival.quotes, arrival.bars, arrival.pulse_us):
        return arrival
    return replace(arrival, trades=trades, quotes=quotes, bars=bars, pulse_us=pulse_us)


def _good_trades(arrival: Arrival, trades: Trades, refusals: Refusals, latest_us: int) -> Trades:
    context = TickContext(arrival.feed.instrument.asset_class, latest_us)
    if not len(trades) or is_clean(trades, context):
        return trades
    for rule in TRADE_RULES:
        bad = rule.bad(trades, context)
        if bad.any():
            _note(arrival.feed, rule, trades.time[bad], refusals, latest_us)
            trades = trades.pick(~bad)
    return trades


def _good_quotes(arrival: Arrival, quotes: Quotes, refusals: Refusals, latest_us: int) -> Quotes:
    context = TickContext(arrival.feed.instrument.asset_class, latest_us)
    for rule in QUOTE_RULES:
        bad = rule.bad(quotes, context)
        if bad.any():
            _note(arrival.feed, rule, quotes.time[bad], refusals, latest_us)
            quotes = quotes.pick(~bad)
    refusals.note(arrival.feed, "crossed", "not refused: the bid is above the ask", int(crossed(quotes).sum()))
    return quotes


def _good_bars(arrival: Arrival, bars: Bars, refusals: Refusals, latest_us: int) -> Bars:
    """Whether a bar is forming the provider says: our clock may be behind the exchange's, see `tick_rules`."""
    interval = arrival.feed.interval
    if interval is None:
        return bars.pick(slice(0))
    context = Context(interval, arrival.feed.instrument.asset_class, latest_us)
    for rule in BAR_RULES:
        with np.errstate(all="ignore"):
            bad = rule.bad(bars, context)
        if bad.any():
            _note(arrival.feed, rule, bars.time[bad], refusals, latest_us)
            bars = bars.pick(~bad)
    return fill_volume(bars)[0]


def _note(
    feed: Feed, rule: TradeRule | QuoteRule | Rule, times: NDArray[np.int64], refusals: Refusals, latest_us: int
) -> None:
    refusals.note(feed, rule.name, rule.says, len(times))
    if rule.name == time_range.RULE.name:
        refusals.doubt_clock(feed, times, latest_us)


def _is_whole(rows: Rows, like: tuple[NDArray[np.generic], ...]) -> bool:
    """Columns of one length and of the types that the whole road relies on."""
    return all(
        column.dtype == want.dtype and column.shape == (len(rows.time),)
        for column, want in zip(rows.columns(), like, strict=True)
    )
