"""The rules for trades, quotes and ready-made bars that come live, in the order in which they are applied.

As for bars of history: time first, then numbers, then their relations. There are no duplicates here: whether a trade
came before is the bar builder's knowledge.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from timebase.model.instrument import AssetClass
from timebase.model.ticks import NO_TRADE_ID, Quotes, TradeFlag, Trades
from timebase.model.timerange import SECOND_US, to_us
from timebase.quality.rules.positive import MAY_FALL_TO_ZERO
from timebase.quality.rules.rule import Mask

EARLIEST_US = to_us(datetime(1990, 1, 1, tzinfo=UTC))  # no venue had microseconds before; vendors' zeros are 1970

# How far event time may be ahead of the latest that it can be now. A recorded socket shows a local clock 1.27 s behind
# the exchange's. Little, because one wild time would carry the watermark with it, and all honest trades after it would
# come too late.
AHEAD_US = 10 * SECOND_US

MOST = 1e30  # of a price or a size: far beyond what is traded, and products and sums of them stay finite

KNOWN_FLAGS = (0, TradeFlag.CANCEL, TradeFlag.CORRECTION)


@dataclass(frozen=True, slots=True)
class TickContext:
    """What a rule may know beside the ticks. `latest_us`: the latest that it can be now, by our clocks; µs UTC."""

    asset_class: AssetClass
    latest_us: int


@dataclass(frozen=True, slots=True)
class TradeRule:
    """`bad` answers a mask, True where the row breaks the rule; `says` completes "3 trades refused: …"."""

    name: str
    says: str
    bad: Callable[[Trades, TickContext], Mask]


@dataclass(frozen=True, slots=True)
class QuoteRule:
    name: str
    says: str
    bad: Callable[[Quotes, TickContext], Mask]


def _outside_time(time: NDArray[np.int64], context: TickContext) -> Mask:
    return np.asarray((time < EARLIEST_US) | (time > context.latest_us + AHEAD_US))


def _means_nothing(trades: Trades, _: TickContext) -> Mask:
    """A flag nobody knows, or a cancel or correction that does not say of which trade."""
    flags = trades.flags
    return np.asarray(~np.isin(flags, KNOWN_FLAGS) | ((flags != 0) & (trades.id == NO_TRADE_ID)))


def _is_trade(trades: Trades) -> Mask:
    """A cancel needs no price: it only says which trade never was."""
    return np.asarray((trades.flags & TradeFlag.CANCEL) == 0)


def _price_missing(trades: Trades, _: TickContext) -> Mask:
    return _is_trade(trades) & ~(np.abs(trades.price) < MOST)


def _price_not_positive(trades: Trades, context: TickContext) -> Mask:
    if context.asset_class in MAY_FALL_TO_ZERO:
        return np.zeros(len(trades), np.bool_)
    return _is_trade(trades) & (trades.price <= 0)


def _size_wrong(trades: Trades, _: TickContext) -> Mask:
    return _is_trade(trades) & ~((trades.size >= 0) & (trades.size < MOST))


def _quote_missing(quotes: Quotes, _: TickContext) -> Mask:
    return np.asarray(~((np.abs(quotes.bid) < MOST) & (np.abs(quotes.ask) < MOST)))


def _quote_negative(quotes: Quotes, context: TickContext) -> Mask:
    """Zero is how vendors say that there is no bid or no ask."""
    if context.asset_class in MAY_FALL_TO_ZERO:
        return np.zeros(len(quotes), np.bool_)
    return (quotes.bid < 0) | (quotes.ask < 0)


def _quote_size_wrong(quotes: Quotes, _: TickContext) -> Mask:
    sizes = (quotes.bid_size, quotes.ask_size)
    return np.asarray(~np.logical_and.reduce([(size >= 0) & (size < MOST) for size in sizes]))


def crossed(quotes: Quotes) -> Mask:
    """A bid above the ask. Honest in fast markets and between venues: counted, not refused."""
    return (quotes.bid > quotes.ask) & (quotes.ask > 0)


def is_clean(trades: Trades, context: TickContext) -> bool:
    """Whether every rule would let every trade pass, without asking them one by one. NaN answers False everywhere.

    True is a proof; False may still be what the rules allow.
    """
    return bool(
        trades.time.min() >= EARLIEST_US
        and trades.time.max() <= context.latest_us + AHEAD_US
        and trades.price.min() > 0
        and trades.price.max() < MOST
        and trades.size.min() >= 0
        and trades.size.max() < MOST
        and not trades.flags.any()
    )


TRADE_RULES = (
    TradeRule("time_range", "before 1990, or ahead of our clock", lambda rows, known: _outside_time(rows.time, known)),
    TradeRule("flags", "an unknown flag, or a cancel or correction without an id", _means_nothing),
    TradeRule("finite", "the price is missing or without end", _price_missing),
    TradeRule("positive", "the price is zero or negative", _price_not_positive),
    TradeRule("size", "the size is missing, negative or without end", _size_wrong),
)

QUOTE_RULES = (
    QuoteRule("time_range", "before 1990, or ahead of our clock", lambda rows, known: _outside_time(rows.time, known)),
    QuoteRule("finite", "a price is missing or without end", _quote_missing),
    QuoteRule("positive", "a price is negative", _quote_negative),
    QuoteRule("size", "a size is missing, negative or without end", _quote_size_wrong),
)
