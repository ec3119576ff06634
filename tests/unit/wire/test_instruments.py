import pytest

from timebase.errors import Malformed
from timebase.model.instrument import AssetClass, CorporateAction, Instrument
from timebase.wire.codec import pack, unpack
from timebase.wire.instruments import action_row, instrument_row, parse_action, parse_instrument


def test_an_instrument_comes_back_without_its_id() -> None:
    there = Instrument(7, "BRK-B", AssetClass.STOCK, "Berkshire", "USD", "NYSE", "America/New_York")
    back = parse_instrument(unpack(pack(instrument_row(there))))
    assert back == Instrument(0, "BRK-B", AssetClass.STOCK, "Berkshire", "USD", "NYSE", "America/New_York")


def test_an_action_comes_back() -> None:
    action = CorporateAction(86_400_000_000, "dividend", 0.25, "USD")
    assert parse_action(unpack(pack(action_row(action)))) == action


@pytest.mark.parametrize(
    "row", [{}, {"symbol": "A"}, {"symbol": 1, "asset_class": "stock"}, {"symbol": "A", "asset_class": "tulip"}]
)
def test_an_instrument_that_does_not_fit_is_malformed(row: dict[str, object]) -> None:
    with pytest.raises(Malformed):
        parse_instrument(row)
