"""What travels down the road live: arrivals up to the aggregator, live batches after it."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from timebase.model.bars import Bars
from timebase.model.feed import Feed
from timebase.model.series import Series
from timebase.model.ticks import Quotes, Trades


@dataclass(frozen=True, slots=True)
class Arrival:
    """What one message of a plugin brought for one feed: trades, quotes or bars, or a word about the feed itself.

    Units: µs UTC. `received_us` is the earliest that it can have been (see `SteadyClock`). `pulse_us` is in event time:
    the vendor's connection is alive, and nothing older is still to come (but for what is late). `is_up` True or False:
    the feed came up or went down; while it is down there is no telling what happened. `bars` of a feed of ready-made
    bars carry Flag.FORMING while their period is not over.
    """

    feed: Feed
    received_us: int
    trades: Trades | None = None
    quotes: Quotes | None = None
    bars: Bars | None = None
    pulse_us: int | None = None
    is_up: bool | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Live:
    """All that one message brought, in its order: raw -> [validator] -> good -> [aggregator]."""

    arrivals: tuple[Arrival, ...]


class BarStatus(StrEnum):
    """What a live bar event says. Exactly one CLOSED or MISSING per period; MISSING may become BACKFILLED."""

    FORMING = "forming"
    CLOSED = "closed"
    REVISED = "revised"  # a closed bar has changed: a late, corrected or cancelled trade
    MISSING = "missing"  # the feed was down in it, or its bar could not be stored: no bar, and no flat one either
    BACKFILLED = "backfilled"  # fetched as history after a gap


@dataclass(frozen=True, slots=True)
class Ticks:
    """Trades or quotes of one feed to be stored and shown."""

    feed: Feed
    received_us: int
    trades: Trades | None = None
    quotes: Quotes | None = None


@dataclass(frozen=True, slots=True)
class BarUpdate:
    """Bars of one series, all of one status, ascending. A MISSING one has bars of NaN prices that are only shown.

    Shape: `trades` int64 (how many; -1 where unknown), `vwap` float64 (NaN where unknown) and `revision` int32 (0 the
        bar as it closed), of the length of `bars`.
    Units: µs UTC. `received_us` is when ready-made bars came; 0: they did not come, we made them.
    """

    feed: Feed
    series: Series
    status: BarStatus
    bars: Bars
    trades: NDArray[np.int64]
    vwap: NDArray[np.float64]
    revision: NDArray[np.int32]
    event_us: int  # the watermark, or the newest trade, that brought it about
    received_us: int = 0


@dataclass(frozen=True, slots=True)
class LiveBatch:
    """[aggregator] -> live batches -> [writer] -> durable -> [hub]: what is stored in one transaction and then shown.

    Trades and the bars they close are in one. FORMING and MISSING updates are not stored; they ride along so that a
    follower sees things in their order, and so do the `words`: arrivals that say something of a feed itself.
    """

    ticks: tuple[Ticks, ...] = ()
    updates: tuple[BarUpdate, ...] = ()
    words: tuple[Arrival, ...] = ()


@dataclass(frozen=True, slots=True)
class DurableLive:
    """A live batch that cannot be lost any more.

    `commit_id` ascends from commit to commit, also across restarts, and is stored with each tick; batches that waited
    together share one, and all of it has been shown with the one that `is_last`. None: it waits in the spool, not yet
    in the database, or nothing of it is stored. Units: µs UTC.
    """

    batch: LiveBatch
    commit_id: int | None
    durable_us: int
    error: str = ""  # not durable after all: no value of it may be shown but of what is forming
    is_last: bool = True  # of those that share its commit
