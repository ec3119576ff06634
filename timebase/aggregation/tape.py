"""What traded lately, in the one order that counts: by time, then by id, then as it came."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from timebase.model.ticks import NO_TRADE_ID, TradeFlag, Trades
from timebase.model.timerange import SECOND_US

ROOM = 64  # trades of a new tape


@dataclass(frozen=True, slots=True)
class Word:
    """The newest that was said of a trade: what it really was, or that it never was."""

    time: int
    is_cancel: bool
    price: float
    size: float

    def is_newer_than(self, other: "Word") -> bool:
        """Of two that were said at the same instant either may win, but always the same."""
        return (self.time, self.price, self.size) > (other.time, other.price, other.size)


class Tape:
    """The trades of one feed since `from_us`, sorted, without copies.

    Two rows are copies of each other when time and id are the same: the vendor replays them after a reconnect. The same
    id at another time is another trade, because consolidated tapes number per exchange. Without an id nothing is a
    copy. A cancel or a correction concerns all trades of its id, whichever came first; a cancel is final, of several
    corrections the newest holds, and the trade keeps the time at which it happened.
    """

    def __init__(self) -> None:
        self.from_us = -(1 << 62)
        self._time = np.empty(ROOM, np.int64)
        self._id = np.empty(ROOM, np.int64)
        self._price = np.empty(ROOM)
        self._size = np.empty(ROOM)
        self._begin = 0
        self._end = 0
        self._words: dict[int, Word] = {}
        self._unmatched: set[int] = set()

    def __len__(self) -> int:
        return self._end - self._begin

    @property
    def has_words(self) -> bool:
        """Whether cancels or corrections are remembered."""
        return bool(self._words)

    def continues(self, trades: Trades) -> bool:
        """Whether `trades` only go on where the tape ends, so that there is nothing to sort, drop or put right."""
        time, ids = trades.time, trades.id
        if self._words or trades.flags.any() or not (time[1:] >= time[:-1]).all():
            return False
        if self._end > self._begin:
            last_us, last_id = self._time[self._end - 1], self._id[self._end - 1]
            if time[0] < last_us or (time[0] == last_us and ids[0] <= last_id and (ids[0] or last_id)):
                return False
        rises = ids[1:] > ids[:-1]
        if rises.all():
            return True
        rises |= time[1:] > time[:-1]
        rises |= (ids[1:] == NO_TRADE_ID) & (ids[:-1] == NO_TRADE_ID)
        return bool(rises.all())

    def append(self, trades: Trades) -> None:
        """Needs `continues`."""
        self._make_room(len(trades))
        end = self._end + len(trades)
        self._time[self._end : end] = trades.time
        self._id[self._end : end] = trades.id
        self._price[self._end : end] = trades.price
        self._size[self._end : end] = trades.size
        self._end = end

    def insert(self, trades: Trades) -> NDArray[np.bool_]:
        """Put trades where they belong. Returns: True for each that is new, False for a copy."""
        fresh = np.ones(len(trades), np.bool_)
        if not len(trades):
            return fresh
        at = self._begin + int(np.searchsorted(self._time[self._begin : self._end], trades.time.min()))
        old = self._end - at
        time = np.concatenate((self._time[at : self._end], trades.time))
        ids = np.concatenate((self._id[at : self._end], trades.id))
        order = np.lexsort((ids, time))  # stable: of copies the one that came first stays first
        time, ids = time[order], ids[order]
        copy = np.zeros(len(order), np.bool_)
        copy[1:] = (time[1:] == time[:-1]) & (ids[1:] == ids[:-1]) & (ids[1:] != NO_TRADE_ID)
        fresh[order[copy] - old] = False
        kept = order[~copy]
        price = np.concatenate((self._price[at : self._end], trades.price))[kept]
        size = np.concatenate((self._size[at : self._end], trades.size))[kept]
        self._end = at
        self.append(Trades.of(time[~copy], price, size, id=ids[~copy]))
        return fresh

    def put_right(self, words: Trades) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Hear cancels and corrections. Returns: True for each that says something new, and the seconds that change."""
        fresh = np.array([self._hear(words, at) for at in range(len(words))], np.bool_)
        said = np.unique(words.id[fresh])
        here = np.isin(self._id[self._begin : self._end], said)
        self._unmatched |= set(said.tolist())
        self._match(self._id[self._begin : self._end][here])
        return fresh, seconds(self._time[self._begin : self._end][here])

    def within(self, start_us: int, end_us: int) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
        """Time, price and size of what holds of the trades in [start_us, end_us)."""
        first, last = np.searchsorted(self._time[self._begin : self._end], (start_us, end_us)) + self._begin
        time, price, size = self._time[first:last], self._price[first:last], self._size[first:last]
        if not self._words:
            return time, price, size
        ids = self._id[first:last]
        spoken_of = np.flatnonzero(np.isin(ids, np.fromiter(self._words, np.int64)))
        if not len(spoken_of):
            return time, price, size
        price, size, holds = price.copy(), size.copy(), np.ones(len(ids), np.bool_)
        self._match(ids[spoken_of])
        for at in spoken_of.tolist():
            word = self._words[int(ids[at])]
            price[at], size[at], holds[at] = word.price, word.size, not word.is_cancel
        return time[holds], price[holds], size[holds]

    def older_than(self, at_us: int) -> int:
        """How many trades lie before an instant."""
        return int(np.searchsorted(self._time[self._begin : self._end], at_us))

    def time_of(self, at: int) -> int:
        return int(self._time[self._begin + at])

    def forget(self, before_us: int, words_before_us: int) -> int:
        """Drop what happened before. Returns: how many words are dropped whose trades never came."""
        self.from_us = before_us
        self._begin += self.older_than(before_us)
        gone = [of for of, word in self._words.items() if word.time < words_before_us]
        for of in gone:
            del self._words[of]
        lost = self._unmatched.intersection(gone)
        self._unmatched -= lost
        return len(lost)

    def _hear(self, words: Trades, at: int) -> bool:
        of, is_cancel = int(words.id[at]), bool(words.flags[at] & TradeFlag.CANCEL)
        word = Word(int(words.time[at]), is_cancel, float(words.price[at]), float(words.size[at]))
        before = self._words.get(of)
        if before is not None and (before.is_cancel or not (is_cancel or word.is_newer_than(before))):
            return False
        self._words[of] = word
        return True

    def _match(self, ids: NDArray[np.int64]) -> None:
        if self._unmatched:
            self._unmatched.difference_update(ids.tolist())

    def _make_room(self, more: int) -> None:
        """In place while a quarter of the room is what was forgotten: new columns every few seconds, of each of many
        feeds, leave holes in the heap that nothing else fills (80 MB more after 150 s at 200,000 trades a second).
        """
        if self._end + more <= len(self._time):
            return
        kept, held = len(self), slice(self._begin, self._end)
        has_room = 4 * (kept + more) <= 3 * len(self._time)
        for name in ("_time", "_id", "_price", "_size"):
            old = getattr(self, name)
            new = old if has_room else np.empty(max(ROOM, 2 * (kept + more)), old.dtype)
            new[:kept] = old[held]
            setattr(self, name, new)
        self._begin, self._end = 0, kept


def seconds(time: NDArray[np.int64]) -> NDArray[np.int64]:
    """The seconds that instants lie in, each once, ascending. Units: µs UTC, as stamps."""
    return np.unique(time // SECOND_US * SECOND_US)
