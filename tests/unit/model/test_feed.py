import pytest

from timebase.model.feed import Channel, FeedKind, parse_channel
from timebase.model.interval import Interval


@pytest.mark.parametrize(
    ("text", "channel"),
    [
        ("trades:BTC-USDT", Channel(FeedKind.TRADES, "BTC-USDT")),
        ("quotes:aapl", Channel(FeedKind.QUOTES, "AAPL")),
        ("bars:btc/usdt:60m", Channel(FeedKind.BARS, "BTC-USDT", Interval.H1)),
        ("bars:NYSE:MSFT:1m@files", Channel(FeedKind.BARS, "NYSE:MSFT", Interval.M1, "files")),
    ],
)
def test_a_channel_says_what_of_which_symbol_at_which_interval_and_from_whom(text: str, channel: Channel) -> None:
    assert parse_channel(text) == channel


@pytest.mark.parametrize(
    "text", ["", "bars", "bars:AAPL", "bars::1m", "bars:AAPL:2m", "ticks:AAPL", "trades:", "trades:A@"]
)
def test_what_is_no_channel_is_told_apart(text: str) -> None:
    assert parse_channel(text) is None


def test_a_channel_is_written_as_it_is_read() -> None:
    for text in ("trades:BTC-USDT", "bars:AAPL:1d@yahoo-finance", "quotes:EUR-USD@demo"):
        assert str(parse_channel(text)) == text
