"""What a follower is given: events, each encoded once per encoding for all who follow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from timebase.model.bars import Bars
from timebase.model.feed import Channel, FeedState
from timebase.model.live import BarStatus, BarUpdate
from timebase.model.ticks import Quotes, Trades


@dataclass(frozen=True, slots=True, eq=False)
class BarRows:
    """Bars of one status. Shape and units as in `BarUpdate`."""

    status: BarStatus
    bars: Bars
    trades: NDArray[np.int64]
    vwap: NDArray[np.float64]
    revision: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.bars)

    def pick(self, which: slice | NDArray[np.bool_]) -> "BarRows":
        return BarRows(
            self.status, self.bars.pick(which), self.trades[which], self.vwap[which], self.revision[which]
        )  # fmt: skip

    @classmethod
    def of(cls, update: BarUpdate) -> "BarRows":
        return cls(update.status, update.bars, update.trades, update.vwap, update.revision)

    @classmethod
    def bare(cls, status: BarStatus, bars: Bars) -> "BarRows":
        """Bars of which no more is known than their prices: from history."""
        n = len(bars)
        return cls(status, bars, np.full(n, -1, np.int64), np.full(n, np.nan), np.zeros(n, np.int32))

    @classmethod
    def missing(cls, time: NDArray[np.int64]) -> "BarRows":
        """Periods without a bar: no prices, no volume, no trades."""
        nothing, nan = np.zeros(len(time)), np.full(len(time), np.nan)
        bare = cls.bare(BarStatus.MISSING, Bars.of(time, nan, nan, nan, nan, nothing))
        return replace(bare, trades=np.zeros(len(time), np.int64))


@dataclass(frozen=True, slots=True)
class FeedWord:
    """How the feed behind a channel is, and since when (µs UTC)."""

    state: FeedState
    since_us: int
    reason: str


@dataclass(frozen=True, slots=True)
class Dropped:
    """So many trades of a channel were not delivered: their follower did not read fast enough."""

    count: int
    to_seq: int  # the event's own number is the first of them


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a channel cannot be had; or what was wrong with a message."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Goodbye:
    """The last event. `code` is one of RFC 6455's."""

    code: int
    message: str


@dataclass(frozen=True, slots=True)
class Remark:
    """What only this follower is told, in the order of the rest: `subscribed`, `history_end` and their like."""

    type: str
    fields: Mapping[str, object] = field(default_factory=dict)


_ROW_BYTES: dict[type[object], int] = {Trades: 176, Quotes: 180, BarRows: 260}

Content = BarRows | Trades | Quotes | FeedWord | Dropped | Fault | Goodbye | Remark


@dataclass(frozen=True, slots=True, eq=False)
class Event:
    """Rows of one kind that came together on one channel, or a single word.

    `seq` numbers the first row, and the others follow it without a hole, when `is_numbered`; what is not (forming bars,
    quotes, words) carries the newest number given before it. `commit_id` and `durable_us` as in `DurableLive`.
    `nbytes`: about what it takes as JSON. `is_conflated`: whether a newer one of its channel makes it worthless.
    """

    content: Content
    channel: Channel | None = None
    seq: int = 0
    provider: str = ""
    is_numbered: bool = False
    commit_id: int | None = None
    durable_us: int = 0
    _encoded: "dict[Encoder, bytes]" = field(default_factory=dict, repr=False)
    nbytes: int = field(init=False, repr=False)  # this and the next are asked for by each follower
    is_conflated: bool = field(init=False, repr=False)
    _rows: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        content = self.content
        is_forming = isinstance(content, BarRows) and content.status is BarStatus.FORMING
        rows = len(content) if isinstance(content, BarRows | Trades | Quotes) else 1
        object.__setattr__(self, "_rows", rows)
        object.__setattr__(self, "nbytes", rows * _ROW_BYTES.get(type(content), 200))
        object.__setattr__(self, "is_conflated", is_forming or isinstance(content, Quotes))

    def __len__(self) -> int:
        return self._rows

    @property
    def last_seq(self) -> int:
        return self.seq + len(self) - 1 if self.is_numbered else self.seq

    def encoded(self, encoder: "Encoder") -> bytes:
        """Its rows in that encoding, made when the first follower needs them."""
        made = self._encoded.get(encoder)
        if made is None:
            made = self._encoded[encoder] = encoder.encode(self)
        return made

    def after(self, seq: int) -> "Event | None":
        """What of a numbered one is numbered above `seq`."""
        if self.seq > seq:
            return self
        return None if self.last_seq <= seq else self.pick(slice(seq + 1 - self.seq, None))

    def pick(self, which: slice) -> "Event":
        """The rows of a slice with a start, as an event of their own."""
        assert isinstance(self.content, BarRows | Trades | Quotes)
        first = which.indices(len(self))[0]
        seq = self.seq + first if self.is_numbered else self.seq
        return replace(self, content=self.content.pick(which), seq=seq, _encoded={})

    def bare(self) -> "Event":
        """The same without its encodings: what is kept for the few who resume is encoded again for them."""
        return replace(self, _encoded={})


def ends(forming: Event, event: Event) -> bool:
    """Whether the period of a forming bar is over with `event`, so that nobody needs to see it any more."""
    if not isinstance(forming.content, BarRows) or not isinstance(event.content, BarRows):
        return False
    is_final = event.content.status in {BarStatus.CLOSED, BarStatus.MISSING}
    return is_final and bool(event.content.bars.time[-1] >= forming.content.bars.time[-1])


class Encoder(Protocol):
    """How events look on a wire. Hashable: one object per encoding, for all followers."""

    def encode(self, event: Event) -> bytes:
        """The event's rows side by side; empty when this encoding has no such event."""
        ...

    def frame(self, events: Sequence[Event]) -> bytes:
        """One message that holds them all, each by its `encoded`; empty when there is nothing to send."""
        ...
