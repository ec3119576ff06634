"""Yahoo's quotes: yfinance's WebSocket client, really called, against recorded and made messages on the loopback."""

import base64
import json
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pytest
import yfinance
from anyio.to_thread import run_sync
from recorded.rehearsed import heard, run_rehearsal
from recorded.sockets import YahooStreams, open_sockets
from recorded.vendor import Answer, nobody_listens, open_vendor
from recorded.yahoo import CHART, TOO_MANY, Yahoo
from yfinance.pricing_pb2 import PricingData

from timebase.house import MANIFESTS, PLUGINS
from timebase.manifest.load import load_manifest
from timebase.model.feed import FeedKind
from timebase.model.timerange import SECOND_US, to_us
from timebase.sdk import Malformed, SymbolNotFound, Unsupported
from timebase.sdk.contract import check_stream
from timebase.sdk.entrypoint import load_provider
from timebase.sdk.rehearsal import Heard, Rehearsal

YahooFinance = load_provider(f"{PLUGINS}/yahoo-finance/provider.py:YahooFinance")

from yahoo_pricing import Pricing, parse_pricing  # noqa: E402 - the plugin's folder is on the path now
from yahoo_quoting import ENOUGH  # noqa: E402

PATIENCE_S = 30.0
AT = datetime(2024, 5, 6, 15, 0, tzinfo=UTC)
AT_MS = to_us(AT) // 1_000


def message(native: str = "ACME", at_ms: int = AT_MS, **fields: float) -> str:
    """As Yahoo sends it. Prices are 32-bit numbers in it: tests take such as those hold exactly."""
    data = PricingData(id=native, time=at_ms, price=101.0, **fields).SerializeToString()
    return json.dumps({"type": "pricing", "message": base64.b64encode(data).decode()})


def quote(bid: float = 100.75, ask: float = 101.25, at_ms: int = AT_MS, native: str = "ACME", **sizes: int) -> str:
    return message(native, at_ms, bid=bid, ask=ask, **sizes)


@dataclass
class Market:
    """A vendor with charts and a stream, and the provider that is at it."""

    yahoo: Yahoo
    streams: YahooStreams
    cache_dir: Path

    def provider(self, **options: Any) -> Any:
        yfinance.data.SingletonMeta._instances.clear()
        given = {
            "base_url": self.yahoo.vendor.url, "stream_url": self.streams.url, "heartbeat": 20.0, "timeout": 5,
            "poll_seconds": 1,
        }  # fmt: skip
        return YahooFinance(options=given | options, cache_dir=self.cache_dir)

    async def until(self, holds: Callable[[YahooStreams], bool]) -> None:
        await run_sync(lambda: self.streams.wait(lambda: holds(self.streams)))

    async def until_asked(self, *natives: str) -> None:
        await self.until(lambda streams: streams.n_open > 0 and all(map(streams.has, natives)))

    def play(self, *texts: str, to: str = "ACME") -> None:
        for text in texts:
            self.streams.send(to, text)


@pytest.fixture
def market(tmp_path: Path) -> Iterator[Market]:
    streams = YahooStreams()
    with open_sockets(streams), open_vendor() as vendor:
        yahoo = Yahoo(vendor)
        for native in ("ACME", "OTHER"):
            yahoo.list(native, rows={"1d": [(AT.replace(hour=0), (1.0,) * 5)]})
        yahoo.list("BTC-USD", "UTC", kind="CRYPTOCURRENCY")
        yield Market(yahoo, streams, tmp_path)


def rehearse(market: Market, act: Callable[[Rehearsal], Awaitable[None]], **options: Any) -> None:
    run_rehearsal(market.provider(**options), act, PATIENCE_S)


def is_up(found: Heard) -> bool:
    return found.is_up is True


def is_down(found: Heard) -> bool:
    return found.is_up is False


# What messages say


def test_a_message_with_bid_and_ask_is_a_quote_and_sizes_that_are_not_said_are_zero() -> None:
    pricing = parse_pricing({"id": "ACME", "time": str(AT_MS), "bid": 100.75, "ask": 101.25, "bid_size": "3"})
    assert pricing == Pricing("ACME", AT_MS * 1_000, 100.75, 3.0, 101.25, 0.0)
    assert pricing.is_quote


@pytest.mark.parametrize("fields", [{}, {"bid": 100.75}, {"ask": 101.25}, {"price": 101.0, "last_size": "5"}])
def test_a_last_price_or_one_side_alone_is_no_quote(fields: dict[str, object]) -> None:
    assert not parse_pricing({"id": "ACME", "time": str(AT_MS), **fields}).is_quote


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"id": "ACME"},
        {"id": "ACME", "time": "soon"},
        {"id": "ACME", "time": "9" * 30},
        {"id": "ACME", "time": "1", "bid": "a lot"},
    ],
)
def test_what_makes_no_sense_is_malformed(fields: dict[str, object]) -> None:
    with pytest.raises(Malformed):
        parse_pricing(fields)


# Against a vendor


def test_a_feed_is_up_when_it_has_been_asked_for_and_gives_its_quotes(market: Market) -> None:
    async def act(core: Rehearsal) -> None:
        feed = core.subscribe("ACME", FeedKind.QUOTES)
        assert is_up(await core.next())
        await market.until_asked("ACME")
        market.play(quote(bid_size=3, ask_size=4), message(), quote(100.5, 101.5, AT_MS + 1))
        rows = await core.rows(feed, 2)
        assert rows == [
            (AT_MS * 1_000, 100.75, 3.0, 101.25, 4.0),
            ((AT_MS + 1) * 1_000, 100.5, 0.0, 101.5, 0.0),
        ]

    rehearse(market, act)


def test_an_older_quote_that_comes_later_is_not_the_best_any_more(market: Market) -> None:
    async def act(core: Rehearsal) -> None:
        feed = core.subscribe("ACME", FeedKind.QUOTES)
        await market.until_asked("ACME")
        market.play(quote(at_ms=AT_MS), quote(1.0, 2.0, AT_MS - 1), quote(at_ms=AT_MS + 1))
        assert [row[0] // 1_000 for row in await core.rows(feed, 2)] == [AT_MS, AT_MS + 1]

    rehearse(market, act)


@pytest.mark.shared
def test_the_recorded_message_has_no_bid_and_no_trade_in_it(market: Market, shared_data: Path) -> None:
    """Bitcoin, whose "last size" is the volume of its day: 62,560,296,960."""
    text = (shared_data / "yahoo_rs/stream_ws_MULTI.b64").read_text().strip()

    async def act(core: Rehearsal) -> None:
        feed = core.subscribe("BTC-USD", FeedKind.QUOTES)
        await market.until_asked("BTC-USD")
        market.play(text, quote(2.0, 3.0, 1_761_785_160_001, "BTC-USD"), to="BTC-USD")
        assert [row[1:] for row in await core.rows(feed, 1)] == [(2.0, 0.0, 3.0, 0.0)]

    rehearse(market, act)


@pytest.mark.shared
def test_a_symbol_of_which_only_last_prices_come_is_refused_for_others_may_have_its_quotes(
    market: Market, shared_data: Path
) -> None:
    text = (shared_data / "yahoo_rs/stream_ws_MULTI.b64").read_text().strip()

    async def act(core: Rehearsal) -> None:
        core.subscribe("BTC-USD", FeedKind.QUOTES)
        await market.until_asked("BTC-USD")
        market.play(*[text] * ENOUGH, to="BTC-USD")
        found = await heard(core, lambda each: each.error is not None)
        assert isinstance(found.error, Unsupported)
        assert "without bid and ask" in str(found.error)
        await market.until(lambda streams: streams.n_open == 0)

    rehearse(market, act)


def test_a_symbol_that_once_had_a_quote_may_be_without_for_long(market: Market) -> None:
    async def act(core: Rehearsal) -> None:
        feed = core.subscribe("ACME", FeedKind.QUOTES)
        await market.until_asked("ACME")
        market.play(quote(), *[message()] * 2 * ENOUGH, quote(at_ms=AT_MS + 1))
        assert len(await core.rows(feed, 2)) == 2

    rehearse(market, act)


def test_symbols_come_and_go_on_a_connection_that_stays(market: Market) -> None:
    async def act(core: Rehearsal) -> None:
        feed = core.subscribe("ACME", FeedKind.QUOTES)
        await market.until_asked("ACME")
        other = core.subscribe("OTHER", FeedKind.QUOTES)
        await market.until_asked("OTHER")
        market.play(quote(native="OTHER"), to="OTHER")
        await core.rows(other, 1)
        core.unsubscribe(other)
        await market.until(lambda streams: not streams.has("OTHER"))
        market.play(quote())
        await core.rows(feed, 1)
        assert market.streams.accepted == market.streams.n_open == 1

    rehearse(market, act)


def test_nothing_is_left_open_when_nobody_wants_quotes_any_more(market: Market) -> None:
    async def act(core: Rehearsal) -> None:
        bars = core.subscribe("ACME", FeedKind.BARS, "1d")
        feed = core.subscribe("ACME", FeedKind.QUOTES)
        await market.until_asked("ACME")
        core.unsubscribe(feed)
        await market.until(lambda streams: streams.n_open == 0)
        await heard(core, lambda each: each.feed == bars and each.is_up is not None)

    rehearse(market, act)


def test_bars_alone_open_no_connection(market: Market) -> None:
    async def act(core: Rehearsal) -> None:
        core.subscribe("ACME", FeedKind.BARS, "1d")
        await heard(core, lambda each: each.is_up is not None)
        assert market.streams.accepted == 0

    rehearse(market, act)


def test_a_symbol_that_yahoo_lacks_is_refused_and_the_others_go_on(market: Market) -> None:
    async def act(core: Rehearsal) -> None:
        strange = core.subscribe("NOPE", FeedKind.QUOTES)
        no_symbol = core.subscribe("A/B", FeedKind.QUOTES)
        feed = core.subscribe("ACME", FeedKind.QUOTES)
        found = [await core.next() for _ in range(3)]
        errors = {each.feed: each.error for each in found if each.error is not None}
        assert set(errors) == {strange, no_symbol}
        assert all(isinstance(error, SymbolNotFound) for error in errors.values())
        assert [each.feed for each in found if is_up(each)] == [feed]

    rehearse(market, act)


def test_a_symbol_that_cannot_be_looked_up_is_subscribed_all_the_same(market: Market) -> None:
    async def act(core: Rehearsal) -> None:
        market.yahoo.vendor.always(CHART, Answer(TOO_MANY, status=429))
        core.subscribe("ACME", FeedKind.QUOTES)
        await heard(core, is_up)

    rehearse(market, act)


FAULTS: dict[str, Callable[[YahooStreams], object]] = {
    "closed": lambda streams: streams.hang_up(1000),
    "1011": lambda streams: streams.hang_up(1011),
    "cut": lambda streams: streams.hang_up(),
    "garbage": lambda streams: streams.send("ACME", "<html>"),
    "no object": lambda streams: streams.send("ACME", "[]"),
    "no message": lambda streams: streams.send("ACME", '{"type": "pricing"}'),
    "no protobuf": lambda streams: streams.send("ACME", '{"type": "pricing", "message": "AAAA/w=="}'),
    "an empty message": lambda streams: streams.send("ACME", '{"type": "pricing", "message": ""}'),
    "binary": lambda streams: streams.send("ACME", b"\xff\x00"),
    "half a frame": lambda streams: streams.send_half_a_frame(),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_connection_is_told_and_made_anew_with_all_its_symbols(market: Market, fault: str) -> None:
    async def act(core: Rehearsal) -> None:
        feed = core.subscribe("ACME", FeedKind.QUOTES)
        await heard(core, is_up)
        await market.until_asked("ACME")
        market.play(quote())
        await core.rows(feed, 1)
        await run_sync(FAULTS[fault], market.streams)
        assert is_down(await heard(core, lambda found: found.is_up is not None))
        await heard(core, is_up)
        await market.until_asked("ACME")
        market.play(quote(at_ms=AT_MS + 9))
        assert [row[0] for row in await core.rows(feed, 1)] == [(AT_MS + 9) * 1_000]
        assert market.streams.accepted == 2

    rehearse(market, act, heartbeat=0.2, timeout=1)


def test_a_message_of_another_type_is_passed_over(market: Market) -> None:
    async def act(core: Rehearsal) -> None:
        feed = core.subscribe("ACME", FeedKind.QUOTES)
        await market.until_asked("ACME")
        market.play('{"type": "news of tomorrow"}', quote())
        assert len(await core.rows(feed, 1)) == 1
        assert market.streams.accepted == 1

    rehearse(market, act)


def test_a_connection_that_stands_still_is_given_up(market: Market) -> None:
    async def act(core: Rehearsal) -> None:
        core.subscribe("ACME", FeedKind.QUOTES)
        await heard(core, is_up)
        await market.until_asked("ACME")
        with market.streams.frozen():
            assert "mute" in (await heard(core, is_down)).reason
        await heard(core, is_up)

    rehearse(market, act, heartbeat=0.2, timeout=1)


def test_a_silent_symbol_has_a_pulse_as_long_as_yahoo_answers_and_no_younger_than_yahoo_is_late(
    market: Market,
) -> None:
    async def act(core: Rehearsal) -> None:
        core.subscribe("ACME", FeedKind.QUOTES)
        began_us = to_us(datetime.now(UTC))
        pulses = [(await heard(core, lambda found: found.pulse_us is not None)).pulse_us for _ in range(3)]
        assert all(a < b for a, b in pairwise(pulses))
        assert pulses[0] >= began_us - 60 * SECOND_US
        assert pulses[-1] <= to_us(datetime.now(UTC)) - 60 * SECOND_US

    rehearse(market, act, heartbeat=0.1, late_minutes=1.0)


def test_a_vendor_that_is_away_is_tried_again_after_growing_waits_that_are_counted(
    market: Market, caplog: pytest.LogCaptureFixture
) -> None:
    async def act(core: Rehearsal) -> None:
        core.subscribe("ACME", FeedKind.QUOTES)
        for _ in range(3):
            assert is_down(await core.next())

    with caplog.at_level(logging.WARNING):
        rehearse(market, act, stream_url=nobody_listens().replace("http", "ws"))
    said = [record.getMessage() for record in caplog.records if "attempt" in record.getMessage()]
    assert [line.partition("attempt ")[2].partition(" in")[0] for line in said] == ["1", "2", "3"]


@pytest.mark.parametrize(("status", "words"), [(404, "HTTP 404"), (429, "limits its stream")])
def test_a_handshake_that_is_refused_says_why(market: Market, status: int, words: str) -> None:
    market.yahoo.vendor.always("/", Answer(b"", status=status))

    async def act(core: Rehearsal) -> None:
        core.subscribe("ACME", FeedKind.QUOTES)
        assert words in (await core.next()).reason

    rehearse(market, act, stream_url=market.yahoo.vendor.url.replace("http", "ws"))


# Contract


@contextmanager
def flowing(market: Market) -> Iterator[None]:
    """A market that never rests."""
    is_over = threading.Event()

    def send() -> None:
        for number in count(1):
            market.play(quote(at_ms=AT_MS + number))
            if is_over.wait(0.01):
                return

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def test_it_keeps_what_every_stream_must_keep(market: Market) -> None:
    with flowing(market):
        assert check_stream(market.provider(), "ACME", "quotes") == []


# Claims


def test_the_manifest_says_that_bars_and_quotes_are_streamed() -> None:
    assert load_manifest(MANIFESTS / "yahoo-finance").streams == {FeedKind.BARS, FeedKind.QUOTES}
    assert "stream" in YahooFinance.methods()
