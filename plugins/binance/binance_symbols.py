"""Canonical pairs and Binance's own symbols, both ways. Pure."""

import re

from timebase.model.instrument import CRYPTO_QUOTES, FIAT
from timebase.sdk import AssetClass, Instrument, SymbolNotFound

_LEG = re.compile(r"[A-Z0-9]{1,20}")

# The longest first: BTCTUSD is BTC in TUSD, not BTCT in USD.
_QUOTES = sorted(CRYPTO_QUOTES | FIAT | {"USD1", "AEUR", "EURI", "XRP", "TRX", "DOGE", "SOL"}, key=len, reverse=True)


def to_native(symbol: str) -> str:
    """Example: `BTC-USDT` -> `BTCUSDT`

    Raises: SymbolNotFound when `symbol` is not a pair.
    """
    base, _, quote = symbol.partition("-")
    if not (_LEG.fullmatch(base) and _LEG.fullmatch(quote)):
        raise SymbolNotFound(f"Binance knows pairs, written BTC-USDT; {symbol} is none")
    return base + quote


def to_canonical(native: str) -> str | None:
    """Example: `BTCUSDT` -> `BTC-USDT`. None when the quote is none that we know."""
    quote = next((quote for quote in _QUOTES if native.endswith(quote) and native != quote), None)
    return None if quote is None else f"{native.removesuffix(quote)}-{quote}"


def to_instrument(native: str) -> Instrument | None:
    symbol = to_canonical(native)
    if symbol is None:
        return None
    base, _, quote = symbol.partition("-")
    return Instrument(0, symbol, AssetClass.CRYPTO, f"{base} in {quote}", quote, "Binance", "UTC")


def matching(natives: list[str], query: str) -> list[str]:
    """The symbols that hold `query`: the symbol itself first, then those that begin with it, shorter before longer."""
    wanted = re.sub(r"[^A-Z0-9]", "", query.upper())
    found = [native for native in natives if wanted in native]
    return sorted(found, key=lambda native: (native != wanted, not native.startswith(wanted), len(native), native))
