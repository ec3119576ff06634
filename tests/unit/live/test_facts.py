"""What the API shows of feeds."""

from timebase.live.facts import line_facts, unsupplied_facts
from timebase.live.line import Line
from timebase.live.supply import Supply
from timebase.model.feed import FeedKind, parse_channel
from timebase.model.instrument import AssetClass, Instrument

BARS = parse_channel("bars:BTC-USDT:1m")


def line():
    made = Line(
        Supply(FeedKind.TRADES, "BTC-USDT", "binance"), Instrument(1, "BTC-USDT", AssetClass.CRYPTO), lambda: 5_000
    )
    made.channels.add(BARS)
    return made


def test_a_channel_without_a_feed_is_told_of_in_the_same_words():
    assert unsupplied_facts(BARS, "nobody has it").keys() == line_facts(line(), 0, ()).keys()


def test_times_are_in_milliseconds_and_a_rest_is_never_negative():
    facts = line_facts(line(), -3.2, ())
    assert (facts["since"], facts["last_event"], facts["retry_in_s"]) == (5, None, 0)
    assert line_facts(line(), 3.21, ())["retry_in_s"] == 3.2
