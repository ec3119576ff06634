"""WS /api/v1/stream over real sockets: conversations, refusals, and clients who do not behave."""

import json
import logging
import socket
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise
from random import Random
from typing import Any

import httpx
import pytest
import trio
from integration.listener import Client, connected, is_type
from unit.api.fakes import FakeServices, open_api
from unit.streaming.happenings import BARS, QUOTES, TRADES, bar, tape, trades

from timebase.api import stream
from timebase.api.server import run_api
from timebase.api.services import ApiSettings
from timebase.model.live import BarStatus
from timebase.model.lru import ByteLru
from timebase.streaming import follower
from timebase.streaming.follower import BUFFER_EVENTS, TOO_SLOW

SUBSCRIBE = {"action": "subscribe", "channels": ["trades:BTC-USDT"]}


@pytest.fixture
def services() -> FakeServices:
    made = FakeServices()
    for channel in (BARS, TRADES, QUOTES):
        made.hub.bind(channel, "binance")
    return made


@pytest.fixture
async def port(services: FakeServices) -> AsyncIterator[int]:
    async with open_api(services) as opened:
        yield opened


async def test_a_client_subscribes_and_is_given_what_happens(services: FakeServices, port: int) -> None:
    async with connected(port) as client:
        await client.say({"action": "subscribe", "channels": ["trades:BTC/USDT", "bars:BTC-USDT:1m"]})
        told = await client.until(lambda e: e.get("channel") == "bars:BTC-USDT:1m")
        assert [(e["type"], e["channel"], e["provider"]) for e in told] == [
            ("subscribed", "trades:BTC-USDT", "binance"), ("subscribed", "bars:BTC-USDT:1m", "binance")
        ]  # fmt: skip
        services.hub.publish(trades(1, 3))
        services.hub.publish(bar(0, 5.0))
        seen = await client.until(is_type("bar"))
    assert [e["type"] for e in seen] == ["trade", "trade", "trade", "bar"]


async def test_the_old_prefix_works_too(port: int) -> None:
    async with connected(port, "/api/stream") as client:
        await client.say({"action": "ping"})
        assert [e["type"] for e in await client.events()] == ["pong"]


async def test_the_simplest_client_says_nothing(services: FakeServices, port: int) -> None:
    async with connected(port, "/api/v1/stream/BTC-USDT?channels=bars,trades&interval=1m&from=-10m") as client:
        await client.until(lambda e: e["type"] == "history_end" and e["channel"] == "bars:BTC-USDT:1m")
        services.hub.publish(bar(0, 5.0, BarStatus.FORMING))
        assert [e["status"] for e in await client.until(is_type("bar")) if e["type"] == "bar"] == ["forming"]


async def test_after_unsubscribing_nothing_more_comes(services: FakeServices, port: int) -> None:
    async with connected(port) as client:
        await client.say(SUBSCRIBE)
        await client.until(is_type("subscribed"))
        await client.say({**SUBSCRIBE, "action": "unsubscribe"})
        await client.until(is_type("unsubscribed"))
        services.hub.publish(trades(1, 3))
        await client.say({"action": "ping"})
        assert [e["type"] for e in await client.events()] == ["pong"]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("{", "not JSON"),
        ("\xff\x00", "not JSON"),
        ("[]", "not a JSON object"),
        ({"action": "buy"}, "allowed: subscribe, unsubscribe, ping"),
        ({"action": ["subscribe"]}, "allowed: subscribe, unsubscribe, ping"),
        ({"action": "subscribe"}, "name at least one"),
        ({"action": "subscribe", "channels": []}, "name at least one"),
        ({"action": "subscribe", "channels": ["candles:BTC"]}, "write it like"),
        ({"action": "subscribe", "channels": [7]}, "write it like"),
        ({"action": "subscribe", "channels": ["trades:../etc"]}, "symbol"),
        ({"action": "subscribe", "channels": ["trades:BTC-USDT@A B"]}, "slug"),
        ({**SUBSCRIBE, "from": "yesterday"}, "not a time"),
        ({**SUBSCRIBE, "from": 4_000_000_000}, "future"),
        ({**SUBSCRIBE, "from": True}, "write a time"),
        ({**SUBSCRIBE, "throttle_s": -1}, "seconds"),
        ({**SUBSCRIBE, "resume": {"trades:BTC-USDT": "7"}}, "number"),
        ({**SUBSCRIBE, "interval": "1m"}, "no such field"),
    ],
)
async def test_a_message_that_makes_no_sense_is_answered_and_the_conversation_goes_on(
    port: int, said: object, words: str
) -> None:
    async with connected(port) as client:
        await client.say(said)
        (error,) = await client.events()
        assert error["type"] == "error"
        assert words in error["message"]
        await client.say(SUBSCRIBE)
        await client.until(is_type("subscribed"))


async def test_a_message_may_come_in_pieces(port: int) -> None:
    async with connected(port) as client:
        text = json.dumps(SUBSCRIBE).encode()
        client.protocol.send_text(text[:5], fin=False)
        client.protocol.send_ping(b"in between")
        client.protocol.send_continuation(text[5:], fin=True)
        await client.flush()
        await client.until(is_type("subscribed"))


async def test_a_message_that_is_too_long_ends_the_conversation(port: int) -> None:
    async with connected(port) as client:
        client.protocol.send_text(b" " * 40_000, fin=False)
        client.protocol.send_continuation(b" " * 40_000, fin=True)
        await client.flush()
        closed = await client.closed()
    assert closed is not None
    assert closed.code == 1009


async def test_what_is_no_frame_ends_the_conversation(services: FakeServices, port: int) -> None:
    async with connected(port) as client:
        await client.stream.send_all(b"\x83\x00garbage")
        closed = await client.closed()
    assert closed is not None
    assert closed.code == 1002


async def test_a_client_may_not_follow_without_end(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MAX_CHANNELS", 2)
    async with connected(port) as client:
        await client.say({"action": "subscribe", "channels": ["trades:A", "trades:B", "trades:C"]})
        told = await client.until(is_type("error"))
    assert [(e["type"], e["channel"]) for e in told] == [
        ("subscribed", "trades:A"), ("subscribed", "trades:B"), ("error", "trades:C")
    ]  # fmt: skip


async def test_who_comes_back_goes_on_where_it_stopped(services: FakeServices, port: int) -> None:
    async with connected(port) as client:
        await client.say(SUBSCRIBE)
        await client.until(is_type("subscribed"))
        services.hub.publish(trades(1, 1))
        (seen,) = await client.until(is_type("trade"))
    services.hub.publish(trades(2, 3))
    async with connected(port) as client:
        await client.say({**SUBSCRIBE, "from": "-1h", "resume": {"trades:BTC-USDT": seen["seq"]}})
        told = await client.until(lambda e: e.get("id") == 4)
    assert told[0]["resumed"]
    assert [e["id"] for e in told[1:]] == [2, 3, 4]


async def test_what_is_not_kept_any_more_comes_from_the_store(services: FakeServices, port: int) -> None:
    services.hub.bind(BARS, "demo")
    async with connected(port) as client:
        await client.say({"action": "subscribe", "channels": ["bars:BTC-USDT:1m"], "from": "-10m",
                          "resume": {"bars:BTC-USDT:1m": 17}})  # fmt: skip
        told = await client.until(is_type("history_end"))
    assert not told[0]["resumed"]
    assert told[-1]["count"] == len(told) - 2 > 2
    assert [e["seq"] for e in told[1:]][-1] == told[0]["seq"]


async def test_an_idle_conversation_has_a_heartbeat(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "HEARTBEAT_S", 0.05)
    async with connected(port) as client:
        assert [e["type"] for e in await client.events()] == ["heartbeat"]


async def test_a_client_that_answers_no_ping_is_told_goodbye(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "SILENT_S", 0.2)
    monkeypatch.setattr(stream, "PING_S", 0.05)
    async with connected(port) as client:
        heard = b""
        with trio.fail_after(10):
            while some := await client.stream.receive_some():  # a client that answers to nothing
                heard += some
    assert b'"type":"goodbye","code":4009' in heard


async def test_pongs_are_signs_of_life(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "SILENT_S", 0.3)
    monkeypatch.setattr(stream, "PING_S", 0.05)
    monkeypatch.setattr(stream, "HEARTBEAT_S", 1.0)
    async with connected(port) as client:
        assert [e["type"] for e in await client.events()] == ["heartbeat"]


async def test_at_the_servers_stop_everybody_is_told_goodbye(services: FakeServices) -> None:
    async with trio.open_nursery() as server:
        port = await server.start(run_api, services, ApiSettings(port=0), ByteLru(0))
        async with connected(port) as client:
            await client.say({"action": "ping"})
            await client.until(is_type("pong"))
            server.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                told = await client.until(is_type("goodbye"))
                closed = await client.closed()
    assert told[-1]["code"] == 1012
    assert closed is not None
    assert closed.code == 1012


async def test_a_client_that_is_gone_is_followed_by_nobody(services: FakeServices, port: int) -> None:
    async with connected(port) as client:
        await client.say(SUBSCRIBE)
        await client.until(is_type("subscribed"))
        assert services.hub.figures()["followers"] == 1
    with trio.fail_after(10):
        while services.hub.figures()["followers"]:
            services.hub.publish(trades(1, 1))
            await trio.sleep(0.01)


# --- who may ---


async def refused(port: int, path: str = "/api/v1/stream", **headers: str) -> httpx.Response:
    opening = {
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }  # fmt: skip
    async with httpx.AsyncClient() as client:
        return await client.get(f"http://127.0.0.1:{port}{path}", headers={**opening, **headers}, timeout=10)


async def test_a_path_that_is_none_is_a_problem(port: int) -> None:
    reply = await refused(port, "/api/v1/streams")
    assert (reply.status_code, reply.json()["code"]) == (404, "unknown_path")


async def test_the_token_is_asked_for(services: FakeServices) -> None:
    async with open_api(services, token="s3cret") as port:
        reply = await refused(port)
        assert (reply.status_code, reply.json()["code"]) == (401, "unauthorized")
        assert (await refused(port, "/api/v1/stream?token=wrong")).status_code == 401


async def test_the_token_may_be_a_header_or_in_the_address_and_is_never_logged(
    services: FakeServices, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with open_api(services, token="s3cret") as port:
        async with connected(port, Authorization="Bearer s3cret") as client:
            await client.say({"action": "ping"})
            await client.until(is_type("pong"))
        async with connected(port, "/api/v1/stream?token=s3cret", Origin="https://elsewhere.example") as client:
            await client.say({"action": "ping"})
            await client.until(is_type("pong"))
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("timebase")]
    assert not any("s3cret" in line for line in ours)


async def test_a_page_from_elsewhere_is_refused_where_no_token_is_asked_for(port: int) -> None:
    reply = await refused(port, Origin="https://elsewhere.example")
    assert (reply.status_code, reply.json()["code"]) == (403, "cross_origin")
    async with connected(port, Origin=f"http://127.0.0.1:{port}") as client:
        await client.say({"action": "ping"})
        await client.until(is_type("pong"))


async def test_a_bad_address_is_told_and_the_conversation_goes_on(port: int) -> None:
    async with connected(port, "/api/v1/stream/BTC-USDT?interval=7m") as client:
        assert [e["code"] for e in await client.until(is_type("error"))] == ["bad_parameter"]
        await client.say({"action": "ping"})
        await client.until(is_type("pong"))


# --- many, slow, and at random moments ---


async def test_a_client_that_does_not_read_is_not_felt_by_others(services: FakeServices, port: int) -> None:
    async with connected(port) as stalled, connected(port) as quick:
        stalled.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for client in (stalled, quick):
            await client.say(SUBSCRIBE)
            await client.until(is_type("subscribed"))
        seen = 0
        for n in range(40):
            services.hub.publish(trades(1 + n * 1_000, 1_000))
            while seen < (n + 1) * 1_000:
                seen += len(await quick.events())
        figures = services.hub.figures()
        assert figures["waiting"] <= 16_384
        assert figures["dropped"] > 0
        told = await stalled.until(is_type("dropped"))
    first = next(e["from_seq"] for e in told if e["type"] == "dropped")
    assert max(e["seq"] for e in told if e["type"] == "trade" and e["seq"] < first) == first - 1


async def test_who_is_let_go_is_told_of_each_trade_that_it_did_not_get_and_the_others_get_all(
    services: FakeServices, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As fast as the others read, while one does not: what waits for it is bounded, and its count is right."""
    monkeypatch.setattr(follower, "PATIENCE_S", 0.5)
    async with connected(port) as stalled, connected(port) as quick, connected(port) as brisk:
        stalled.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for client in (stalled, quick, brisk):
            await client.say(SUBSCRIBE)
            await client.until(is_type("subscribed"))
        seen: dict[Client, list[int]] = {quick: [], brisk: []}
        total = 0
        while not (is_over := _has_let_go(services)) and total < 1_000_000:
            services.hub.publish(trades(total + 1, 1_000))
            total += 1_000
            for client, ids in seen.items():
                while len(ids) < total:
                    ids += [event["id"] for event in await client.events()]
            assert services.hub.figures()["waiting"] <= BUFFER_EVENTS
        assert is_over
        told = await stalled.until(is_type("goodbye"))
        closed = await stalled.closed()
    assert seen == {client: list(range(1, total + 1)) for client in seen}
    assert told[-1]["code"] == TOO_SLOW
    assert closed is not None
    assert closed.code == TOO_SLOW
    assert [event["type"] for event in told].count("goodbye") == 1
    got = [event["seq"] for event in told if event["type"] == "trade"]
    lost = [seq for event in told if event["type"] == "dropped" for seq in _numbers(event)]
    assert sorted(got + lost) == list(range(got[0], got[0] + total))
    assert sum(event["count"] for event in told if event["type"] == "dropped") == len(lost)


def _has_let_go(services: FakeServices) -> bool:
    """Whether nothing waits any more for who did not read."""
    figures = services.hub.figures()
    return figures["dropped"] > 0 and figures["waiting"] == 0


def _numbers(dropped: dict[str, Any]) -> range:
    return range(dropped["from_seq"], dropped["to_seq"] + 1)


async def test_a_thousand_followers_are_all_given_the_same(services: FakeServices) -> None:
    got: list[int] = []
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            ready = trio.Event()
            joined = 0

            async def follow() -> None:
                nonlocal joined
                with services.hub.follow(TRADES) as follower:
                    joined += 1
                    if joined == 1_000:
                        ready.set()
                    seen = 0
                    while seen < 500:
                        seen += sum(len(event) for event in await follower.next())
                    got.append(seen)

            for _ in range(1_000):
                nursery.start_soon(follow)
            await ready.wait()
            for n in range(50):
                services.hub.publish(trades(1 + n * 10, 10))
                await trio.lowlevel.checkpoint()
    assert got == [500] * 1_000


async def test_fifty_clients_who_join_at_random_moments_see_no_hole_and_no_duplicate(
    services: FakeServices, port: int
) -> None:
    random, stop = Random(5), trio.Event()
    seen: list[Sequence[dict[str, Any]]] = []
    last_id = 0

    async def live() -> None:
        nonlocal last_id
        commit = 0
        while not stop.is_set():
            commit, count = commit + 1, random.randint(1, 20)
            services.tape.commit(commit, tape(last_id + 1, count))
            await trio.sleep(random.random() / 500)
            services.hub.publish(trades(last_id + 1, count, commit_id=commit))
            last_id += count
            await trio.sleep(random.random() / 200)

    async def follow(after_s: float) -> None:
        await trio.sleep(after_s)
        async with connected(port) as client:
            await client.say({**SUBSCRIBE, "from": "2023-11-14T22:14:00Z"})
            events = await client.until(is_type("history_end"))
            goal = last_id + 100
            events += await client.until(lambda e: e.get("id", 0) >= goal)
            seen.append([e for e in events if e["type"] in {"trade", "dropped"}])

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(live)
            async with trio.open_nursery() as clients:
                for _ in range(50):
                    clients.start_soon(follow, random.random() * 2)
            stop.set()
    assert len(seen) == 50
    for events in seen:
        assert [e["id"] for e in events] == list(range(1, len(events) + 1))
        assert all(after["seq"] - before["seq"] == 1 for before, after in pairwise(events))


async def test_what_the_stream_does_is_counted(services: FakeServices, port: int) -> None:
    async with connected(port) as client:
        await client.say(SUBSCRIBE)
        await client.until(is_type("subscribed"))
        services.hub.publish(trades(1, 3))
        await client.until(is_type("trade"))
        async with httpx.AsyncClient() as asker:
            page = (await asker.get(f"http://127.0.0.1:{port}/metrics", timeout=10)).text
    for line in (
        "timebase_stream_followers 1.0",
        "timebase_stream_events_total 3.0",
        'timebase_stream_lag_seconds_count{stage="received"} 1.0',
        'timebase_stream_lag_seconds_count{stage="sent"} 1.0',
    ):
        assert line in page
