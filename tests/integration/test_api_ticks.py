"""GET /trades and /quotes on a real socket: every format, paging, and honesty about what was recorded."""

import io
import json
from typing import Any

import httpx
import msgpack
import numpy as np
import polars as pl
import pytest
from unit.api.fakes import STARTED_US, FakeServices, open_client

from timebase.api import parameters

TIMES = [(STARTED_US + 100 * (at // 3)) / 1_000 for at in range(10)]


async def ask(client: httpx.AsyncClient, path: str, status: int = 200, **query: object) -> httpx.Response:
    reply = await client.get(f"/api/v1{path}", params={name: str(value) for name, value in query.items()})
    assert reply.status_code == status, reply.text
    return reply


async def test_trades_come_as_columns_with_who_recorded_them_and_when() -> None:
    async with open_client(FakeServices()) as client:
        reply = (await ask(client, "/trades/BTC-USDT")).json()
    assert (reply["symbol"], reply["provider"], reply["next"], reply["warnings"]) == ("BTC-USDT", "demo", None, [])
    assert reply["trades"]["time"] == TIMES
    assert reply["trades"]["side"] == [1, -1] * 5
    assert list(reply["trades"]) == ["time", "price", "size", "side", "id", "flags"]
    assert reply["meta"] == {
        "source": "recorded",
        "recorded": [[(STARTED_US - 1) / 1_000, (STARTED_US + 1_000) / 1_000]],
        "others": ["other"],
    }


async def test_quotes_have_their_own_columns() -> None:
    async with open_client(FakeServices()) as client:
        reply = (await ask(client, "/quotes/AAPL", provider="other")).json()
    assert reply["provider"] == "other"
    assert list(reply["quotes"]) == ["time", "bid", "bid_size", "ask", "ask_size"]
    assert len(reply["quotes"]["time"]) == 9


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 9, 10])
async def test_pages_follow_each_other_without_a_hole_or_a_double(limit: int) -> None:
    ids: list[int] = []
    async with open_client(FakeServices()) as client:
        query: dict[str, object] = {"start": STARTED_US // 1_000, "limit": limit}
        while query:
            page = await ask(client, "/trades/BTC-USDT", **query)
            assert len(page.json()["trades"]["id"]) <= limit
            ids += page.json()["trades"]["id"]
            cursor = page.json()["next"]
            assert (cursor is None) == ("link" not in page.headers)
            query = {"cursor": cursor} if cursor else {}
    assert ids == list(range(1, 11))


async def test_without_a_start_the_newest_come() -> None:
    async with open_client(FakeServices()) as client:
        reply = (await ask(client, "/trades/BTC-USDT", limit=3)).json()
    assert (reply["trades"]["id"], reply["next"]) == ([8, 9, 10], None)


async def test_every_format_says_the_same() -> None:
    micros = [round(at * 1_000) for at in TIMES]
    async with open_client(FakeServices()) as client:

        async def of(format: str, **query: object) -> Any:
            return await ask(client, "/trades/BTC-USDT", format=format, **query)

        assert [row["time"] for row in (await of("rows")).json()["trades"]] == TIMES
        lines = (await of("ndjson", times="s")).text.splitlines()
        assert [round(json.loads(line)["time"] * 1e6) for line in lines] == micros
        for format, read in (
            ("arrow", pl.read_ipc), ("arrow-stream", pl.read_ipc_stream), ("parquet", pl.read_parquet)
        ):  # fmt: skip
            frame = read(io.BytesIO((await of(format)).content))
            assert frame.schema["time"] == pl.Datetime("us", "UTC")
            assert frame["time"].cast(pl.Int64).to_list() == micros
        csv = pl.read_csv(io.BytesIO((await of("csv")).content))
        assert csv["time"].to_list()[3] == "2023-11-14T22:13:20.000100Z"
        assert csv["id"].to_list() == list(range(1, 11))
        packed = msgpack.unpackb((await of("msgpack")).content)
        assert packed["dtypes"]["time"] == "<f8"
        assert np.frombuffer(packed["trades"]["time"], packed["dtypes"]["time"]).tolist() == TIMES
        assert packed["meta"]["source"] == "recorded"
        assert (await of("json", times="iso")).json()["trades"]["time"][3] == "2023-11-14T22:13:20.000100Z"
        meta = json.loads((await of("csv")).headers["timebase-meta"])
        assert (meta["provider"], meta["meta"]["source"]) == ("demo", "recorded")


async def test_what_was_not_recorded_is_said_and_nobody_is_asked() -> None:
    services = FakeServices()
    async with open_client(services) as client:
        early = (await ask(client, "/trades/BTC-USDT", end="2020-01-01")).json()
        services.store.recorders = ()
        none = (await ask(client, "/quotes/BTC-USDT")).json()
    for reply in (early, none):
        assert reply["provider"] is None
        assert reply["meta"]["recorded"] == []
        assert "nothing was recorded" in reply["warnings"][0]
    assert services.asked == []


async def test_a_question_that_cannot_be_is_refused_by_name() -> None:
    async with open_client(FakeServices()) as client:
        cursor = (await ask(client, "/trades/BTC-USDT", start="2020-01-01", limit=2)).json()["next"]
        for path, query, parameter in (
            ("/trades/BTC-USDT", {"start": "2021-01-01", "end": "2020-01-01"}, "start"),
            ("/trades/BTC-USDT", {"limit": 0}, "limit"),
            ("/trades/BTC-USDT", {"interval": "1m"}, "interval"),
            ("/trades/AAPL", {"cursor": cursor}, "cursor"),
            ("/quotes/BTC-USDT", {"cursor": cursor}, "cursor"),
            ("/trades/BTC-USDT", {"cursor": "WzFd"}, "cursor"),
        ):
            problem = (await ask(client, path, 422, **query)).json()
            assert problem["parameter"] == parameter
        assert (await ask(client, "/trades/NOBODY", 404)).json()["code"] == "unknown_symbol"


async def test_without_the_database_it_says_when_to_ask_again() -> None:
    services = FakeServices()
    services.store.is_up = False
    async with open_client(services) as client:
        assert (await ask(client, "/trades/BTC-USDT", 503)).json()["code"] == "store_unavailable"


async def test_bars_are_made_of_what_was_recorded_in_every_format() -> None:
    query: dict[str, object] = {"by": "trades", "every": 4, "start": STARTED_US // 1_000}
    async with open_client(FakeServices()) as client:
        reply = (await ask(client, "/trades/BTC-USDT/bars", **query)).json()
        rows = (await ask(client, "/trades/BTC-USDT/bars", **query, format="rows")).json()["bars"]
        csv = await ask(client, "/trades/BTC-USDT/bars", **query, format="csv")
        packed = msgpack.unpackb((await ask(client, "/trades/BTC-USDT/bars", **query, format="msgpack")).content)
        frames = [
            read(io.BytesIO((await ask(client, "/trades/BTC-USDT/bars", **query, format=format)).content))
            for format, read in (("arrow", pl.read_ipc), ("parquet", pl.read_parquet))
        ]
    assert list(reply["bars"]) == ["time", "open", "high", "low", "close", "volume", "trades", "vwap"]
    assert (reply["bars"]["time"], reply["bars"]["trades"], reply["next_start"]) == ([TIMES[0], TIMES[4]], [4, 4], None)
    assert (reply["provider"], reply["meta"]["by"], reply["meta"]["every"]) == ("demo", "trades", 4.0)
    assert [row["close"] for row in rows] == reply["bars"]["close"]
    assert pl.read_csv(io.BytesIO(csv.content))["trades"].to_list() == [4, 4]
    assert json.loads(csv.headers["timebase-meta"])["meta"]["by"] == "trades"
    assert np.frombuffer(packed["bars"]["vwap"], packed["dtypes"]["vwap"]).tolist() == reply["bars"]["vwap"]
    assert [frame["volume"].to_list() for frame in frames] == [[2.0, 2.0]] * 2


async def test_bars_that_follow_begin_where_those_before_ended() -> None:
    async with open_client(FakeServices()) as client:
        times: list[float] = []
        start: object = STARTED_US // 1_000
        while start is not None:
            page = (await ask(client, "/trades/BTC-USDT/bars", by="volume", every=1, limit=1, start=start)).json()
            times += page["bars"]["time"]
            start = page["next_start"]
    assert times == [TIMES[at] for at in range(0, 10, 2)]


@pytest.mark.parametrize(("by", "every"), [("volume", "1"), ("value", "1"), ("trades", "2")])
async def test_more_than_one_reply_reads_is_gone_on_with_and_never_cut_without_a_word(
    by: str, every: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three trades share an instant, in which no reply may end: eight hold three bars of two trades that end so."""
    query: dict[str, object] = {"by": by, "every": every, "start": STARTED_US // 1_000}
    async with open_client(FakeServices()) as client:
        whole = (await ask(client, "/trades/BTC-USDT/bars", **query)).json()
        assert whole["next_start"] is None
        monkeypatch.setattr(parameters, "MAX_TICKS", 8)
        times: list[float] = []
        pages = 0
        while query.get("start") is not None:
            page = (await ask(client, "/trades/BTC-USDT/bars", **query)).json()
            times, pages = times + page["bars"]["time"], pages + 1
            query["start"] = page["next_start"]
    assert times == whole["bars"]["time"]
    assert pages > 1


@pytest.mark.parametrize(("by", "every"), [("volume", "1000"), ("value", "1e9"), ("time", "10s"), ("trades", "7")])
async def test_a_bar_that_needs_more_than_one_reply_reads_is_a_problem_that_says_so(
    by: str, every: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parameters, "MAX_TICKS", 6)
    query: dict[str, object] = {"by": by, "every": every.replace("1e9", "1000000000"), "start": "2023-11-14"}
    async with open_client(FakeServices()) as client:
        problem = (await ask(client, "/trades/BTC-USDT/bars", 422, **query)).json()
    assert problem["parameter"] == "every"
    assert "6 trades do not fill a bar" in problem["detail"]


async def test_bars_of_seconds_are_asked_for_by_time() -> None:
    async with open_client(FakeServices()) as client:
        reply = (await ask(client, "/trades/BTC-USDT/bars", by="time", every="10s", start="2023-11-14")).json()
    assert (reply["bars"]["time"], reply["bars"]["trades"]) == ([STARTED_US / 1_000 // 10_000 * 10_000], [10])
    assert reply["meta"]["every"] == 10.0


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ({"by": "volume"}, "every"),
        ({"every": "0"}, "every"),
        ({"every": "1.5"}, "every"),
        ({"every": "10s"}, "every"),
        ({"by": "time", "every": "7s"}, "every"),
        ({"by": "time", "every": "0.5s"}, "every"),
        ({"by": "ticks"}, "by"),
        ({"cursor": "x"}, "cursor"),
        ({"start": "2021-01-01", "end": "2020-01-01"}, "start"),
    ],
)
async def test_bars_that_cannot_be_are_refused_by_name(query: dict[str, str], parameter: str) -> None:
    async with open_client(FakeServices()) as client:
        assert (await ask(client, "/trades/BTC-USDT/bars", 422, **query)).json()["parameter"] == parameter
