"""Bars of an invented market: pure functions of (symbol, time), in columns.

How: a trading day's anchors - open, high, low, close and volume - are closed forms of its date. The close follows a
Brownian motion built from its bridge (Levy's construction: one hashed normal number for each power of two), so that any
day costs a dozen hashes and no day needs the one before. The minutes of a day are a random walk, one hash each, bent so
that it leaves at the open, touches the high and the low at hashed minutes, never leaves them, and ends at the close.

What holds, exactly: every bar is the aggregate of the minutes in it - first open, highest high, lowest low, last close,
summed volume - whatever its interval, up to the month. A day that is over needs no minutes for that: they lie between
its anchors, and share out its volume in pairs of known sum. Days that are not over, and symbols with holes, are made
from their minutes. Prices are whole ticks and volumes whole lots until the last line, and nothing but + - * / and a
square root is done to doubles, which IEEE 754 rounds alike everywhere: every machine makes the same market.

Units: inside this module times are minutes and days since the epoch; `Columns` leave it in µs.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
from markets import Market, dividend_days
from numpy.typing import NDArray
from sessions import DAY_MINUTES, FULL_MINUTES, Session, sessions

from timebase.model.timerange import MINUTE_US
from timebase.sdk import Interval

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Hashes = NDArray[np.uint64]

FIRST_MINUTE = 10_957 * DAY_MINUTES  # 2000-01-01T00:00Z
BLOCK_MINUTES = 65_536  # made at once: six columns of this length still fit a processor's cache
BATCH_ROWS = 65_536
LONGEST_PERIOD = {Interval.D1: 0, Interval.W1: 6, Interval.MO1: 30}  # days after the first that belong to it

_FIRST_MONDAY = 10_952  # 1999-12-27
_LEVELS = 15  # 2**15 trading days reach beyond the year 2080
_LEVEL, _DAY, _GAP, _MOOD, _MINUTE = range(5)  # what a hash is for


class Columns(NamedTuple):
    """Shape: six columns of one length, `time` ascending. Units: see the module; prices in ticks, volume in lots."""

    time: Ints
    open: Ints
    high: Ints
    low: Ints
    close: Ints
    volume: Ints

    def where(self, rows: slice | NDArray[np.bool_]) -> "Columns":
        return Columns(*(column[rows] for column in self))

    def between(self, start: int, end: int) -> "Columns":
        first, last = np.searchsorted(self.time, (start, end))
        return self.where(slice(int(first), int(last)))


class Days(NamedTuple):
    """The anchors of trading days: prices in ticks; `share` is what a minute of weight 1 trades, in lots."""

    open: Ints
    high: Ints
    low: Ints
    close: Ints
    share: Ints
    sigma: Floats  # in ticks
    seed: Hashes


class Question(NamedTuple):
    """Units: minutes since the epoch; half-open; nothing that opens at or after `until` has happened yet."""

    start: int
    end: int
    until: int


def bars(market: Market, interval: Interval, asked: Question) -> Iterator[Columns]:
    """The bars that open in the range asked."""
    if interval.is_intraday:
        return _intraday_bars(market, interval.us // MINUTE_US, asked)
    return iter([_daily_bars(market, interval, asked).between(asked.start, asked.end)])


def _intraday_bars(market: Market, length: int, asked: Question) -> Iterator[Columns]:
    """Bars of `length` minutes, counted from the opening of each session, which may leave a shorter one at its end."""
    # A session may open a day before its date.
    first, last = asked.start // DAY_MINUTES - 1, asked.end // DAY_MINUTES + 1
    for block in _blocks(_sessions(market, first, last)):
        yield _aggregate(*_minutes(market, block, asked.until), length).between(asked.start, asked.end)


def _daily_bars(market: Market, interval: Interval, asked: Question) -> Columns:
    """Stamped 00:00 UTC of the trading date, of the Monday or of the first of the month."""
    first, last = asked.start // DAY_MINUTES, (asked.end - 1) // DAY_MINUTES + LONGEST_PERIOD[interval]
    days = _days(market, list(_sessions(market, first, last)), asked.until)
    if interval is Interval.W1:
        return _reduced(days, _mondays(days.time))
    return _reduced(days, _firsts_of_month(days.time)) if interval is Interval.MO1 else days


def _days(market: Market, days: Sequence[Session], until: int) -> Columns:
    """Sessions that are over come from their anchors; one that is not is as far as its minutes have come."""
    over = 0 if market.has_holes else sum(day.open_minute + day.minutes <= until for day in days)
    parts = [_closed_days(market, days[:over])]
    parts += (_aggregate_days(market, block, until) for block in _blocks(days[over:]))
    return _joined(parts)


def _mondays(time: Ints) -> Ints:
    return ((time // DAY_MINUTES - _FIRST_MONDAY) // 7 * 7 + _FIRST_MONDAY) * DAY_MINUTES


def _firsts_of_month(time: Ints) -> Ints:
    months = (time // DAY_MINUTES).astype("datetime64[D]").astype("datetime64[M]")
    return months.astype("datetime64[D]").astype(np.int64) * DAY_MINUTES


def dividends(market: Market, until: int) -> list[tuple[int, float]]:
    """(ex-day, cash per share) of those with an ex-day before the minute `until`."""
    if not market.dividend_yield:
        return []
    days = np.array(dividend_days((until - 1) // DAY_MINUTES), np.int64)
    before = _anchors(market, days - 1, np.full(len(days), FULL_MINUTES, np.int64)).close
    return [
        (day, round(ticks / market.ticks_per_unit * market.dividend_yield, 2))
        for day, ticks in zip(days.tolist(), before.tolist(), strict=True)
    ]


def batches(market: Market, parts: Iterator[Columns]) -> Iterator[tuple[Ints | Floats, ...]]:
    """The same rows in batches of BATCH_ROWS, in µs, units of currency and units traded."""
    waiting: list[Columns] = []
    rows = 0
    for part in parts:
        waiting.append(part)
        rows += len(part.time)
        if rows < BATCH_ROWS:
            continue
        whole = _joined(waiting)
        full = rows - rows % BATCH_ROWS
        for at in range(0, full, BATCH_ROWS):
            yield _in_units(market, whole.where(slice(at, at + BATCH_ROWS)))
        waiting, rows = [whole.where(slice(full, None))], rows - full
    if rows:
        yield _in_units(market, _joined(waiting))


def _in_units(market: Market, ticks: Columns) -> tuple[Ints | Floats, ...]:
    prices = (column / market.ticks_per_unit for column in ticks[1:5])
    return ticks.time * MINUTE_US, *prices, ticks.volume / market.lots_per_unit


def _sessions(market: Market, first: int, last: int) -> Iterator[Session]:
    return (day for day in sessions(market.calendar, first, last) if day.day not in market.halted_days)


def _blocks(days: Iterator[Session] | Sequence[Session]) -> Iterator[list[Session]]:
    """Neighbours of equal length, so that a block is a rectangle, and not more of them than one block takes."""
    for minutes, alike in groupby(days, key=lambda day: day.minutes):
        block: list[Session] = []
        for day in alike:
            block.append(day)
            if len(block) * minutes > BLOCK_MINUTES - minutes:
                yield block
                block = []
        if block:
            yield block


# Days


def _closed_days(market: Market, days: Sequence[Session]) -> Columns:
    day = np.array([d.day for d in days], np.int64)
    minutes = np.array([d.minutes for d in days], np.int64)
    at = _anchors(market, day, minutes)
    weight = {n: sum(_weights(n)) for n in set(minutes.tolist())}
    total = np.array([weight[n] for n in minutes.tolist()], np.int64)
    return Columns(day * DAY_MINUTES, at.open, at.high, at.low, at.close, at.share * total)


def _aggregate_days(market: Market, block: Sequence[Session], until: int) -> Columns:
    minutes, opening = _minutes(market, block, until)
    stamps = {day.open_minute: day.day * DAY_MINUTES for day in block}
    by_session = _reduced(minutes, opening)
    return by_session._replace(time=np.array([stamps[at] for at in by_session.time.tolist()], np.int64))


def _anchors(market: Market, day: Ints, minutes: Ints) -> Days:
    """The anchors of each day; `minutes` is the length of its session."""
    step = _trading_days(market, day)
    scale = _corporate_scale(market, day) * market.ticks_per_unit
    yesterday, today = (_level(market, at) * scale for at in (step - 1, step))
    seed = hashed(day, market.seed * 8 + _DAY)
    sigma = today * market.sigma
    open_ = np.maximum(np.rint(yesterday + yesterday * market.gap * _normal(hashed(day, market.seed * 8 + _GAP))), 2.0)
    close = np.maximum(np.rint(today), 2.0)
    up, down = (np.rint(sigma * _excess(seed, shift)) for shift in (0, 16))
    high = np.maximum(open_, close) + up
    low = np.maximum(np.minimum(open_, close) - down, 1.0)
    shares = _shares_per_first_share(market, day)
    mood = (64 + (hashed(day, market.seed * 8 + _MOOD) >> np.uint64(56)).astype(np.int64)) * shares  # 64 to 319
    weight = 20 * minutes  # about the sum of the weights
    share = np.maximum(market.volume * market.lots_per_unit * mood // (weight * 192), 1)
    ticks = [column.astype(np.int64) for column in (open_, high, low, close)]
    return Days(ticks[0], ticks[1], ticks[2], ticks[3], share, sigma, seed)


def _trading_days(market: Market, day: Ints) -> Ints:
    since = day - _FIRST_MONDAY
    return since if market.has_weekends else since // 7 * 5 + np.minimum(since % 7, 5)


def _level(market: Market, step: Ints) -> Floats:
    """The price without corporate actions at the end of a trading day."""
    return market.base * _exp(step * market.drift + _brownian(market, step) * market.sigma)


def _brownian(market: Market, step: Ints) -> Floats:
    """Levy's construction: the sum over the levels of a hashed normal number times a hat of that level's width."""
    walk = np.zeros(len(step))
    for level in range(1, _LEVELS + 1):
        width = 1 << level
        hat = 1.0 - np.abs((step & (width - 1)) * (2.0 / width) - 1.0)
        height = 2.0 ** (level // 2) * (1.0 if level % 2 == 0 else 1.4142135623730951) / 2.0
        walk += _normal(hashed((step >> level) * 64 + level, market.seed * 8 + _LEVEL)) * height * hat
    return walk


def _corporate_scale(market: Market, day: Ints) -> Floats:
    """What splits and dividends leave of the price."""
    scale = 1.0 / _shares_per_first_share(market, day)
    if market.dividend_yield and len(day):
        ex_days = dividend_days(int(day.max()))
        left = np.cumprod([1.0, *(1.0 - market.dividend_yield for _ in ex_days)])
        scale = scale * left[np.searchsorted(ex_days, day, side="right")]
    return scale


def _shares_per_first_share(market: Market, day: Ints) -> Ints:
    ratios = np.cumprod([1, *(ratio for _, ratio in market.splits)], dtype=np.int64)
    return ratios[np.searchsorted([ex_day for ex_day, _ in market.splits], day, side="right")]


# Minutes


def _minutes(market: Market, block: Sequence[Session], until: int) -> tuple[Columns, Ints]:
    """The minutes of sessions of one length, and the opening minute of the session of each."""
    n = block[0].minutes
    day, opening = (np.array([getattr(d, name) for d in block], np.int64)[:, None] for name in ("day", "open_minute"))
    at = _anchors(market, day[:, 0], np.full(len(block), n, np.int64))
    time = opening + np.arange(n)
    noise = hashed(time, market.seed * 8 + _MINUTE)
    edges = _path(at, noise)
    open_, close = edges[:, :-1], edges[:, 1:]
    wick = at.sigma[:, None] * (0.8 / 1024.0) / np.sqrt(float(n))
    high = np.minimum(np.maximum(open_, close) + np.rint(bits(noise, 36, 10) * wick), at.high[:, None])
    low = np.maximum(np.minimum(open_, close) - np.rint(bits(noise, 46, 10) * wick), at.low[:, None])
    columns = (time, open_, high, low, close, _volumes(at, noise))
    made = Columns(*(column.astype(np.int64, copy=False).reshape(-1) for column in columns))
    sessions_ = np.broadcast_to(opening, time.shape).reshape(-1)
    traded = _traded(market, block, made.time, until)
    return (made, sessions_) if traded is None else (made.where(traded), sessions_[traded])


def _path(at: Days, noise: Hashes) -> Floats:
    """The price between the minutes, in whole ticks: n + 1 columns from the open to the close of each day.

    A random walk plus the polygon that takes it through four knots: open, the two extremes, close. What would leave the
    day's range is mirrored back at its edge.
    """
    days, n = noise.shape
    walk = np.zeros((days, n + 1))
    # Three uniform numbers of 12 bits: their sum, doubled and centred, has a standard deviation of 2**12.
    steps = _bits12(noise, 0) + _bits12(noise, 12) + _bits12(noise, 24)
    np.cumsum(steps * 2 - 12285, axis=1, out=walk[:, 1:])
    walk *= at.sigma[:, None] * (0.8 / 4096.0) / np.sqrt(float(n))
    knots, values = _knots(at, n)
    lift = values - np.take_along_axis(walk, knots, axis=1)
    edge = np.arange(n + 1)
    slope = (lift[:, 1:] - lift[:, :-1]) / (knots[:, 1:] - knots[:, :-1])
    base = lift[:, :-1] - slope * knots[:, :-1]
    part = np.where(edge < knots[:, 1:2], 0, np.where(edge < knots[:, 2:3], 1, 2))
    walk += np.take_along_axis(base, part, axis=1) + np.take_along_axis(slope, part, axis=1) * edge
    high, low = at.high[:, None], at.low[:, None]
    walk = np.minimum(walk, 2.0 * high - walk)
    walk = np.maximum(walk, 2.0 * low - walk)
    return np.asarray(np.clip(np.rint(walk), low, high))


def _knots(at: Days, n: int) -> tuple[Ints, Floats]:
    """Where the path is pinned, and to what: edges 0 < a < b < n."""
    one = 1 + bits(at.seed, 32, 15) % (n - 1)
    other = 1 + bits(at.seed, 47, 15) % (n - 2)
    other += other >= one
    knots = np.stack([0 * one, np.minimum(one, other), np.maximum(one, other), 0 * one + n], axis=1)
    is_high_first = (at.close < at.open) ^ (bits(at.seed, 62, 2) == 0)
    first, second = np.where(is_high_first, (at.high, at.low), (at.low, at.high))
    return knots, np.stack([at.open, first, second, at.close], axis=1).astype(np.float64)


def _volumes(at: Days, noise: Hashes) -> Ints:
    """Two neighbours trade twice their weight's share together; a hash says how they divide it."""
    days, n = noise.shape
    pair = at.share[:, None] * np.array(_weights(n)[::2], np.int64)
    half = noise[:, ::2]
    more = (pair * bits(half, 57, 7)) >> 7
    more = np.where(half >> np.uint64(56) & np.uint64(1), more, -more)
    volume = np.empty((days, n), np.int64)
    volume[:, ::2] = pair + more
    volume[:, 1::2] = pair - more
    return volume


def _weights(n: int) -> list[int]:
    """How busy each minute of a session is: busiest at both ends. Equal in pairs; n is even in every market."""
    return [10 + 30 * (2 * (i & ~1) - n) ** 2 // (n * n) for i in range(n)]


def _traded(market: Market, block: Sequence[Session], time: Ints, until: int) -> NDArray[np.bool_] | None:
    """Which minutes have happened and were traded in; None: all."""
    is_past = block[-1].open_minute + block[-1].minutes <= until
    if is_past and not market.has_holes:
        return None
    n = block[0].minutes
    traded = np.ones((len(block), n), np.bool_)
    traded[:, [hole for hole in market.holes if hole < n]] = False
    for row, day in enumerate(block):
        if day.day in market.late_days:
            traded[row, : market.late_minutes] = False
    return traded.reshape(-1) & (time < until)


# Aggregation


def _aggregate(minutes: Columns, opening: Ints, length: int) -> Columns:
    if length == 1:
        return minutes
    return _reduced(minutes, opening + (minutes.time - opening) // length * length)


def _reduced(rows: Columns, period: Ints) -> Columns:
    """One bar of each run of equal `period`, which becomes its time."""
    if not len(period):
        return rows
    first = np.flatnonzero(np.concatenate(([True], period[1:] != period[:-1])))
    last = np.concatenate((first[1:], [len(period)])) - 1
    return Columns(
        period[first],
        rows.open[first],
        np.maximum.reduceat(rows.high, first),
        np.minimum.reduceat(rows.low, first),
        rows.close[last],
        np.add.reduceat(rows.volume, first),
    )


def _joined(parts: Sequence[Columns]) -> Columns:
    return parts[0] if len(parts) == 1 else Columns(*(np.concatenate(column) for column in zip(*parts, strict=True)))


# Noise


def hashed(at: Ints, seed: int) -> Hashes:
    """64 bits that look random. Source: the finaliser of SplitMix64 (Steele, Lea, Flood 2014)."""
    x = at.astype(np.uint64)
    x *= np.uint64(0x9E3779B97F4A7C15)
    x += np.uint64(seed * 0xD1342543DE82EF95 % 2**64)
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return x


def bits(hashes: Hashes, shift: int, width: int) -> Ints:
    return (hashes >> np.uint64(shift) & np.uint64(2**width - 1)).astype(np.int64)


def _bits12(hashes: Hashes, shift: int) -> Ints:
    return (hashes >> np.uint64(shift) & np.uint64(4095)).view(np.int64)


def _normal(hashes: Hashes) -> Floats:
    """Nearly standard normal: the sum of four uniform numbers of 16 bits."""
    total = bits(hashes, 0, 16) + bits(hashes, 16, 16) + bits(hashes, 32, 16) + bits(hashes, 48, 16)
    return np.asarray((total - 131070.0) / 37837.22)


def _excess(hashes: Hashes, shift: int) -> Floats:
    """How far a day's extreme lies beyond its open and close: 0.05 to 0.85 sigma, mostly little."""
    uniform = bits(hashes, shift, 16) / 65536.0
    return 0.05 + 0.8 * uniform * uniform


def _exp(x: Floats) -> Floats:
    """e**x to nine digits. numpy's own differs from machine to machine in the last bit."""
    part = x / 1024.0
    power = 1.0 + part + part * part / 2.0
    for _ in range(10):
        power = power * power
    return power
