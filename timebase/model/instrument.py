"""Instruments, their canonical symbols, and what class of asset a symbol looks like."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

FIAT = frozenset(
    "USD EUR JPY GBP CHF AUD CAD NZD SEK NOK DKK PLN CZK HUF RON TRY ZAR MXN BRL CNY CNH HKD SGD INR KRW THB ILS "  # noqa: SIM905
    "RUB IDR MYR PHP TWD SAR AED".split()
)
CRYPTO_QUOTES = frozenset("USDT USDC BUSD FDUSD TUSD DAI BTC ETH BNB".split())  # noqa: SIM905 - a list reads worse

MAX_SYMBOL = 64
_REST = r"[A-Za-z0-9^=.$#&@!*:+_-]"
SYMBOL_PATTERN = rf"[A-Za-z0-9^=$#&@!*]{_REST}*(/{_REST}+)*"  # the slash: of pairs whose quote nobody knows


class AssetClass(StrEnum):
    STOCK = "stock"
    ETF = "etf"
    INDEX = "index"
    CRYPTO = "crypto"
    FOREX = "forex"
    FUND = "fund"
    FUTURE = "future"
    OPTION = "option"
    COMMODITY = "commodity"
    BOND = "bond"


@dataclass(frozen=True, slots=True)
class Instrument:
    """What a canonical symbol stands for. `id` is 0 until the store knows it."""

    id: int
    symbol: str
    asset_class: AssetClass
    name: str = ""
    currency: str = ""
    exchange: str = ""
    timezone: str = ""


@dataclass(frozen=True, slots=True)
class CorporateAction:
    """Units: `ex_date_us` 00:00 UTC of the ex-date; `value` of a split is new shares per old (4.0 for 4:1), of a
    dividend the cash per share in `currency`, before later splits (as paid).
    """

    ex_date_us: int
    kind: str  # split | dividend | spinoff
    value: float
    currency: str = ""


def canonical_symbol(text: str) -> str:
    """The one spelling of a symbol: upper case, pairs as BASE-QUOTE (`btc/usdt` -> `BTC-USDT`)."""
    symbol = text.strip().upper()
    for mark in ("/", "_"):
        base, found, quote = symbol.partition(mark)
        if found and quote in FIAT | CRYPTO_QUOTES:
            return f"{base}-{quote}"
    return symbol


def is_symbol(text: str) -> bool:
    """Whether a client may name an instrument so. Nothing else gets to the database, to vendors or into file names."""
    symbol = canonical_symbol(text)
    is_short = len(text) <= MAX_SYMBOL
    return is_short and text.isascii() and bool(re.fullmatch(SYMBOL_PATTERN, symbol))  # "ß" in capitals is "SS"


def classify(symbol: str) -> AssetClass:
    """The class a canonical symbol looks like. A guess for routing; the store's instrument knows better.

    Example: `AAPL` stock, `BRK-B` stock, `^GSPC` index, `EUR-USD` forex, `BTC-USDT` crypto, `ES=F` future
    """
    if symbol.startswith("^"):
        return AssetClass.INDEX
    if symbol.endswith("=F"):
        return AssetClass.FUTURE
    base, found, quote = symbol.partition("-")
    if not found:
        return AssetClass.STOCK
    if quote in CRYPTO_QUOTES or (quote in FIAT and base not in FIAT):
        return AssetClass.CRYPTO
    if quote in FIAT:
        return AssetClass.FOREX
    return AssetClass.STOCK


def listed_or_guessed(symbol: str, listed: Iterable[Instrument]) -> Instrument:
    """The instrument of a symbol that the store does not know: as a manifest lists it, else what its form says."""
    canonical = canonical_symbol(symbol)
    return next((each for each in listed if each.symbol == canonical), None) or Instrument(
        0, canonical, classify(canonical)
    )
