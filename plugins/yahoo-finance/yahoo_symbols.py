"""Canonical symbols and Yahoo's own, both ways. Pure."""

import re

from timebase.sdk import AssetClass, SymbolNotFound

# What Yahoo's symbols are made of; anything else would change the URL that it becomes part of.
_NATIVE = re.compile(r"\^?[A-Z0-9][A-Z0-9.&=-]{0,31}")

_KINDS = {
    "EQUITY": AssetClass.STOCK,
    "ETF": AssetClass.ETF,
    "INDEX": AssetClass.INDEX,
    "CRYPTOCURRENCY": AssetClass.CRYPTO,
    "CURRENCY": AssetClass.FOREX,
    "MUTUALFUND": AssetClass.FUND,
    "FUTURE": AssetClass.FUTURE,
}


def to_native(symbol: str, asset_class: AssetClass) -> str:
    """Yahoo's name of a canonical symbol.

    Raises: SymbolNotFound when no symbol of Yahoo's can look like that.
    Example: `EUR-USD` -> `EURUSD=X`; `BTC-USD`, `BRK-B`, `^GSPC`, `VOD.L` and `GC=F` are spelled alike
    """
    native = f"{symbol.replace('-', '')}=X" if asset_class is AssetClass.FOREX else symbol
    if not _NATIVE.fullmatch(native):
        raise SymbolNotFound(f"{symbol} is not a symbol that Yahoo could know")
    return native


def to_canonical(native: str, asset_class: AssetClass) -> str:
    """Example: `EURUSD=X` -> `EUR-USD`, `JPY=X` -> `USD-JPY` (Yahoo leaves out the dollar when it is the base)"""
    if asset_class is not AssetClass.FOREX:
        return native
    pair = native.removesuffix("=X")
    return f"{pair[:-3] or 'USD'}-{pair[-3:]}"


def asset_class_of(quote_type: str) -> AssetClass | None:
    """None for what TimeBase has no bars for (options, news …)."""
    return _KINDS.get(quote_type.upper())
