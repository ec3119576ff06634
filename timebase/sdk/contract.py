"""What every provider must keep, as numbered checks that run on any of them, without a server.

Those of streams, S1 to S8, are in `stream_contract`.

D1  there are bars in the range that was chosen for the test
D2  columns are finite; low <= open, close <= high; volume >= 0
D3  time ascends strictly, within a page and from page to page
D4  every bar opens in [start, end)
D5  every bar opens on the interval's grid (model/interval.py)
D6  the same question gets the same answer
D7  two halves of a range are the whole: a bar depends on its time, not on the question
D8  a corporate action has a known kind, a finite positive value and an ex-date at 00:00 UTC
D9  an unknown symbol is refused with SymbolNotFound; it is neither empty nor made up
D10 a provider that knows symbols finds the one it was asked for
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain, pairwise
from math import isfinite

import anyio

from timebase.errors import ProviderError, SymbolNotFound
from timebase.model.instrument import CorporateAction
from timebase.model.interval import Interval
from timebase.model.timerange import DAY_US, to_datetime
from timebase.sdk.answering import answer_history, call, typed
from timebase.sdk.bars import NAMES, Bars
from timebase.sdk.provider import HistoryRequest, Part, Provider
from timebase.sdk.stream_contract import UNKNOWN_SYMBOL, check_stream
from timebase.wire.instruments import ACTION_KINDS

__all__ = ["check", "check_stream"]

CLOSE_S = 5.0


class Given:
    """A provider's whole answer to one request."""

    def __init__(self) -> None:
        self.pages: list[Bars] = []
        self.actions: list[CorporateAction] = []

    async def put(self, part: Part) -> None:
        if isinstance(part, Bars):
            self.pages.append(part)
        elif isinstance(part, CorporateAction):
            self.actions.append(part)
        else:
            self.actions.extend(part)

    def column(self, name: str) -> list[float]:
        return list(chain.from_iterable(getattr(page, name) for page in self.pages))

    def rows(self) -> list[tuple[float, ...]]:
        return list(zip(*map(self.column, NAMES), strict=True))


def check(provider: Provider, request: HistoryRequest, *, unknown_symbol: str = UNKNOWN_SYMBOL) -> list[str]:
    """Every check that fails, a line each; an empty list is a pass. Asks the provider five times.

    Raises: what the provider's setup raises, and its ProviderError when it cannot answer `request`.
    Example: assert check(Ticks(), HistoryRequest.of("AAPL", "1d", "2024-01-02", "2024-02-01")) == []
    """
    return anyio.run(_check, provider, request, unknown_symbol, backend=provider.backend)


async def ask(provider: Provider, request: HistoryRequest) -> Given:
    """The answer as the link would carry it.

    Raises: the ProviderError that the wire would carry.
    """
    given = Given()
    try:
        await answer_history(provider, request, given)
    except Exception as problem:
        raise typed(problem) from problem
    return given


async def _check(provider: Provider, request: HistoryRequest, unknown_symbol: str) -> list[str]:
    await call(provider.setup)
    try:
        given = await ask(provider, request)
        faults = [fault for of in _ON_ONE_ANSWER for fault in of(given, request)]
        faults += await _same_again(provider, request, given)
        faults += await _halves(provider, request, given)
        faults += await _unknown(provider, replace(request, symbol=unknown_symbol))
        return faults + await _finds(provider, request.symbol)
    finally:
        with anyio.move_on_after(CLOSE_S, shield=True):
            await call(provider.close)


def _has_bars(given: Given, request: HistoryRequest) -> Iterator[str]:
    if not given.rows():
        yield f"D1 no bars of {request.symbol} between {request.start} and {request.end}: choose a range that has some"


def _has_sane_numbers(given: Given, request: HistoryRequest) -> Iterator[str]:
    for time, *numbers in given.rows():
        open_, high, low, close, volume = numbers
        if not all(map(isfinite, numbers)) or not low <= min(open_, close) <= max(open_, close) <= high or volume < 0:
            yield f"D2 {_at(time)}: open {open_}, high {high}, low {low}, close {close}, volume {volume}"
            return


def _ascends(given: Given, request: HistoryRequest) -> Iterator[str]:
    times = given.column("time")
    for before, after in pairwise(times):
        if before >= after:
            yield f"D3 {_at(after)} comes after {_at(before)}"
            return


def _is_in_range(given: Given, request: HistoryRequest) -> Iterator[str]:
    outside = [time for time in given.column("time") if not request.start_us <= time < request.end_us]
    if outside:
        yield f"D4 {len(outside)} bars outside the range, the first at {_at(outside[0])}"


def _is_on_grid(given: Given, request: HistoryRequest) -> Iterator[str]:
    off = [time for time in given.column("time") if not _fits(request.interval, int(time))]
    if off:
        yield f"D5 {len(off)} bars off the grid of {request.interval}, the first at {_at(off[0])}"


def _has_sane_actions(given: Given, request: HistoryRequest) -> Iterator[str]:
    for action in given.actions:
        is_known = action.kind in ACTION_KINDS
        if not (is_known and isfinite(action.value) and action.value > 0 and action.ex_date_us % DAY_US == 0):
            yield f"D8 {action}"
            return


_ON_ONE_ANSWER: tuple[Callable[[Given, HistoryRequest], Iterator[str]], ...] = (
    _has_bars, _has_sane_numbers, _ascends, _is_in_range, _is_on_grid, _has_sane_actions,
)  # fmt: skip


async def _same_again(provider: Provider, request: HistoryRequest, given: Given) -> list[str]:
    again = await ask(provider, request)
    return _differences("D6 asked again", given.rows(), again.rows())


async def _halves(provider: Provider, request: HistoryRequest, given: Given) -> list[str]:
    middle_us = request.interval.floor_us((request.start_us + request.end_us) // 2)
    if not request.start_us < middle_us < request.end_us:
        return []
    first = await ask(provider, replace(request, end_us=middle_us))
    second = await ask(provider, replace(request, start_us=middle_us))
    return _differences("D7 asked in two halves", given.rows(), first.rows() + second.rows())


async def _unknown(provider: Provider, request: HistoryRequest) -> list[str]:
    try:
        given = await ask(provider, request)
    except SymbolNotFound:
        return []
    except ProviderError as error:
        return [f"D9 {request.symbol} is answered by {type(error).__name__}, not by SymbolNotFound: {error}"]
    return [f"D9 {request.symbol} is answered with {len(given.rows())} bars, not by SymbolNotFound"]


async def _finds(provider: Provider, symbol: str) -> list[str]:
    if "symbols" not in provider.methods():
        return []
    found = [instrument.symbol for instrument in await call(provider.symbols, symbol, 10)]
    return [] if symbol in found else [f"D10 symbols({symbol!r}) finds {found}"]


def _differences(what: str, rows: list[tuple[float, ...]], others: list[tuple[float, ...]]) -> list[str]:
    if rows == others:
        return []
    if len(rows) != len(others):
        return [f"{what} there are {len(others)} bars, not {len(rows)}"]
    row, other = next((row, other) for row, other in zip(rows, others, strict=True) if row != other)
    return [f"{what} the bar of {_at(row[0])} is {other[1:]}, not {row[1:]}"]


def _fits(interval: Interval, time_us: int) -> bool:
    return time_us % interval.grid_us == 0 if interval.is_intraday else interval.floor_us(time_us) == time_us


def _at(time: float) -> str:
    return to_datetime(int(time)).isoformat()
