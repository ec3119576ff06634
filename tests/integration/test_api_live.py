"""What the API says of live feeds and of the collector's list, on a real socket."""

import pytest
from unit.api.fakes import FakeServices, open_client

COLLECT = "/api/v1/collect"


async def test_every_feed_is_listed_with_its_state_and_why() -> None:
    async with open_client(FakeServices()) as client:
        (feed,) = (await client.get("/api/v1/feeds")).json()["feeds"]
    assert (feed["provider"], feed["state"], feed["reason"]) == ("demo", "quiet", "silent for 90 s")
    assert feed["healing"][0]["reason"] == "timeout"


async def test_the_list_of_what_is_collected_is_added_to_and_taken_from() -> None:
    async with open_client(FakeServices()) as client:
        for body in ({"symbol": "btc/usdt"}, {"symbol": "BTC-USDT", "interval": "1h"}, {"symbol": "BTC-USDT"}):
            reply = await client.post(COLLECT, json=body)
            assert reply.status_code == 200
        lines = (await client.get(COLLECT)).json()["collected"]
        assert [(line["symbol"], line["interval"]) for line in lines] == [("BTC-USDT", "1h"), ("BTC-USDT", "1m")]
        one = await client.delete(f"{COLLECT}/BTC-USDT", params={"interval": "1m"})
        assert [line["interval"] for line in one.json()["collected"]] == ["1h"]
        rest = await client.delete(f"{COLLECT}/BTC-USDT")
        assert rest.json() == {"collected": []}


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 422, "bad_parameter"),
        ({"symbol": "AAPL", "interval": "2m"}, 422, "bad_parameter"),
        ({"symbol": "AAPL", "provider": "nobody"}, 404, "unknown_provider"),
        ([], 400, "bad_body"),
    ],
)
async def test_what_cannot_be_collected_is_refused(body: object, status: int, code: str) -> None:
    async with open_client(FakeServices()) as client:
        reply = await client.post(COLLECT, json=body)
    assert (reply.status_code, reply.json()["code"]) == (status, code)


async def test_a_list_that_cannot_be_kept_is_not_changed() -> None:
    services = FakeServices()
    services.store.is_up = False
    async with open_client(services) as client:
        assert (await client.post(COLLECT, json={"symbol": "AAPL"})).status_code == 503
        assert (await client.get(COLLECT)).json() == {"collected": []}


async def test_another_site_takes_nothing_off_the_list() -> None:
    async with open_client(FakeServices()) as client:
        reply = await client.delete(f"{COLLECT}/AAPL", headers={"Origin": "https://evil.example"})
    assert (reply.status_code, reply.json()["code"]) == (403, "cross_origin")


async def test_feeds_their_failures_and_heals_are_counted() -> None:
    async with open_client(FakeServices()) as client:
        text = (await client.get("/metrics")).text
    assert 'timebase_feeds{provider="demo",state="quiet"} 1.0' in text
    assert 'timebase_feed_failures_total{provider="demo"} 3.0' in text
    assert 'timebase_heals_total{outcome="healed",provider="demo"} 2.0' in text
