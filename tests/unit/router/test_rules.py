import pytest

from timebase.errors import ConfigError
from timebase.model.instrument import AssetClass
from timebase.model.interval import Interval
from timebase.router.rules import first_match, parse_rules

RULES = parse_rules(
    [
        {"symbol": "btc/usdt", "providers": ["special"]},
        {"asset_class": "crypto", "providers": ["binance", "backup"]},
        {"asset_class": "stock", "interval": "1D", "providers": ["yahoo-finance"]},
        {"symbol": "^*", "providers": ["indices"]},
    ]
)


@pytest.mark.parametrize(
    ("symbol", "asset_class", "interval", "provider"),
    [
        ("BTC-USDT", AssetClass.CRYPTO, Interval.M1, "special"),
        ("ETH-USDT", AssetClass.CRYPTO, Interval.M1, "binance"),
        ("AAPL", AssetClass.STOCK, Interval.D1, "yahoo-finance"),
        ("^GSPC", AssetClass.INDEX, Interval.D1, "indices"),
    ],
)
def test_the_first_rule_that_matches_decides(symbol, asset_class, interval, provider):
    assert first_match(RULES, symbol, asset_class, interval).providers[0] == provider


def test_what_no_rule_matches_has_none():
    assert first_match(RULES, "AAPL", AssetClass.STOCK, Interval.M1) is None


def test_providers_that_a_rule_does_not_name_come_after_those_it_names():
    assert [RULES[1].place(slug) for slug in ("binance", "backup", "other", "another")] == [0, 1, 2, 2]


def test_a_rule_says_what_it_does():
    assert str(RULES[2]) == "stock 1d → yahoo-finance"
    assert str(parse_rules([{"providers": ["a"]}])[0]) == "everything → a"


def test_all_faults_are_named_at_once():
    with pytest.raises(ConfigError) as caught:
        parse_rules([{"asset_class": "cryptos", "providers": ["a"]}, {"interval": "2m", "providers": []}])

    assert [fault.split(":")[0][-6:] for fault in caught.value.faults] == ["rule 1", "rule 2", "rule 2"]
