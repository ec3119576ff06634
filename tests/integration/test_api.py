"""The API over real sockets, in front of a fake server: what clients get for what they ask."""

import json
import zlib
from typing import Any

import httpx
import msgpack
import pytest
import trio
import zstandard
from prometheus_client.parser import text_string_to_metric_families
from unit.api.fakes import BTC, STARTED_US, FakeServices, FakeSpool, open_client

from timebase.errors import AllProvidersFailed, BadPackage, ConfigError, NotSupported, StoreUnavailable
from timebase.history.answer import Missing
from timebase.model.demand import Question
from timebase.model.interval import Interval
from timebase.model.receipt import Attempt
from timebase.model.timerange import DAY_US, TimeRange

JANUARY = {"interval": "1d", "start": "2020-01-01", "end": "2020-02-01"}
START_MS = 1_577_836_800_000
DAY_MS = 86_400_000


# --- bars ---


async def test_bars_come_as_columns_with_their_receipt() -> None:
    async with open_client(FakeServices(warnings=("half of it",))) as client:
        reply = await client.get("/api/v1/data/aapl", params=JANUARY)
    content = reply.json()
    assert (reply.status_code, reply.headers["content-type"]) == (200, "application/json")
    assert list(content) == ["symbol", "interval", "provider", "bars", "meta", "warnings", "next"]
    assert (content["symbol"], content["interval"], content["provider"]) == ("AAPL", "1d", "demo")
    assert list(content["bars"]) == ["time", "open", "high", "low", "close", "volume", "flags"]
    assert content["bars"]["time"] == [START_MS + n * DAY_MS for n in range(31)]
    assert content["meta"] == {
        "source": "store",
        "resampled_from": None,
        "attempts": [{"provider": "demo", "outcome": "ok", "reason": "", "ms": 3}],
        "coverage": {"complete": True, "missing": []},
        "freshness": {"checked_at": STARTED_US // 1000, "fresh_until": None, "is_stale": False},
        "adjustment": {"mode": "raw", "applied": []},
    }
    assert (content["warnings"], content["next"]) == (["half of it"], None)


async def test_both_prefixes_and_both_kinds_of_path_answer_alike() -> None:
    async with open_client(FakeServices()) as client:
        paths = (
            "/api/v1/data/AAPL",
            "/api/data/AAPL",
            "/api/providers/demo/data/AAPL",
            "/api/v1/providers/demo/data/AAPL",
        )
        bodies = {(await client.get(path, params=JANUARY)).content for path in paths}
    assert len(bodies) == 1


@pytest.mark.parametrize("path", ["BTC-USDT", "btc/usdt", "BTC%2FUSDT", "btc_usdt"])
async def test_a_pair_may_be_written_in_every_usual_way(path: str) -> None:
    async with open_client(FakeServices()) as client:
        reply = await client.get(f"/api/v1/data/{path}", params=JANUARY)
        known = await client.get(f"/api/v1/symbols/{path}/providers")
    assert reply.json()["symbol"] == known.json()["symbol"] == "BTC-USDT"


async def test_rows_are_a_list_of_objects() -> None:
    async with open_client(FakeServices()) as client:
        content = (await client.get("/api/v1/data/AAPL", params={**JANUARY, "format": "rows", "times": "iso"})).json()
    assert list(content["bars"][0]) == ["time", "open", "high", "low", "close", "volume", "flags"]
    assert content["bars"][0]["time"] == "2020-01-01T00:00:00Z"
    assert content["meta"]["freshness"]["checked_at"] == "2023-11-14T22:13:20Z"


async def test_msgpack_says_how_its_columns_are_to_be_read() -> None:
    async with open_client(FakeServices()) as client:
        reply = await client.get("/api/v1/data/AAPL", params=JANUARY, headers={"Accept": "application/msgpack"})
    content = msgpack.unpackb(reply.content)
    assert list(content) == ["symbol", "interval", "provider", "bars", "dtypes", "meta", "warnings", "next"]
    assert content["dtypes"]["time"] == "<i8"
    assert len(content["bars"]["close"]) == 31 * 8


@pytest.mark.parametrize("form", ["csv", "ndjson", "arrow", "arrow-stream", "parquet"])
async def test_formats_without_a_place_for_the_receipt_have_it_in_a_header(form: str) -> None:
    services = FakeServices(warnings=("Größe — 株",))
    async with open_client(services) as client:
        reply = await client.get("/api/v1/data/AAPL", params={**JANUARY, "format": form})
    meta = json.loads(reply.headers["timebase-meta"])
    assert (meta["symbol"], meta["meta"]["source"], meta["warnings"]) == ("AAPL", "store", ["Größe — 株"])


async def test_a_receipt_too_long_for_a_header_is_cut_and_says_so() -> None:
    services = FakeServices(warnings=tuple(f"warning number {n} of very many" for n in range(500)))
    async with open_client(services) as client:
        reply = await client.get("/api/v1/data/AAPL", params={**JANUARY, "format": "csv"})
    header = reply.headers["timebase-meta"]
    assert len(header) <= 4096
    assert "format=json" in json.loads(header)["warnings"][0]


async def test_what_is_missing_is_said_with_its_range_and_reason() -> None:
    gap = Missing(TimeRange(START_MS * 1000, START_MS * 1000 + DAY_US), "failed")
    async with open_client(FakeServices(missing=(gap,))) as client:
        content = (await client.get("/api/v1/data/AAPL", params=JANUARY)).json()
    assert content["meta"]["coverage"] == {"complete": False, "missing": [[START_MS, START_MS + DAY_MS, "failed"]]}


async def test_pages_follow_each_other_without_a_hole_in_every_format() -> None:
    async with open_client(FakeServices(page=10)) as client:
        whole = (await client.get("/api/v1/data/AAPL", params={**JANUARY, "limit": 10})).json()
        seen, cursor = whole["bars"]["time"], whole["next"]
        while cursor:
            reply = await client.get("/api/v1/data/AAPL", params={"cursor": cursor, "format": "rows"})
            seen += [row["time"] for row in reply.json()["bars"]]
            assert ("next" in reply.links) == (reply.json()["next"] is not None)
            cursor = reply.json()["next"]
    assert seen == [START_MS + n * DAY_MS for n in range(31)]


async def test_the_link_header_leads_to_the_next_page_in_the_same_format() -> None:
    async with open_client(FakeServices(page=20)) as client:
        first = await client.get("/api/data/AAPL", params={**JANUARY, "format": "csv", "times": "s"})
        second = await client.get(first.links["next"]["url"])
    assert len(first.text.splitlines()) == 21
    assert second.text.splitlines()[1].startswith(str(START_MS // 1000 + 20 * 86_400))
    assert "next" not in second.links


async def test_a_limit_alone_gives_the_newest_bars() -> None:
    services = FakeServices()
    async with open_client(services) as client:
        content = (await client.get("/api/v1/data/AAPL", params={"limit": 3, "end": "2020-01-10"})).json()
    assert content["bars"]["time"] == [START_MS + n * DAY_MS for n in (6, 7, 8)]
    assert content["next"] is None


async def test_headers_hold_whatever_a_provider_warns_of() -> None:
    services = FakeServices(warnings=("a\x7fb\r\nX-Evil: 1\t\ud83d".encode("utf-8", "replace").decode(), "😀"), page=3)
    async with open_client(services) as client:
        reply = await client.get("/api/v1/data/AAPL%0D%0A", params={**JANUARY, "format": "csv"})
    assert json.loads(reply.headers["timebase-meta"])["warnings"] == list(services.warnings)
    assert "x-evil" not in reply.headers
    assert "%0D%0A" in reply.headers["link"]


@pytest.mark.parametrize("symbol", ["ß", "%C3%9F", "\u0131"])
async def test_a_letter_that_becomes_another_in_capitals_is_not_a_symbol(symbol: str) -> None:
    async with open_client(FakeServices()) as client:
        reply = await client.get(f"/api/v1/data/{symbol}")
    assert (reply.status_code, reply.json()["parameter"]) == (422, "symbol")


# --- caching ---


@pytest.mark.parametrize("form", ["json", "csv", "arrow", "parquet", "msgpack"])
async def test_an_unchanged_answer_is_not_sent_again(form: str) -> None:
    services = FakeServices()
    async with open_client(services) as client:
        first = await client.get("/api/v1/data/AAPL", params={**JANUARY, "format": form})
        etag = first.headers["etag"]
        loads = services.loads
        second = await client.get(
            "/api/v1/data/AAPL", params={**JANUARY, "format": form}, headers={"If-None-Match": f'"x", {etag}'}
        )
        assert (second.status_code, second.content, second.headers["etag"]) == (304, b"", etag)
        assert services.loads == loads
        services.generation, services.bars = 1, (await _answer_bars(services)).pick(slice(30))
        third = await client.get(
            "/api/v1/data/AAPL", params={**JANUARY, "format": form}, headers={"If-None-Match": etag}
        )
    assert third.status_code == 200
    assert third.headers["etag"] != etag


async def _answer_bars(services: FakeServices) -> Any:
    question = Question("AAPL", Interval.D1, TimeRange(START_MS * 1000, START_MS * 1000 + 31 * DAY_US))
    return await (await services.answer(question, [])).load()


async def test_equal_bars_have_an_equal_etag_whatever_their_version() -> None:
    services = FakeServices()
    async with open_client(services) as client:
        before = await client.get("/api/v1/data/AAPL", params=JANUARY)
        services.generation = 7
        after = await client.get("/api/v1/data/AAPL", params=JANUARY)
        services.warnings = ("stale",)
        warned = await client.get("/api/v1/data/AAPL", params=JANUARY)
    assert before.headers["etag"] == after.headers["etag"] != warned.headers["etag"]


async def test_a_kept_body_is_sent_without_reading_the_bars() -> None:
    services = FakeServices()
    async with open_client(services) as client:
        first = await client.get("/api/v1/data/AAPL", params=JANUARY)
        loads = services.loads
        again = await client.get("/api/v1/data/AAPL", params=JANUARY)
    assert again.content == first.content
    assert services.loads == loads


@pytest.mark.parametrize("form", ["json", "arrow", "parquet"])
async def test_bars_are_loaded_once_for_an_answer(form: str) -> None:
    services = FakeServices()
    async with open_client(services, cache_bytes=0) as client:
        for asked in range(1, 3):
            await client.get("/api/v1/data/AAPL", params={**JANUARY, "format": form})
            assert services.loads == asked


async def test_a_changed_series_is_rendered_anew() -> None:
    services = FakeServices()
    async with open_client(services) as client:
        await client.get("/api/v1/data/AAPL", params=JANUARY)
        services.bars = (await _answer_bars(services)).pick(slice(5))
        services.generation += 1
        content = (await client.get("/api/v1/data/AAPL", params=JANUARY)).json()
    assert len(content["bars"]["time"]) == 5


@pytest.mark.parametrize("form", ["json", "csv", "arrow", "parquet"])
async def test_head_is_get_without_the_body(form: str) -> None:
    async with open_client(FakeServices()) as client:
        got = await client.get("/api/v1/data/AAPL", params={**JANUARY, "format": form})
        head = await client.head("/api/v1/data/AAPL", params={**JANUARY, "format": form})
    assert head.content == b""
    for name in ("content-length", "content-type", "etag"):
        assert head.headers[name] == got.headers[name]


@pytest.mark.parametrize("path", ["/health", "/api/v1/providers", "/openapi.json"])
async def test_head_of_the_other_paths_too(path: str) -> None:
    async with open_client(FakeServices()) as client:
        head = await client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["content-length"]) > 100


# --- compression ---


@pytest.mark.parametrize("path", ["/api/v1/data/AAPL", "/api/v1/data/BTC-USDT", "/openapi.json"])
async def test_text_is_compressed_when_asked(path: str) -> None:
    params = {"AAPL": JANUARY, "USDT": {**JANUARY, "interval": "1m"}}.get(path[-4:], {})  # some KB, and two MB
    async with open_client(FakeServices()) as client:
        plain = await client.get(path, params=params)
        async with client.stream("GET", path, params=params, headers={"Accept-Encoding": "gzip"}) as reply:
            assert reply.headers["content-encoding"] == "gzip"
            gzipped = b"".join([part async for part in reply.aiter_raw()])
        async with client.stream("GET", path, params=params, headers={"Accept-Encoding": "gzip, zstd"}) as reply:
            assert reply.headers["content-encoding"] == "zstd"
            assert "accept-encoding" in reply.headers["vary"]
            zstd = b"".join([part async for part in reply.aiter_raw()])
    assert (
        zlib.decompress(gzipped, 31) == zstandard.ZstdDecompressor().decompressobj().decompress(zstd) == plain.content
    )


async def test_small_and_binary_bodies_are_sent_as_they_are() -> None:
    async with open_client(FakeServices()) as client:
        client.headers["Accept-Encoding"] = "gzip, zstd"
        small = await client.get("/health")
        arrow = await client.get("/api/v1/data/AAPL", params={**JANUARY, "format": "arrow"})
    assert "content-encoding" not in small.headers
    assert "content-encoding" not in arrow.headers


@pytest.mark.parametrize("form", ["json", "rows", "ndjson", "csv", "arrow", "arrow-stream", "msgpack", "parquet"])
@pytest.mark.parametrize("encoding", ["identity", "gzip", "zstd"])
async def test_a_long_answer_arrives_whole(form: str, encoding: str) -> None:
    """120,000 bars: sent in pieces where that saves memory."""
    services = FakeServices()
    asked = {"interval": "1m", "start": "2020-01-01", "end": str(START_MS + 120_000 * 60_000)}
    async with open_client(services) as client:
        client.headers["Accept-Encoding"] = encoding
        reply = await client.get("/api/v1/data/AAPL", params={**asked, "format": form})
        small = await client.get("/api/v1/data/AAPL", params={**asked, "format": "csv", "times": "ms", "limit": 2})
    assert reply.status_code == 200
    assert len(small.text.splitlines()) == 3
    body = reply.content
    rows = {
        "json": lambda: len(json.loads(body)["bars"]["volume"]),
        "rows": lambda: len(json.loads(body)["bars"]),
        "ndjson": lambda: len(body.splitlines()),
        "csv": lambda: len(body.splitlines()) - 1,
        "msgpack": lambda: len(msgpack.unpackb(body)["bars"]["volume"]) // 8,
    }.get(form, lambda: 120_000)
    assert rows() == 120_000


# --- what is not bars ---


async def test_providers_are_listed_with_their_states_and_the_broken_ones() -> None:
    async with open_client(FakeServices()) as client:
        content = (await client.get("/api/v1/providers")).json()
    assert [each["slug"] for each in content["providers"]] == ["demo", "listed"]
    assert content["providers"][0]["options"]["timeout"]["default"] == 30
    assert content["broken"][0]["faults"] == ["manifests/bad/config.yaml:3: not valid YAML"]


@pytest.mark.parametrize(("verb", "state"), [("enable", "ready"), ("disable", "disabled"), ("restart", "starting")])
async def test_a_provider_is_switched(verb: str, state: str) -> None:
    async with open_client(FakeServices()) as client:
        reply = await client.post(f"/api/v1/providers/listed/{verb}")
        shown = await client.get("/api/providers/listed")
        unknown = await client.post(f"/api/v1/providers/nobody/{verb}")
    assert reply.json()["state"] == shown.json()["state"] == state
    assert unknown.status_code == 404
    assert unknown.json()["suggestions"][:2] == ["demo", "listed"]


async def test_a_provider_that_may_not_run_is_a_conflict() -> None:
    services = FakeServices()
    services.roster.error = ConfigError(["listed: the secret KEY is missing"])
    async with open_client(services) as client:
        reply = await client.post("/api/v1/providers/listed/enable")
    assert (reply.status_code, reply.json()["code"]) == (409, "config")


async def test_symbols_are_searched_and_paged() -> None:
    async with open_client(FakeServices()) as client:
        first = (await client.get("/api/v1/symbols", params={"limit": 2})).json()
        rest = (await client.get("/api/v1/symbols", params={"limit": 2, "after": first["next"]})).json()
        found = (await client.get("/api/v1/symbols", params={"q": "bit"})).json()
        stocks = (await client.get("/api/v1/symbols", params={"asset_class": "stock"})).json()
    assert [each["symbol"] for each in first["symbols"] + rest["symbols"]] == ["AAPL", "BTC-USDT", "DEMO-STOCK"]
    assert rest["next"] is None
    assert [each["symbol"] for each in found["symbols"]] == [BTC.symbol]
    assert [each["symbol"] for each in stocks["symbols"]] == ["AAPL", "DEMO-STOCK"]


async def test_a_symbol_shows_its_series_and_who_claims_it() -> None:
    async with open_client(FakeServices()) as client:
        stored = (await client.get("/api/v1/symbols/AAPL")).json()
        claimed = (await client.get("/api/v1/symbols/DEMO-STOCK/providers")).json()
        unknown = await client.get("/api/v1/symbols/DEMO-STOK")
    assert stored["series"] == [{"provider": "demo", "interval": "1d"}]
    assert [each["slug"] for each in claimed["providers"]] == ["demo", "listed"]
    assert (unknown.status_code, unknown.json()["suggestions"][0]) == (404, "DEMO-STOCK")


async def test_coverage_shows_every_range_by_outcome() -> None:
    async with open_client(FakeServices()) as client:
        content = (await client.get("/api/v1/coverage/AAPL", params={"times": "iso"})).json()
        other = (await client.get("/api/v1/coverage/AAPL", params={"interval": "1m"})).json()
    (series,) = content["series"]
    assert series["coverage"]["complete"] == [["1970-01-01T00:00:00Z", "1970-01-02T00:00:00Z"]]
    assert list(series["coverage"]) == ["complete", "empty", "refused", "partial", "failed"]
    assert other["series"] == []


async def test_explain_asks_about_the_same_question() -> None:
    services = FakeServices()
    async with open_client(services) as client:
        await client.get("/api/v1/explain/AAPL", params=JANUARY)
        await client.get("/api/v1/data/AAPL", params=JANUARY)
    explained, asked = services.asked
    assert (explained.symbol, explained.range, explained.interval) == (asked.symbol, asked.range, asked.interval)


async def test_a_backfill_reports_what_it_took() -> None:
    services = FakeServices()
    async with open_client(services) as client:
        reply = await client.post(
            "/api/v1/backfill", json={"symbol": "AAPL", "interval": "1m", "start": "2020-01-01", "end": "2020-01-02"}
        )
    assert reply.json() == {
        "symbol": "AAPL", "interval": "1m", "provider": "demo", "fetched": 8,
        "coverage": {"complete": True, "missing": []},
        "attempts": [{"provider": "demo", "outcome": "ok", "reason": "", "ms": 3}], "warnings": [],
    }  # fmt: skip
    assert services.asked[0].range == TimeRange(START_MS * 1000, START_MS * 1000 + DAY_US)


async def test_health_is_200_only_when_everything_essential_is_up() -> None:
    services = FakeServices()
    services.roster.faults = []
    async with open_client(services) as client:
        well = await client.get("/health")
        services.store.is_up = False
        no_store = await client.get("/api/v1/health")
        services.store.is_up = True
        services.states["writer"] = "failed: disk"
        no_writer = await client.get("/api/health")
    assert (well.status_code, well.json()["status"]) == (200, "ok")
    assert well.json()["actors"] == {"writer": "running", "supervisor": "running"}
    assert [each["slug"] for each in well.json()["providers"]] == ["demo", "listed"]
    assert (no_store.status_code, no_store.json()["database"]["reason"]) == (503, "connection refused")
    assert (no_writer.status_code, no_writer.json()["status"]) == (503, "down")


async def test_metrics_count_requests_and_show_the_parts() -> None:
    async with open_client(FakeServices()) as client:
        await client.get("/api/v1/data/AAPL", params=JANUARY)
        await client.get("/api/v1/data/NOBODY")
        for verb in ("BREW", "BOIL"):
            await client.request(verb, "/api/v1/data/AAPL")
        reply = await client.get("/metrics")
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(reply.text)
        for sample in family.samples
    }
    assert samples["timebase_requests_total", "/data/{symbol}", "200", "GET"] == 1
    assert samples["timebase_requests_total", "/data/{symbol}", "404", "GET"] == 1
    assert samples["timebase_request_seconds_count", "/data/{symbol}"] == 2
    assert samples["timebase_requests_total", "405", "none", "other"] == 2
    assert samples["timebase_provider_up", "demo"] == 1
    assert samples["timebase_store_up",] == 1
    assert samples["timebase_process_resident_memory_bytes",] > 10_000_000


async def test_the_docs_page_needs_nobody_else() -> None:
    async with open_client(FakeServices()) as client:
        page = await client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "//" not in page.text.replace("// Everything", "")


# --- what goes wrong ---


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (AllProvidersFailed("AAPL", [Attempt("demo", "timeout", "20 s", 20_000)]), 502),
        (StoreUnavailable("the database is away"), 503),
        (NotSupported("no provider has options"), 422),
        (ExceptionGroup("", [StoreUnavailable("the database is away")]), 503),
    ],
)
async def test_errors_are_problems(error: Exception, status: int) -> None:
    async with open_client(FakeServices(error=error)) as client:
        for path in ("/api/v1/data/AAPL", "/api/v1/explain/AAPL"):
            reply = await client.get(path)
            assert (reply.status_code, reply.headers["content-type"]) == (status, "application/problem+json")
            assert reply.json()["request_id"] == reply.headers["x-request-id"]


@pytest.mark.parametrize("expected_errors", [["request"]])
async def test_a_bug_is_a_500_that_tells_nothing_and_the_server_goes_on(expected_errors: list[str]) -> None:
    services = FakeServices(error=KeyError("password=hunter2"))
    async with open_client(services) as client:
        for path in ("/api/v1/data/AAPL", "/api/v1/explain/AAPL"):
            reply = await client.get(path)
            assert reply.status_code == 500
            assert "hunter2" not in reply.text
        services.error = None
        assert (await client.get("/api/v1/data/AAPL")).status_code == 200


@pytest.mark.parametrize("path", ["/api/v1/data/AAPL", "/api/v1/explain/AAPL"])
async def test_a_question_past_its_deadline_is_told_what_was_tried(path: str) -> None:
    async with open_client(FakeServices(hang=trio.Event()), ask_s=0.05) as client:
        reply = await client.get(path)
    content = reply.json()
    assert (reply.status_code, content["code"]) == (504, "deadline_exceeded")
    if "data" in path:
        assert content["attempts"] == [{"provider": "demo", "outcome": "ok", "reason": "", "ms": 3}]


async def test_a_slow_ping_is_a_database_that_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    services = FakeServices()
    monkeypatch.setattr(services.store, "ping", trio.sleep_forever)
    monkeypatch.setattr("timebase.api.health.PING_S", 0.05)
    async with open_client(services) as client:
        reply = await client.get("/health")
    assert reply.status_code == 503
    assert "no answer" in reply.json()["database"]["reason"]


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("/api/v1/dta/AAPL", "/api/v1/data/{symbol}"),
        ("/api/v1/provider", "/api/v1/providers"),
        ("/healthz", "/health"),
        ("/api/v1/data/", "/api/v1/data/{symbol}"),
        ("/api/v1/providers/", "/api/v1/providers"),
        ("/api/v1//data/AAPL", "/api/v1/data/{symbol}"),
    ],
)
async def test_an_unknown_path_suggests_near_ones(path: str, near: str) -> None:
    async with open_client(FakeServices()) as client:
        reply = await client.get(path)
    assert (reply.status_code, reply.json()["code"]) == (404, "unknown_path")
    assert near in reply.json()["suggestions"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/v1/data/AAPL"),
        ("PUT", "/health"),
        ("GET", "/api/v1/backfill"),
        ("OPTIONS", "/api/v1/providers"),
        ("PUT", "/api/v1/providers/demo"),
    ],
)
async def test_a_wrong_method_names_the_right_ones(method: str, path: str) -> None:
    allowed = {"/api/v1/backfill": "POST", "/api/v1/providers": "GET, HEAD, POST"}
    async with open_client(FakeServices()) as client:
        reply = await client.request(method, path)
    assert reply.status_code == 405
    usual = "DELETE, GET, HEAD" if path.endswith("demo") else "GET, HEAD"
    assert reply.headers["allow"] == allowed.get(path, usual)


@pytest.mark.parametrize(
    ("body", "kind", "status", "code"),
    [
        (b"{", "application/json", 400, "bad_body"),
        (b"x" * 70_000, "application/json", 413, "body_too_large"),
        (b"symbol=AAPL", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
        (b'{"symbol":"AAPL","start":"soon"}', "application/json; charset=utf-8", 422, "bad_parameter"),
    ],
)
async def test_a_bad_body_is_refused(body: bytes, kind: str, status: int, code: str) -> None:
    async with open_client(FakeServices()) as client:
        reply = await client.post("/api/v1/backfill", content=body, headers={"Content-Type": kind})
    assert (reply.status_code, reply.json()["code"]) == (status, code)


# --- who may ask ---


@pytest.mark.parametrize("header", [None, "Bearer wrong", "Basic c2VjcmV0", "Bearer", "Bearer sécret", "secret"])
@pytest.mark.parametrize("path", ["/api/v1/data/AAPL", "/api/v1/providers", "/metrics", "/docs", "/nowhere"])
async def test_without_the_token_nothing_is_told(header: str | None, path: str) -> None:
    headers = {"Authorization": header.encode()} if header else {}
    async with open_client(FakeServices(), token="secret") as client:
        reply = await client.get(path, headers=headers)
    assert (reply.status_code, reply.json()["code"]) == (401, "unauthorized")
    assert reply.headers["www-authenticate"].startswith("Bearer")


async def test_health_and_metrics_tell_of_the_spool() -> None:
    services = FakeServices()
    services.roster.faults = []
    why = "the spool cannot be written: [Errno 28] No space left on device: '/data/spool/1.tmp'"
    services.spool = FakeSpool(1_000, 990, why, lost=7, waiting=3)
    async with open_client(services) as client:
        (full, metrics) = (await client.get("/health")).json(), (await client.get("/metrics")).text
        services.spool = FakeSpool(1_000, 990, stuck=1)
        stuck = (await client.get("/health")).json()
        services.spool = FakeSpool(1_000)
        well = (await client.get("/health")).json()
    assert (full["status"], stuck["status"], well["status"]) == ("degraded", "degraded", "ok")
    assert full["spool"] == {
        "waiting": 3, "bytes": 990, "limit_bytes": 1_000, "is_refusing": True, "reason": why, "lost": 7, "stuck": 0,
    }  # fmt: skip
    told = {line for line in metrics.splitlines() if line.startswith("timebase_spool")}
    assert told == {
        "timebase_spool_waiting 3.0", "timebase_spool_bytes 990.0", "timebase_spool_limit_bytes 1000.0",
        "timebase_spool_refusing 1.0", "timebase_spool_stuck 0.0", "timebase_spool_lost_total 7.0",
    }  # fmt: skip


async def test_with_the_token_everything_is_told() -> None:
    async with open_client(FakeServices(), token="secret") as client:
        stranger = await client.get("/health")
        client.headers["Authorization"] = "bearer secret"
        friend = await client.get("/health")
        assert (await client.get("/api/v1/data/AAPL")).status_code == 200
    assert (stranger.status_code, friend.status_code) == (200, 200)
    assert "kind" not in stranger.json()["database"]
    assert "reason" not in stranger.json()["spool"]
    assert stranger.json()["broken"] == ["bad"]
    assert friend.json()["database"]["kind"] == "fake"


@pytest.mark.parametrize("path", ["/api/v1/data/AAPL", "/api/v1/providers", "/health", "/nowhere"])
async def test_a_name_that_a_page_gave_itself_is_not_ours(path: str) -> None:
    async with open_client(FakeServices()) as client:
        reply = await client.get(path, headers={"Host": "evil.example:8080"})
    assert (reply.status_code, reply.json()["code"]) == (421, "wrong_host")
    assert "evil.example" in reply.json()["detail"]


@pytest.mark.parametrize(
    "host", ["localhost:8080", "LOCALHOST.", "me.localhost", "127.0.0.1", "127.8.8.8:1", "[::1]:80"]
)
async def test_every_name_of_loopback_is(host: str) -> None:
    async with open_client(FakeServices()) as client:
        assert (await client.get("/health", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize("host", ["localhost.evil.example", "127.0.0.1.evil.example", "1", "[::1", "evil@localhost.x"])
async def test_what_only_looks_like_loopback_is_not(host: str) -> None:
    async with open_client(FakeServices()) as client:
        assert (await client.get("/health", headers={"Host": host})).status_code == 421


async def test_with_a_token_the_server_is_asked_by_any_name() -> None:
    async with open_client(FakeServices(), token="secret") as client:
        headers = {"Host": "data.example", "Authorization": "Bearer secret"}
        assert (await client.get("/api/v1/providers", headers=headers)).status_code == 200


# --- install, update, remove ---

ZIP = {"Content-Type": "application/zip"}


async def test_an_archive_is_handed_to_the_installer() -> None:
    services = FakeServices()
    async with open_client(services) as client:
        installed = await client.post("/api/v1/providers", content=b"new", headers=ZIP)
        updated = await client.post("/api/v1/providers/demo/update", content=b"newer", headers=ZIP)
        removed = await client.delete("/api/v1/providers/demo")
    assert (installed.status_code, installed.headers["location"]) == (201, "/api/v1/providers/installed")
    assert installed.json()["slug"] == "installed"
    assert (updated.status_code, updated.json()["slug"]) == (200, "demo")
    assert (removed.status_code, removed.json()["slug"]) == (200, "demo")
    assert services.installer.took == [b"new", b"newer"]


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "multipart/form-data; boundary=x", None])
async def test_what_a_page_could_send_without_asking_is_no_archive(kind: str | None) -> None:
    services = FakeServices()
    async with open_client(services) as client:
        reply = await client.post("/api/v1/providers", content=b"PK", headers={"Content-Type": kind} if kind else {})
    assert (reply.status_code, reply.json()["code"]) == (415, "unsupported_media_type")
    assert services.installer.took == []


async def test_an_archive_has_more_room_than_other_bodies_and_not_without_end() -> None:
    async with open_client(FakeServices(), max_package_bytes=200_000) as client:
        big = await client.post("/api/v1/providers", content=b"x" * 150_000, headers=ZIP)
        bigger = await client.post("/api/v1/providers", content=b"x" * 250_000, headers=ZIP)
    assert (big.status_code, bigger.status_code) == (201, 413)
    assert "200,000" in bigger.json()["detail"]


async def test_who_has_not_got_the_token_has_no_room_for_an_archive() -> None:
    services = FakeServices()
    async with open_client(services, token="secret") as client:
        refused = await client.post("/api/v1/providers", content=b"x" * 150_000, headers=ZIP)
        friend = {**ZIP, "Authorization": "Bearer secret"}
        allowed = await client.post("/api/v1/providers", content=b"x" * 150_000, headers=friend)
    assert (refused.status_code, allowed.status_code) == (401, 201)
    assert len(services.installer.took) == 1


async def test_the_faults_of_an_archive_are_listed() -> None:
    services = FakeServices()
    services.installer.error = BadPackage(["config.yaml:3: no", "config.yaml:7: nor this"])
    async with open_client(services) as client:
        reply = await client.post("/api/v1/providers", content=b"PK", headers=ZIP)
    assert (reply.status_code, reply.json()["code"]) == (422, "bad_package")
    assert reply.json()["faults"] == ["config.yaml:3: no", "config.yaml:7: nor this"]


async def test_a_page_of_another_site_installs_and_removes_nothing() -> None:
    services = FakeServices()
    async with open_client(services) as client:
        client.headers["Origin"] = "https://evil.example"
        posted = await client.post("/api/v1/providers", content=b"PK", headers=ZIP)
        deleted = await client.delete("/api/v1/providers/demo")
    assert (posted.status_code, deleted.status_code) == (403, 403)
    assert services.installer.took == []
    assert [each.slug for each in services.roster.states] == ["demo", "listed"]


async def test_a_page_of_another_site_changes_nothing() -> None:
    async with open_client(FakeServices()) as client:
        own = str(client.base_url).rstrip("/")
        strange = await client.post("/api/v1/providers/demo/disable", headers={"Origin": "https://evil.example"})
        ours = await client.post("/api/v1/providers/demo/disable", headers={"Origin": own})
    assert (strange.status_code, strange.json()["code"]) == (403, "cross_origin")
    assert ours.status_code == 200


@pytest.mark.parametrize(
    ("given", "is_kept"), [("my-request.1", True), ("x" * 65, False), ("a b", False), ("", False), ("ä", False)]
)
async def test_a_request_is_called_by_its_decent_name(given: str, is_kept: bool) -> None:
    async with open_client(FakeServices()) as client:
        reply = await client.get("/api/v1/data/NOBODY", headers={"X-Request-Id": given.encode()})
    assert (reply.json()["request_id"] == given) == is_kept
    assert reply.headers["x-request-id"] == reply.json()["request_id"]


async def test_the_server_says_who_it_is() -> None:
    async with open_client(FakeServices()) as client:
        assert "timebase" in (await client.get("/health")).headers["server"]


async def test_requests_share_a_connection() -> None:
    async with open_client(FakeServices()) as client:
        replies = [await client.get("/api/v1/data/AAPL", params=JANUARY) for _ in range(3)]
        streams = {id(reply.extensions["network_stream"]) for reply in replies}
    assert len(streams) == 1
    assert isinstance(replies[0], httpx.Response)


async def test_the_address_alone_leads_to_the_description() -> None:
    async with open_client(FakeServices()) as client:
        reply = await client.get("/")
        assert (reply.status_code, reply.headers["location"]) == (307, "docs")
        assert (await client.get("/docs")).status_code == 200
