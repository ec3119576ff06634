"""Binance's streams: python-binance's sockets, really called, against recorded messages and faults on the loopback."""

import gzip
import json
import logging
import threading
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.to_thread import run_sync
from recorded.binance import PRICES, Exchange
from recorded.rehearsed import heard, run_rehearsal
from recorded.sockets import BinanceStreams, open_sockets, recorded_frames
from recorded.vendor import Answer, Vendor, nobody_listens, open_vendor

from timebase.house import MANIFESTS, PLUGINS
from timebase.manifest.load import load_manifest
from timebase.model.feed import FeedKind
from timebase.sdk import BUY, SELL, Malformed, SymbolNotFound
from timebase.sdk.contract import check_stream
from timebase.sdk.entrypoint import load_provider
from timebase.sdk.rehearsal import Heard, Rehearsal

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # python-binance names what websockets has deprecated
    import binance  # noqa: F401

Binance = load_provider(f"{PLUGINS}/binance/provider.py:Binance")

import binance_lines  # noqa: E402 - the plugin's folder is on the path now
from binance_clock import DOUBT_US, KEEP_US, ExchangeClock  # noqa: E402
from binance_messages import Event, Kline, Quote, Reply, Trade, parse_message  # noqa: E402

PATIENCE_S = 20.0
TRADES, QUOTES, MINUTES = "btcusdt@trade", "btcusdt@bookTicker", "btcusdt@kline_1m"
FIRST_MS = 1_723_161_255_342


@dataclass
class Market:
    """A vendor with REST and streams, and the provider that is at it."""

    rest: Vendor
    streams: BinanceStreams

    def provider(self, **options: Any) -> Any:
        given = {"base_url": self.rest.url, "stream_url": self.streams.url, "heartbeat": 30.0, "timeout": 5}
        return Binance(options=given | options)

    async def until(self, holds: Callable[[BinanceStreams], bool]) -> None:
        await run_sync(lambda: self.streams.wait(lambda: holds(self.streams)))

    async def until_asked(self, *names: str) -> None:
        """Somebody has asked for these streams on the connections that are open now."""
        await self.until(lambda streams: streams.n_open > 0 and all(map(streams.has, names)))


@pytest.fixture
def market() -> Iterator[Market]:
    streams = BinanceStreams()
    with open_sockets(streams), open_vendor() as rest:
        exchange = Exchange(rest)
        for native in ("BTCUSDT", "ETHUSDT", "BNBUSDT"):
            exchange.list(native, "1m", [])
        yield Market(rest, streams)


def rehearse(market: Market, act: Callable[[Rehearsal], Awaitable[None]], **options: Any) -> None:
    """Run the provider's stream with `act` in the core's place."""
    run_rehearsal(market.provider(**options), act, 2 * PATIENCE_S)


def trade(id_: int, at_ms: int = FIRST_MS, native: str = "BTCUSDT") -> str:
    data = {
        "e": "trade", "E": at_ms + 1, "s": native, "t": id_, "p": "61837.63000000", "q": "0.02000000", "T": at_ms,
        "m": True, "M": True,
    }  # fmt: skip
    return json.dumps({"stream": f"{native.lower()}@trade", "data": data})


def is_up(found: Heard) -> bool:
    return found.is_up is True


def is_down(found: Heard) -> bool:
    return found.is_up is False


# What messages say


def test_a_trade_is_read_with_its_number_its_time_and_the_takers_side() -> None:
    event = parse_message(json.loads(trade(7)))
    assert event == Event(TRADES, Trade((FIRST_MS + 1) * 1_000, FIRST_MS * 1_000, 61837.63, 0.02, SELL, 7))


def test_who_bought_from_a_waiting_order_is_a_buyer() -> None:
    message = json.loads(trade(7))
    message["data"]["m"] = False
    assert parse_message(message).what.side == BUY


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "7",
        '{"stream": "btcusdt@trade"}',
        '{"stream": "btcusdt@trade", "data": {"e": "trade"}}',
        '{"stream": "btcusdt@trade", "data": {"E": 1, "t": 1, "p": "a lot", "q": "1", "T": 1, "m": true}}',
        '{"stream": "btcusdt@trade", "data": {"E": "soon", "t": 1, "p": "1", "q": "1", "T": 1, "m": true}}',
        '{"stream": "btcusdt@kline_1m", "data": {"E": 1, "k": 7}}',
        '{"stream": "btcusdt@ticker", "data": {"E": 1}}',
        '{"result": 7, "id": 1}',
    ],
)
def test_what_makes_no_sense_is_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        parse_message(json.loads(text))


def test_answers_to_requests_are_told_from_data() -> None:
    assert parse_message({"result": None, "id": 3}) == Reply(3)
    assert parse_message({"result": [TRADES], "id": 4}) == Reply(4, frozenset({TRADES}))
    refused = parse_message({"error": {"code": 2, "msg": "Invalid request"}, "id": 5})
    assert refused == Reply(5, error="Invalid request (code 2)")


@pytest.mark.shared
@pytest.mark.parametrize("name", ["BINANCE.ws.1.0", "BINANCE_US.ws.1.0", "BINANCE_TR.ws.1.0"])
def test_recorded_quotes_and_klines_of_three_venues_are_all_read(shared_data: Path, name: str) -> None:
    lines = (shared_data / "cryptofeed_ws" / name).read_text().splitlines()
    texts = [json.loads(line.partition(": ")[2]) for line in lines if '{"stream"' in line]
    wanted = [each for each in texts if each["stream"].partition("@")[2] in {"bookTicker", "kline_1m"}]
    events = [parse_message(each) for each in wanted]
    assert len(events) > 20
    for event in events:
        if isinstance(event.what, Quote):
            assert 0 < event.what.bid < event.what.ask
        else:
            assert isinstance(event.what, Kline)
            assert event.what.low <= min(event.what.open, event.what.close)
            assert event.what.open_us % 60_000_000 == 0


# The exchange's clock


def test_the_exchanges_clock_is_taken_from_the_message_that_was_fastest() -> None:
    clock = ExchangeClock()
    assert (clock.at_us(1_000), clock.surely_us(1_000)) == (1_000, 1_000 - DOUBT_US)
    clock.hear(event_us=5_000, received_us=3_730)
    clock.hear(event_us=6_000, received_us=5_900)
    assert clock.at_us(10_000) == clock.surely_us(10_000) == 11_270


def test_what_was_fast_long_ago_is_forgotten() -> None:
    clock = ExchangeClock()
    clock.hear(event_us=9_000, received_us=0)
    for minute in range(1, 4):
        clock.hear(event_us=minute * KEEP_US + 100, received_us=minute * KEEP_US)
    assert clock.at_us(0) == 100


@pytest.mark.shared
def test_messages_that_arrive_before_they_were_sent_set_the_clock_right(shared_data: Path) -> None:
    """The recording's clock is 1.27 s behind the exchange's."""
    clock = ExchangeClock()
    with gzip.open(shared_data / "hftbacktest_ws/spot/btcusdt_20240808.gz", "rt") as lines:
        for line in lines:
            received_ns, _, text = line.partition(" ")
            if '"e":"trade"' in text:
                event = parse_message(json.loads(text))
                clock.hear(event.what.event_us, int(received_ns) // 1_000)
    assert 1_200_000 < clock.at_us(0) < 1_280_000


# Down, and up again


def test_a_feed_is_up_when_binance_has_acknowledged_it_and_gives_its_trades(market: Market) -> None:
    async def act(core: Rehearsal) -> None:
        feed = core.subscribe("BTC-USDT")
        assert is_up(await core.next())
        market.streams.play([trade(7), trade(8)])
        rows = await core.rows(feed, 2)
        assert rows == [(FIRST_MS * 1_000, 61837.63, 0.02, SELL, number, 0) for number in (7, 8)]

    rehearse(market, act)


def test_it_is_not_up_while_binance_says_nothing(market: Market) -> None:
    async def act(core: Rehearsal) -> None:
        market.streams.is_mute = True
        core.subscribe("BTC-USDT")
        first = await core.next()
        assert is_down(first)
        assert "mute" in first.reason
        market.streams.is_mute = False
        assert is_up(await heard(core, lambda found: found.is_up is not None))

    rehearse(market, act, timeout=0.3)


def test_many_symbols_share_one_connection_and_each_gets_its_own(market: Market) -> None:
    async def act(core: Rehearsal) -> None:
        feeds = {native: core.subscribe(f"{native[:3]}-USDT") for native in ("BTCUSDT", "ETHUSDT", "BNBUSDT")}
        await market.until_asked(*(f"{native.lower()}@trade" for native in feeds))
        for number, native in enumerate(feeds, start=1):
            market.streams.play([trade(number, native=native)])
        for number, feed in enumerate(feeds.values(), start=1):
            assert [row[4] for row in await core.rows(feed, 1)] == [number]
        assert market.streams.accepted == 1

    rehearse(market, act)


def test_feeds_come_and_go_on_a_connection_that_stays(market: Market) -> None:
    async def act(core: Rehearsal) -> None:
        core.subscribe("BTC-USDT")
        await market.until_asked(TRADES)
        ether = core.subscribe("ETH-USDT")
        await market.until_asked("ethusdt@trade")
        core.unsubscribe(ether)
        await market.until(lambda streams: not streams.has("ethusdt@trade"))
        assert market.streams.accepted == market.streams.n_open == 1

    rehearse(market, act)


def test_nothing_is_left_open_when_nobody_wants_anything(market: Market) -> None:
    async def act(core: Rehearsal) -> None:
        feed = core.subscribe("BTC-USDT")
        await market.until_asked(TRADES)
        core.unsubscribe(feed)
        await market.until(lambda streams: streams.n_open == 0)

    rehearse(market, act)


def test_a_symbol_that_binance_lacks_is_refused_and_the_others_go_on(market: Market) -> None:
    async def act(core: Rehearsal) -> None:
        strange = core.subscribe("NOPE-USDT")
        no_pair = core.subscribe("AAPL")
        feed = core.subscribe("BTC-USDT")
        found = [await core.next() for _ in range(3)]
        errors = {each.feed: each.error for each in found if each.error is not None}
        assert set(errors) == {strange, no_pair}
        assert all(isinstance(error, SymbolNotFound) for error in errors.values())
        assert [each.feed for each in found if is_up(each)] == [feed]

    rehearse(market, act)


def test_what_could_not_be_checked_is_refused_when_it_can_be_and_binance_lacks_it(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act(core: Rehearsal) -> None:
        strange, feed = core.subscribe("NOPE-USDT"), core.subscribe("BTC-USDT")
        found = [await core.next() for _ in range(2)]
        assert {each.feed for each in found if is_up(each)} == {strange, feed}
        refused = await heard(core, lambda found: found.error is not None)
        assert refused.feed == strange
        assert isinstance(refused.error, SymbolNotFound)
        market.streams.play([trade(7)])
        assert [row[4] for row in await core.rows(feed, 1)] == [7]
        assert market.streams.accepted == 1

    monkeypatch.setattr(binance_lines, "DOUBT_S", 0.5)
    market.rest.play(PRICES, Answer(status=503), Answer(status=503))
    rehearse(market, act)


FAULTS: dict[str, Callable[[BinanceStreams], object]] = {
    "closed": lambda streams: streams.hang_up(1000),
    "1011": lambda streams: streams.hang_up(1011),
    "cut": lambda streams: streams.hang_up(),
    "garbage": lambda streams: streams.send(TRADES, "<html>"),
    "garbled": lambda streams: streams.send(TRADES, '{"stream": "btcusdt@trade", "data": {}}'),
    "half a frame": lambda streams: streams.send_half_a_frame(),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_connection_is_told_at_once_and_made_anew(market: Market, fault: str) -> None:
    async def act(core: Rehearsal) -> None:
        feed = core.subscribe("BTC-USDT")
        await heard(core, is_up)
        market.streams.play([trade(7)])
        await core.rows(feed, 1)
        await run_sync(FAULTS[fault], market.streams)
        assert is_down(await heard(core, lambda found: found.is_up is not None))
        await heard(core, is_up)
        market.streams.play([trade(9)])
        assert [row[4] for row in await core.rows(feed, 1)] == [9]
        assert market.streams.accepted == 2

    rehearse(market, act, heartbeat=0.2, timeout=0.5)


def test_a_connection_that_stands_still_is_given_up(market: Market) -> None:
    async def act(core: Rehearsal) -> None:
        core.subscribe("BTC-USDT")
        await heard(core, is_up)
        with market.streams.frozen():
            assert "mute" in (await heard(core, is_down)).reason
        await heard(core, is_up)

    rehearse(market, act, heartbeat=0.2, timeout=0.5)


def test_a_vendor_that_is_away_is_tried_again_after_growing_waits_that_are_counted(
    market: Market, caplog: pytest.LogCaptureFixture
) -> None:
    async def act(core: Rehearsal) -> None:
        core.subscribe("BTC-USDT")
        for _ in range(3):
            assert is_down(await core.next())

    with caplog.at_level(logging.WARNING):
        rehearse(market, act, stream_url=nobody_listens().replace("http", "ws"))
    said = [record.getMessage() for record in caplog.records if "attempt" in record.getMessage()]
    assert [line.partition("attempt ")[2].partition(" in")[0] for line in said] == ["1", "2", "3"]


def test_a_handshake_that_is_refused_says_why(market: Market) -> None:
    async def act(core: Rehearsal) -> None:
        core.subscribe("BTC-USDT")
        assert "404" in (await core.next()).reason

    rehearse(market, act, stream_url=market.rest.url.replace("http", "ws"))


def test_trades_that_were_left_out_are_told_before_those_that_follow(market: Market) -> None:
    async def act(core: Rehearsal) -> None:
        feed = core.subscribe("BTC-USDT")
        await heard(core, is_up)
        market.streams.play([trade(7), trade(10)])
        found = [await heard(core, lambda each: each.pulse_us is None) for _ in range(4)]
        numbers = [row[4] for each in found for row in each.rows]
        assert numbers == [7, 10]
        assert "2 trades" in next(each.reason for each in found if is_down(each))
        assert [each.is_up for each in found if each.is_up is not None] == [False, True]
        assert found[0].rows[0][4] == 7
        assert found[-1].feed == feed

    rehearse(market, act)


def test_before_binance_ends_a_connection_another_takes_over_and_nothing_is_lost(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binance_lines, "RENEW_S", 0.2)

    async def send(until: anyio.Event) -> None:
        for number in count(1):
            await run_sync(market.streams.play, [trade(number)])
            if until.is_set():
                return

    async def act(core: Rehearsal) -> None:
        core.subscribe("BTC-USDT")
        await heard(core, is_up)
        numbers: list[float] = []
        enough = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send, enough)
            while market.streams.accepted < 4:
                found = await core.next()
                assert found.is_up is None
                numbers += [row[4] for row in found.rows]
            enough.set()
        assert set(numbers) == set(range(int(min(numbers)), int(max(numbers)) + 1))
        await market.until(lambda streams: streams.n_open <= 2)

    rehearse(market, act)


def test_two_hundred_and_fifty_streams_need_two_connections(market: Market) -> None:
    exchange = Exchange(market.rest)
    for number in range(250):
        exchange.list(f"C{number}USDT", "1m", [])

    async def act(core: Rehearsal) -> None:
        feeds = {f"c{number}usdt@trade": core.subscribe(f"C{number}-USDT") for number in range(250)}
        await market.until(lambda streams: all(map(streams.has, feeds)))
        assert market.streams.accepted == 2
        up = {(await heard(core, is_up)).feed for _ in feeds}
        assert up == set(feeds.values())

    rehearse(market, act)


# Signs of life


def test_a_quiet_market_has_a_pulse_as_long_as_binance_answers(market: Market) -> None:
    async def act(core: Rehearsal) -> None:
        core.subscribe("BTC-USDT")
        pulses = [(await heard(core, lambda found: found.pulse_us is not None)).pulse_us for _ in range(3)]
        assert all(a < b for a, b in pairwise(pulses))
        asked = [request["method"] for request in market.streams.requests]
        assert asked.count("LIST_SUBSCRIPTIONS") >= 3

    rehearse(market, act, heartbeat=0.1)


def test_what_happens_to_one_symbol_is_a_sign_of_life_for_all_in_event_time(market: Market) -> None:
    async def act(core: Rehearsal) -> None:
        core.subscribe("BTC-USDT")
        quiet = core.subscribe("ETH-USDT")
        for _ in range(2):
            await heard(core, is_up)
        market.streams.play([trade(7)])
        pulse = await heard(core, lambda found: found.feed == quiet and found.pulse_us is not None)
        assert pulse.pulse_us == (FIRST_MS + 1) * 1_000

    rehearse(market, act)


def test_a_stream_that_binance_serves_no_more_is_no_quiet_market(market: Market) -> None:
    async def act(core: Rehearsal) -> None:
        core.subscribe("BTC-USDT")
        await heard(core, is_up)
        market.streams.forget(TRADES)
        assert "does not serve btcusdt@trade" in (await heard(core, is_down)).reason
        await heard(core, is_up)

    rehearse(market, act, heartbeat=0.1)


# Recorded


@pytest.mark.shared
def test_eleven_minutes_of_bitcoin_arrive_as_they_were_recorded(market: Market, shared_data: Path) -> None:
    """19,904 trades in a row without a gap in their numbers, across midnight, and the quotes of the first minute."""
    quotes_left = count(5_000, -1)
    frames = [
        frame
        for day in ("20240808", "20240809")
        for frame in recorded_frames(shared_data / f"hftbacktest_ws/spot/btcusdt_{day}.gz")
        if f'"{TRADES}"' in frame[:40] or (f'"{QUOTES}"' in frame[:40] and next(quotes_left) > 0)
    ]
    sent = [json.loads(frame) for frame in frames]
    trades = [each["data"] for each in sent if each["stream"] == TRADES]
    quotes = [each["data"] for each in sent if each["stream"] == QUOTES]

    async def act(core: Rehearsal) -> None:
        feed, quoted = core.subscribe("BTC-USDT"), core.subscribe("BTC-USDT", FeedKind.QUOTES)
        for _ in range(2):
            await heard(core, is_up)
        got: dict[object, list[tuple[float, ...]]] = {feed: [], quoted: []}
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run_sync, market.streams.play, frames)
            while len(got[feed]) < len(trades) or len(got[quoted]) < len(quotes):
                found = await core.next()
                assert found.is_up is None
                got[found.feed] += found.rows
        assert [row[:5] for row in got[feed]] == [
            (each["T"] * 1_000, float(each["p"]), float(each["q"]), -1 if each["m"] else 1, each["t"])
            for each in trades
        ]
        assert [row[1:] for row in got[quoted]] == [
            tuple(float(each[name]) for name in ("b", "B", "a", "A")) for each in quotes
        ]

    assert (len(trades), len(quotes)) == (19_904, 5_000)
    rehearse(market, act)


@pytest.mark.shared
def test_klines_come_forming_and_closed_once(market: Market, shared_data: Path) -> None:
    lines = (shared_data / "cryptofeed_ws/BINANCE_FUTURES.ws.1.0").read_text().splitlines()
    texts = [line.partition(": ")[2] for line in lines if "@kline_1m" in line[:80]]
    sushi = [text for text in texts if '"stream":"sushiusdt@kline_1m"' in text]

    async def act(core: Rehearsal) -> None:
        feed = core.subscribe("SUSHI-USDT", FeedKind.BARS, "1m")
        await heard(core, is_up)
        market.streams.play(sushi)
        rows = await core.rows(feed, len(sushi))
        klines = [json.loads(text)["data"]["k"] for text in sushi]
        expected = [(k["t"] * 1_000, *(float(k[n]) for n in ("o", "h", "l", "c", "v")), int(k["x"])) for k in klines]
        assert rows == expected
        assert sum(row[6] for row in rows) == 1

    Exchange(market.rest).list("SUSHIUSDT", "1m", [])
    rehearse(market, act)


# Contract


def quote(number: int) -> str:
    data = {"u": number, "s": "BTCUSDT", "b": "61837.63", "B": "3.5", "a": "61837.64", "A": f"{number}.5"}
    return json.dumps({"stream": QUOTES, "data": data})


def kline(number: int) -> str:
    opened_ms = FIRST_MS // 60_000 * 60_000
    data = {"t": opened_ms, "o": "9.5", "h": "9.75", "l": "9.25", "c": "9.5", "v": f"{number}.5", "x": False}
    return json.dumps({"stream": MINUTES, "data": {"e": "kline", "E": FIRST_MS + number, "k": data}})


@contextmanager
def flowing(market: Market, make: Callable[[int], str]) -> Iterator[None]:
    """A market that never rests."""
    is_over = threading.Event()

    def send() -> None:
        for number in count(1):
            market.streams.play([make(number)])
            if is_over.wait(0.01):
                return

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


@pytest.mark.parametrize(
    ("kind", "interval", "make"),
    [("trades", None, lambda n: trade(n, FIRST_MS + n)), ("quotes", None, quote), ("bars", "1m", kline)],
)
def test_it_keeps_what_every_stream_must_keep(
    market: Market, kind: str, interval: str | None, make: Callable[[int], str]
) -> None:
    with flowing(market, make):
        assert check_stream(market.provider(), "BTC-USDT", kind, interval) == []


# Claims


def test_the_manifest_says_what_is_streamed() -> None:
    manifest = load_manifest(MANIFESTS / "binance")
    assert manifest.streams == frozenset(FeedKind)
    assert "stream" in Binance.methods()
