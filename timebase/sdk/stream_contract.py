"""What every stream must keep, as numbered checks that run on any provider, without a server; see `contract`.

S1  data comes, within the time that the test allows
S2  a feed comes up before its first data
S3  times ascend, but for what is no later than the lateness allowed
S4  prices are finite and positive, sizes and volumes finite and not negative; a bar's low and high hold its prices
S5  nothing older than a pulse comes after it, but for the lateness allowed
S6  nothing more is put for a feed after it was unsubscribed, while the others go on
S7  an unknown symbol is refused with SymbolNotFound, and the others go on
S8  the stream ends when nothing is wanted any more
"""

from collections.abc import Callable, Iterator
from itertools import pairwise
from math import isfinite

import anyio

from timebase.errors import ProviderError, SymbolNotFound
from timebase.model.feed import FeedKind
from timebase.model.interval import Interval
from timebase.model.timerange import SECOND_US, to_datetime
from timebase.sdk.provider import Provider
from timebase.sdk.rehearsal import Heard, Rehearsal, open_rehearsal
from timebase.sdk.stream import Subscription

UNKNOWN_SYMBOL = "NO-SUCH-SYMBOL"


def check_stream(
    provider: Provider,
    symbol: str,
    kind: FeedKind | str = FeedKind.TRADES,
    interval: Interval | str | None = None,
    *,
    rows: int = 5,
    within_s: float = 30.0,
    lateness_s: float = 2.0,
    settle_s: float = 1.0,
    unknown_symbol: str = UNKNOWN_SYMBOL,
) -> list[str]:
    """Every check that fails, a line each; an empty list is a pass. Waits for `rows` rows of `symbol`, some four times.

    `settle_s` is what a provider may take to stop, for a feed that is unsubscribed or in the end.
    Raises: what the provider's setup raises, and its ProviderError when it refuses `symbol`.
    Example: assert check_stream(MyVendor(), "BTC-USDT") == []
    """

    async def run() -> list[str]:
        checking = _Checking(symbol, FeedKind(kind), interval, rows, within_s, int(lateness_s * SECOND_US), settle_s)
        async with open_rehearsal(provider) as core:
            try:
                return await checking.check(core, unknown_symbol)
            except ProviderError as error:
                refusal = error
        raise refusal  # out here, where it is no group of one

    return anyio.run(run, backend=provider.backend)


class _Checking:
    def __init__(
        self,
        symbol: str,
        kind: FeedKind,
        interval: Interval | str | None,
        rows: int,
        within_s: float,
        lateness_us: int,
        settle_s: float,
    ) -> None:
        self._settle_s = settle_s
        self._symbol = symbol
        self._kind = kind
        self._interval = interval
        self._rows = rows
        self._within_s = within_s
        self._lateness_us = lateness_us
        self._heard: list[Heard] = []

    async def check(self, core: Rehearsal, unknown_symbol: str) -> list[str]:
        feed = self._feed = self._subscribe(core, self._symbol)
        if not await self._hear(core, feed):
            return [f"S1 fewer than {self._rows} rows of {self._symbol} within {self._within_s:g} s"]
        said = [heard for heard in self._heard if heard.feed == feed]
        faults = [fault for of in _ON_ONE_FEED for fault in of(said, self._kind, self._lateness_us)]
        faults += await self._unsubscribes(core, feed)
        faults += await self._refuses(core, self._subscribe(core, unknown_symbol))
        return faults + await self._ends(core)

    def _subscribe(self, core: Rehearsal, symbol: str) -> Subscription:
        return core.subscribe(symbol, self._kind, self._interval)

    async def _hear(self, core: Rehearsal, feed: Subscription) -> bool:
        """Whether enough rows of `feed` come in time."""
        rows = 0
        with anyio.move_on_after(self._within_s):
            while rows < self._rows:
                heard = await core.next()
                if heard.feed == feed and heard.error is not None:
                    raise heard.error
                self._heard.append(heard)
                rows += len(heard.rows) if heard.feed == feed else 0
        return rows >= self._rows

    async def _unsubscribes(self, core: Rehearsal, feed: Subscription) -> list[str]:
        other = self._subscribe(core, self._symbol)
        if not await self._hear(core, other):
            return ["S6 a second subscription of the same symbol brings nothing"]
        core.unsubscribe(feed)
        self._feed = other
        with anyio.move_on_after(self._settle_s):
            while True:
                self._heard.append(await core.next())
        before = core.strays
        goes_on = await self._hear(core, other)
        faults = [] if goes_on else ["S6 the other feed stops when one is unsubscribed"]
        strays = core.strays - before
        return [*faults, f"S6 {strays} rows were put for a feed that is not wanted"] if strays else faults

    async def _refuses(self, core: Rehearsal, feed: Subscription) -> list[str]:
        """One that never answers is found out by the end of the time."""
        heard: Heard | None = None
        with anyio.move_on_after(self._within_s):
            while heard is None or heard.feed != feed or (heard.error is None and not heard.rows):
                heard = await core.next()
        if heard is None or heard.feed != feed or (heard.error is None and not heard.rows):
            return [f"S7 {feed.symbol} is not refused within {self._within_s:g} s"]
        if not isinstance(heard.error, SymbolNotFound):
            what = "data" if heard.error is None else f"{type(heard.error).__name__}: {heard.error}"
            return [f"S7 {feed.symbol} is answered with {what}, not with SymbolNotFound"]
        return [] if await self._hear(core, self._feed) else ["S7 the other feed stops when one is refused"]

    async def _ends(self, core: Rehearsal) -> list[str]:
        with anyio.move_on_after(self._settle_s) as patience:
            await core.leave()
        return [f"S8 it does not end within {self._settle_s:g} s"] if patience.cancelled_caught else []


def _comes_up_first(said: list[Heard], kind: FeedKind, lateness_us: int) -> Iterator[str]:
    first = next(heard for heard in said if heard.rows or heard.is_up)
    if first.rows:
        yield f"S2 data of {_at(first.rows[0][0])} comes before the feed is up"


def _ascends(said: list[Heard], kind: FeedKind, lateness_us: int) -> Iterator[str]:
    times = [row[0] for heard in said for row in heard.rows]
    for before, after in pairwise(times):
        if after < before - lateness_us:
            yield f"S3 {_at(after)} comes after {_at(before)}"
            return


def _has_sane_numbers(said: list[Heard], kind: FeedKind, lateness_us: int) -> Iterator[str]:
    for row in (row for heard in said for row in heard.rows):
        if not all(map(isfinite, row)) or not _IS_SANE[kind](row):
            yield f"S4 {_at(row[0])}: {row[1:]}"
            return


def _keeps_its_pulse(said: list[Heard], kind: FeedKind, lateness_us: int) -> Iterator[str]:
    pulse_us: float = -(2**63)
    for heard in said:
        pulse_us = max(pulse_us, heard.pulse_us or pulse_us)
        late = [row[0] for row in heard.rows if row[0] < pulse_us - lateness_us]
        if late:
            yield f"S5 {_at(late[0])} comes after the pulse of {_at(pulse_us)}"
            return


def _is_sane_bar(row: tuple[float, ...]) -> bool:
    _, open_, high, low, close, volume, _ = row
    return 0 < low <= min(open_, close) <= max(open_, close) <= high and volume >= 0


_IS_SANE: dict[FeedKind, Callable[[tuple[float, ...]], bool]] = {
    FeedKind.TRADES: lambda row: row[1] > 0 and row[2] >= 0,
    FeedKind.QUOTES: lambda row: min(row[1], row[3]) > 0 and min(row[2], row[4]) >= 0,
    FeedKind.BARS: _is_sane_bar,
}

_ON_ONE_FEED = (_comes_up_first, _ascends, _has_sane_numbers, _keeps_its_pulse)


def _at(time_us: float) -> str:
    return to_datetime(int(time_us)).isoformat()
