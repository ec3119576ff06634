import pytest

from timebase.model.instrument import canonical_symbol, classify


@pytest.mark.parametrize(
    ("symbol", "asset_class"),
    [
        ("AAPL", "stock"), ("BRK-B", "stock"), ("VOD.L", "stock"), ("^GSPC", "index"), ("EUR-USD", "forex"),
        ("BTC-USDT", "crypto"), ("BTC-USD", "crypto"), ("ETH-BTC", "crypto"), ("PEPE-EUR", "crypto"),
        ("CL=F", "future"),
    ],
)  # fmt: skip
def test_a_symbol_looks_like_its_class(symbol: str, asset_class: str) -> None:
    assert classify(symbol) == asset_class


@pytest.mark.parametrize(
    ("text", "symbol"),
    [("aapl ", "AAPL"), ("btc/usdt", "BTC-USDT"), ("eur_usd", "EUR-USD"), ("brk-b", "BRK-B"), ("a/b", "A/B")],
)
def test_there_is_one_spelling_of_a_symbol(text: str, symbol: str) -> None:
    assert canonical_symbol(text) == symbol
