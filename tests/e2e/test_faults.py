"""Acceptance 7: whoever cannot be answered is told why, and what to do."""

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from e2e.asked import ask, backfill, get, problem_of, span
from e2e.conftest import Hall, ServerMaker
from e2e.running import Server, asking, states, until
from e2e.stubs import Stub

from timebase.model.timerange import MINUTE_US

DAY = span("2024-01-01", "2024-01-02")


@pytest.fixture(scope="module")
def bad_house(new_home: Callable[[], Path], serving: ServerMaker) -> Iterator[Server]:
    """A server of which every provider fails, each in its own way."""
    home = new_home()
    manifests, folder = home / "manifests", home / "stubs"
    manifests.mkdir()
    ways = {
        "stub-limit": {"code": "rate_limited", "message": "enough for today", "retry_after": 120},
        "stub-key": {"code": "auth", "message": "the key has expired"},
        "stub-down": {"code": "upstream", "message": "503 from the vendor"},
        "stub-odd": {"code": "malformed", "message": "half a JSON"},
    }
    for at, (slug, turn) in enumerate(ways.items()):
        Stub(slug, manifests, folder, priority=90 - at).script("*", turn)
    with serving(home, max_retries=1) as server:
        yield server


async def test_when_all_providers_fail_every_attempt_is_told_with_its_reason(bad_house: Server) -> None:
    async with asking(bad_house) as client:
        reply = await get(client, "NONE-USD", DAY)
        problem = problem_of(reply, 502)
        assert problem["code"] == "all_providers_failed"
        assert [(each["provider"], each["outcome"], each["reason"]) for each in problem["attempts"]] == [
            ("stub-limit", "rate_limited", "enough for today"),
            ("stub-key", "auth", "the key has expired"),
            ("stub-down", "upstream", "503 from the vendor"),
            ("stub-down", "upstream", "503 from the vendor"),
            ("stub-odd", "malformed", "half a JSON"),
        ]
        suggestions = "\n".join(problem["suggestions"])
        assert "stub-key: check its secret" in suggestions
        assert "stub-limit: its rate limit is used up" in suggestions
        assert int(reply.headers["retry-after"]) in range(100, 121)

        # A refused key switches its provider off, and an operator who mends it switches it on again.
        state = await until(lambda: _in_state(client, "stub-key", "failed_auth"))
        assert "the key has expired" in state["reason"]
        again = problem_of(await get(client, "NONE-USD", DAY), 502)
        assert "stub-key" not in {each["provider"] for each in again["attempts"]}
        assert (await client.post("/api/v1/providers/stub-key/enable")).status_code == 200
        await until(lambda: _in_state(client, "stub-key", "ready"))


async def test_an_unknown_symbol_is_told_with_symbols_that_are_near(hall: Hall, client: httpx.AsyncClient) -> None:
    await ask(client, "NEARBY-USD", DAY)
    hall.a.script("NEARBI-USD", {"code": "unknown_symbol"})
    problem = problem_of(await get(client, "NEARBI-USD", DAY), 404)
    assert problem["code"] == "unknown_symbol"
    assert "NEARBY-USD" in problem["suggestions"]
    assert {each["provider"] for each in problem["attempts"]} == {"stub-a", "stub-b"}
    assert problem_of(await backfill(client, "NEARBI-USD", DAY), 404)["code"] == "unknown_symbol"


async def test_a_symbol_that_is_on_nobodys_list_is_unknown_with_those_that_are_near(
    home: Path, serving: ServerMaker
) -> None:
    listed = [{"symbol": "LISTED-ONE", "asset_class": "stock"}, {"symbol": "LISTED-TWO", "asset_class": "stock"}]
    Stub("stub", home / "manifests", home / "stubs", symbols=listed)
    with serving(home) as server:
        async with asking(server) as client:
            problem = problem_of(await get(client, "LISTED-OEN", DAY), 404)
            assert problem["code"] == "unknown_symbol"
            assert problem["suggestions"][0] == "LISTED-ONE"


@pytest.mark.parametrize(
    ("parameter", "value", "is_listed"),
    [
        ("interval", "7m", "1m"),
        ("start", "yesterday", None),
        ("end", "2019-01-01", None),
        ("format", "xlsx", "parquet"),
        ("times", "fortnights", "iso"),
        ("adjust", "somewhat", "splits"),
        ("limit", "-5", None),
        ("limit", "many", None),
        ("refresh", "perhaps", "true"),
        ("as_of", "once", None),
        ("cursor", "bogus", None),
        ("intervall", "1d", "interval"),
    ],
)
async def test_a_bad_parameter_is_named_with_what_is_allowed(
    client: httpx.AsyncClient, parameter: str, value: str, is_listed: str | None
) -> None:
    query = {"interval": "1d", "start": "2024-01-01", "end": "2024-02-01"} | {parameter: value}
    problem = problem_of(await client.get("/api/v1/data/ANY-USD", params=query), 422)
    assert problem["code"] == "bad_parameter"
    assert problem["parameter"] in {parameter, "start"}  # an end before the start is both
    assert problem["parameter"] in problem["detail"]
    if is_listed is not None:
        assert is_listed in problem["allowed"]


async def test_an_unknown_provider_is_told_with_those_there_are(client: httpx.AsyncClient) -> None:
    problem = problem_of(await get(client, "ANY-USD", DAY, provider="stub-z"), 404)
    assert problem["code"] == "unknown_provider"
    assert {"stub-a", "stub-b"} <= set(problem["suggestions"])


async def test_an_unknown_path_is_told_with_one_that_is_near(client: httpx.AsyncClient) -> None:
    assert problem_of(await client.get("/api/v1/provider"), 404)["code"] == "unknown_path"


async def test_a_silent_provider_is_given_up_for_the_next(impatient: Server, mute: Stub) -> None:
    mute.script("QUIET-USD", {"gate": "never"})
    async with asking(impatient) as client:
        answer = await ask(client, "QUIET-USD", DAY)
        assert [(a["provider"], a["outcome"]) for a in answer["meta"]["attempts"]] == [
            ("mute", "timeout"), ("talker", "ok"),
        ]  # fmt: skip
        mute.script("MUTE-USD", {"gate": "never"})
        problem = problem_of(await get(client, "MUTE-USD", DAY, provider="mute"), 502)
        assert [each["outcome"] for each in problem["attempts"]] == ["timeout"]


async def test_a_provider_that_is_slow_but_not_silent_is_heard_out(impatient: Server, mute: Stub) -> None:
    mute.script("SLOW-USD", {"page": 8, "pause_s": 0.6})
    async with asking(impatient) as client:
        slow = await ask(client, "SLOW-USD", DAY, provider="mute")
        assert len(slow["bars"]["time"]) == 24


async def test_an_answer_that_takes_too_long_is_a_504_and_what_comes_later_is_kept(
    impatient: Server, mute: Stub
) -> None:
    mute.script("LONG-USD", {"page": 3, "pause_s": 0.6})
    async with asking(impatient) as client:
        problem = problem_of(await get(client, "LONG-USD", DAY, provider="mute"), 504)
        assert problem["code"] == "deadline_exceeded"
        assert problem["suggestions"]
        answer = await ask(client, "LONG-USD", DAY, provider="mute")
        assert (answer["meta"]["coverage"]["complete"], len(mute.seen("LONG-USD"))) == (True, 1)


async def test_the_present_is_asked_for_again_when_it_is_old(impatient: Server, mute: Stub) -> None:
    """Its first answer is kept for `refresh_s`; what was final then is not asked for again."""
    async with asking(impatient) as client:
        for _ in range(2):
            assert (await ask(client, "TODAY-USD", None, "1m", start="-1h"))["meta"]["freshness"]["fresh_until"]
        assert len(mute.seen("TODAY-USD")) == 1

        async def is_asked_again() -> bool:
            await ask(client, "TODAY-USD", None, "1m", start="-1h")
            return len(mute.seen("TODAY-USD")) > 1

        await until(is_asked_again, 5)
        first, second = mute.ranges("TODAY-USD")[:2]
        assert first.end_us - 2 * MINUTE_US < second.start_us <= first.end_us


@pytest.fixture(scope="module")
def impatient_home(new_home: Callable[[], Path]) -> Path:
    home = new_home()
    (home / "manifests").mkdir()
    return home


@pytest.fixture(scope="module")
def mute(impatient_home: Path) -> Stub:
    """Asked before the one that always answers."""
    return Stub("mute", impatient_home / "manifests", impatient_home / "stubs", priority=90)


@pytest.fixture(scope="module")
def impatient(impatient_home: Path, mute: Stub, serving: ServerMaker) -> Iterator[Server]:
    """A server that gives a silent provider one second, a question three, and the present one."""
    Stub("talker", impatient_home / "manifests", impatient_home / "stubs", priority=10)
    with serving(impatient_home, patience_s=1, ask_s=3, refresh_s=1, max_retries=0) as server:
        yield server


async def _in_state(client: httpx.AsyncClient, slug: str, state: str) -> dict | None:
    known = (await states(client))[slug]
    return known if known["state"] == state else None
