"""When markets are open, as far as anybody can tell; holidays are known in New York only."""

from datetime import datetime

import pytest

from timebase.live.session import session_at
from timebase.model.instrument import AssetClass, Instrument
from timebase.model.timerange import to_us

NEW_YORK = Instrument(1, "AAPL", AssetClass.STOCK, timezone="America/New_York")
EURUSD = Instrument(2, "EUR-USD", AssetClass.FOREX)
BTC = Instrument(3, "BTC-USDT", AssetClass.CRYPTO)


def is_open(instrument, at):
    session = session_at(instrument, to_us(datetime.fromisoformat(at)))
    return None if session is None else session.is_open


@pytest.mark.parametrize(
    ("instrument", "at", "answer"),
    [
        (BTC, "2024-12-25T03:00Z", True),
        (NEW_YORK, "2024-07-01T13:29:59Z", False),  # summer: 09:30 is 13:30 UTC
        (NEW_YORK, "2024-07-01T13:30Z", True),
        (NEW_YORK, "2024-07-01T20:00Z", False),
        (NEW_YORK, "2024-12-02T14:29Z", False),  # winter: 14:30
        (NEW_YORK, "2024-12-02T14:30Z", True),
        (NEW_YORK, "2024-07-06T15:00Z", False),
        (NEW_YORK, "2024-07-04T15:00Z", False),  # a holiday
        (NEW_YORK, "2024-03-29T15:00Z", False),  # Good Friday
        (NEW_YORK, "2025-01-09T15:00Z", False),  # a day of mourning
        (NEW_YORK, "2024-07-03T16:59Z", True),  # a half day, until 13:00
        (NEW_YORK, "2024-07-03T17:00Z", False),
        (NEW_YORK, "2021-12-31T15:00Z", True),  # New Year on a Saturday closes nothing
        (NEW_YORK, "2021-06-18T15:00Z", True),  # before Juneteenth was kept
        (NEW_YORK, "2022-06-20T15:00Z", False),
        (Instrument(6, "BARC", AssetClass.STOCK, exchange="LSE"), "2024-12-25T10:00Z", True),  # not known there
        (EURUSD, "2024-07-07T20:59Z", False),
        (EURUSD, "2024-07-07T21:00Z", True),
        (EURUSD, "2024-07-10T03:00Z", True),
        (EURUSD, "2024-07-12T20:59Z", True),
        (EURUSD, "2024-07-12T21:00Z", False),
        (EURUSD, "2024-07-13T12:00Z", False),
        (Instrument(4, "7203", AssetClass.STOCK, exchange="TSE"), "2024-07-01T02:45Z", False),  # lunch in Tokyo
        (Instrument(4, "7203", AssetClass.STOCK, exchange="TSE"), "2024-07-01T03:45Z", True),
        (Instrument(5, "SPY", AssetClass.ETF, exchange="PCX"), "2024-07-01T15:00Z", True),
    ],
)
def test_hours_are_those_of_the_place(instrument, at, answer):
    assert is_open(instrument, at) is answer


@pytest.mark.parametrize(
    "instrument",
    [
        Instrument(1, "AAPL", AssetClass.STOCK),
        Instrument(1, "ES=F", AssetClass.FUTURE, timezone="America/New_York"),
        Instrument(1, "XYZ", AssetClass.STOCK, timezone="America/Lima", exchange="NYSE"),
    ],
)
def test_nothing_is_claimed_where_nothing_is_known(instrument):
    assert is_open(instrument, "2024-07-06T15:00Z") is None


def test_an_open_session_says_since_when():
    at = to_us(datetime.fromisoformat("2024-07-01T15:00Z"))
    assert session_at(NEW_YORK, at).since_us == to_us(datetime.fromisoformat("2024-07-01T13:30Z"))
    at = to_us(datetime.fromisoformat("2024-07-10T03:00Z"))
    assert session_at(EURUSD, at).since_us == to_us(datetime.fromisoformat("2024-07-07T21:00Z"))
