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
from timebase.quality.repair import fill_volume
from timebase.quality.rules import Context, alignment, finite, high, low, positive, time_range, volume
from timebase.quality.tick_rules import AHEAD_US, QUOTE_RULES, TRADE_RULES, TickContext, crossed, is_clean

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

_TRADES, _QUOTES, _BARS = (kind.empty().columns() for kind in (Trades, Quotes, Bars))

Rows = Trades | Quotes | Bars
Refusal = tuple[str, str, str, str]  # provider, symbol, kind of feed, rule


@dataclass(slots=True)
class Refusals:
    """How many rows each rule has refused since the start, by feed. `crossed` counts quotes that were let pass."""

    counts: Counter[Refusal] = field(default_factory=Counter)

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


def validate_live(live: Live, refusals: Refusals) -> Live:
    """The same arrivals in the same order, with good rows only. Clean arrivals are passed on as they are."""
    return Live(tuple(_judged(arrival, refusals) for arrival in live.arrivals))


def _judged(arrival: Arrival, refusals: Refusals) -> Arrival:
    trades, quotes, bars = arrival.trades, arrival.quotes, arrival.bars
    if trades is not None:
        trades = _good_trades(arrival, trades, refusals) if _is_whole(trades, _TRADES) else None
    if quotes is not None:
        quotes = _good_quotes(arrival, quotes, refusals) if _is_whole(quotes, _QUOTES) else None
    if bars is not None:
        bars = _good_bars(arrival, bars, refusals) if _is_whole(bars, _BARS) else None
    for given, good in ((arrival.trades, trades), (arrival.quotes, quotes), (arrival.bars, bars)):
        if given is not None and good is None:
            refusals.note(arrival.feed, "columns", "columns of different lengths or types", max(1, len(given)))
    pulse_us = arrival.pulse_us
    if pulse_us is not None and pulse_us > arrival.received_us + AHEAD_US:
        refusals.note(arrival.feed, "pulse", "a pulse ahead of our clock", 1)
        pulse_us = None
    if (trades, quotes, bars, pulse_us) == (arrival.trades, arrival.quotes, arrival.bars, arrival.pulse_us):
        return arrival
    return replace(arrival, trades=trades, quotes=quotes, bars=bars, pulse_us=pulse_us)


def _good_trades(arrival: Arrival, trades: Trades, refusals: Refusals) -> Trades:
    context = TickContext(arrival.feed.instrument.asset_class, arrival.received_us)
    if not len(trades) or is_clean(trades, context):
        return trades
    for rule in TRADE_RULES:
        bad = rule.bad(trades, context)
        if bad.any():
            refusals.note(arrival.feed, rule.name, rule.says, int(np.count_nonzero(bad)))
            trades = trades.pick(~bad)
    return trades


def _good_quotes(arrival: Arrival, quotes: Quotes, refusals: Refusals) -> Quotes:
    context = TickContext(arrival.feed.instrument.asset_class, arrival.received_us)
    for rule in QUOTE_RULES:
        bad = rule.bad(quotes, context)
        if bad.any():
            refusals.note(arrival.feed, rule.name, rule.says, int(np.count_nonzero(bad)))
            quotes = quotes.pick(~bad)
    refusals.note(arrival.feed, "crossed", "not refused: the bid is above the ask", int(crossed(quotes).sum()))
    return quotes


def _good_bars(arrival: Arrival, bars: Bars, refusals: Refusals) -> Bars:
    """Whether a bar is forming the provider says: our clock may be behind the exchange's, see `tick_rules`."""
    interval = arrival.feed.interval
    if interval is None:
        return bars.pick(slice(0))
    context = Context(interval, arrival.feed.instrument.asset_class, arrival.received_us)
    for rule in BAR_RULES:
        with np.errstate(all="ignore"):
            bad = rule.bad(bars, context)
        if bad.any():
            refusals.note(arrival.feed, rule.name, rule.says, int(np.count_nonzero(bad)))
            bars = bars.pick(~bad)
    return fill_volume(bars)[0]


def _is_whole(rows: Rows, like: tuple[NDArray[np.generic], ...]) -> bool:
    """Columns of one length and of the types that the whole road relies on."""
    return all(
        column.dtype == want.dtype and column.shape == (len(rows.time),)
        for column, want in zip(rows.columns(), like, strict=True)
    )
