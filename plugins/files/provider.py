"""The files provider: CSV and Parquet, plain or in gz and zip, in a folder of any layout. Its options describe one set
of files; several sets are several manifests with the entrypoint files/provider.py:Files.

    question -> naming: which files -> reading: their rows as pages of bars, oldest first

polars is loaded at the first question, so that the process stays small while nobody asks.
"""

from collections.abc import Iterator, Sequence
from datetime import date
from itertools import groupby

from layout import Layout, parse_layout
from naming import Found

from timebase.model.instrument import classify
from timebase.model.timerange import DAY_US
from timebase.sdk import (
    AssetClass,
    Bars,
    HistoryRequest,
    Instrument,
    Interval,
    Provider,
    SymbolNotFound,
    Unsupported,
    Upstream,
)  # fmt: skip

EPOCH = date(1970, 1, 1)


class Files(Provider):
    """One set of files. An unknown symbol is SymbolNotFound; a file that cannot be read is Malformed, with the line."""

    def setup(self) -> None:
        self._layout = parse_layout(self.options)
        if not self._layout.folder.is_dir():
            raise Upstream(f"option `folder`: there is no folder {self._layout.folder}")

    def history(self, request: HistoryRequest) -> Iterator[Bars]:
        from reading import Wanted, pages, symbols_in

        layout = self._layout
        symbol = _native_symbol(layout, request.symbol)
        files = _files_of(layout, request.symbol, symbol, request.interval)
        groups = _by_period(_near(files, request))
        page = None
        for page in pages(layout, groups, Wanted(symbol, request.interval, request.start_us, request.end_us)):
            yield page
        if page is None and "symbol" in layout.columns and not any(symbol in symbols_in(layout, one) for one in files):
            raise SymbolNotFound(f"no row of {layout.path.text} is of {symbol}")

    def symbols(self, query: str, limit: int) -> Sequence[Instrument]:
        wanted = query.strip().upper()
        found = [symbol for symbol in self._symbols() if wanted in symbol.upper()]
        found.sort(key=lambda symbol: (not symbol.upper().startswith(wanted), symbol))
        return [_instrument(symbol, self._layout.asset_class) for symbol in found[:limit]]

    def _symbols(self) -> set[str]:
        """Canonical symbols of everything in the folder."""
        layout = self._layout
        if "symbol" in layout.columns:
            files = [one for one in layout.path.find(layout.folder, {}) if _is_held(layout, one.interval)]
            from reading import symbols_in

            natives = set().union(*(symbols_in(layout, one) for one in files))
        elif layout.path.has("symbol"):
            natives = {one.symbol for one in layout.path.survey(layout.folder) if _is_held(layout, one.interval)}
        else:
            return set(layout.symbols)
        canonical = {native.casefold(): symbol for symbol, native in layout.symbols.items()}
        return {canonical.get(native.casefold(), native) for native in natives}


def _native_symbol(layout: Layout, symbol: str) -> str:
    """What the files call it. Symbols come from clients: one that would leave the folder is none."""
    native = layout.symbols.get(symbol, symbol)
    is_named = layout.path.has("symbol") or "symbol" in layout.columns or symbol in layout.symbols
    if not is_named or not native or native.startswith(".") or any(mark in native for mark in "/\\\0"):
        raise SymbolNotFound(f"{layout.path.text} has no {symbol}")
    return native


def _files_of(layout: Layout, symbol: str, native: str, interval: Interval) -> list[Found]:
    if layout.intervals and interval not in layout.intervals:
        raise Unsupported(f"these files hold {', '.join(layout.intervals)} bars, not {interval}")
    known = {"symbol": native}
    with_interval = known | {"interval": layout.intervals.get(interval, interval.value)}
    if files := list(layout.path.find(layout.folder, with_interval)):
        return files
    if others := sorted({one.interval for one in layout.path.find(layout.folder, known)} - {""}):
        raise Unsupported(f"there are no {interval} files of {symbol}; there are: {', '.join(others)}")
    raise SymbolNotFound(f"no file is {layout.path.text} for {symbol}")


def _is_held(layout: Layout, native_interval: str) -> bool:
    names = set(layout.intervals.values()) or set(Interval)
    return not layout.path.has("interval") or native_interval in names


def _near(files: Sequence[Found], request: HistoryRequest) -> list[Found]:
    """Those that may hold rows of the range. Two days to spare: one for time zones, one for stamps at the close."""
    spare_us = 2 * DAY_US + request.interval.us
    start_us, end_us = request.start_us - spare_us, request.end_us + spare_us
    return [
        one
        for one in files
        if one.period is None or (_us(one.period.end) > start_us and _us(one.period.first) < end_us)
    ]


def _us(day: date) -> int:
    return (day - EPOCH).days * DAY_US


def _by_period(files: Sequence[Found]) -> Iterator[list[Found]]:
    """Files of one date together, the dates in order; files without a date are one group."""

    def first(one: Found) -> date:
        return one.period.first if one.period else EPOCH

    return (list(group) for _, group in groupby(sorted(files, key=first), key=first))


def _instrument(symbol: str, asset_class: AssetClass | None) -> Instrument:
    kind = asset_class or classify(symbol)
    _, is_pair, quote = symbol.partition("-")
    currency = quote if is_pair and kind in {AssetClass.CRYPTO, AssetClass.FOREX} else ""
    return Instrument(0, symbol, kind, currency=currency)
