"""Acceptance 4: who asks for the same shares one fetch, and no provider is asked more often than it allows."""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import trio
from e2e.asked import PROBLEM, ask, bars_of, get, span
from e2e.conftest import Hall, ServerMaker
from e2e.running import Server, asking, taken_up, until
from e2e.stubs import Stub, true_bars

from timebase.model.interval import Interval

WEEK = span("2024-01-01", "2024-01-08")
PER_SECOND, PER_DAY = 5, 24


async def test_a_hundred_identical_questions_are_one_request(hall: Hall, client: httpx.AsyncClient) -> None:
    hall.a.script("SAME-USD", {"gate": "same"})
    answers = await _together(hall, client, 100, lambda: ask(client, "SAME-USD", WEEK), "same")
    assert len(hall.a.seen("SAME-USD")) == 1
    assert all(bars_of(answer).equals(true_bars(Interval.H1, WEEK)) for answer in answers)


async def test_a_hundred_identical_questions_about_the_present_are_one_request(
    hall: Hall, client: httpx.AsyncClient
) -> None:
    hall.a.script("LIVE-USD", {"gate": "live"})
    answers = await _together(hall, client, 100, lambda: ask(client, "LIVE-USD", None, "1h", start="-1d"), "live")
    assert len(hall.a.seen("LIVE-USD")) == 1
    assert all(answer["meta"]["coverage"]["complete"] for answer in answers)


async def test_a_hundred_identical_refreshes_are_one_request(hall: Hall, client: httpx.AsyncClient) -> None:
    hall.a.script("AGAIN-USD", {"gate": "again"})
    ask_again = lambda: ask(client, "AGAIN-USD", None, "1h", start="-1d", refresh="true")  # noqa: E731
    await _together(hall, client, 100, ask_again, "again")
    assert len(hall.a.seen("AGAIN-USD")) == 1


async def test_a_hundred_identical_questions_that_fail_make_no_storm(hall: Hall, client: httpx.AsyncClient) -> None:
    hall.a.script("STORM-USD", {"gate": "storm", "code": "malformed"})
    ask_all = lambda: get(client, "STORM-USD", None, "1h", start="-1d")  # noqa: E731
    replies = await _together(hall, client, 100, ask_all, "storm")
    assert Counter(reply.status_code for reply in replies) == {502: 100}
    assert len(hall.a.seen("STORM-USD")) == 1


async def test_different_questions_share_what_both_ask_for(hall: Hall, client: httpx.AsyncClient) -> None:
    hall.a.script("OVERLAP-USD", {"gate": "overlap"}, {})
    first, second = span("2024-01-01", "2024-01-05"), span("2024-01-03", "2024-01-08")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, client, "OVERLAP-USD", first)
        await until(lambda: hall.a.seen("OVERLAP-USD"))
        nursery.start_soon(ask, client, "OVERLAP-USD", second)
        await taken_up(hall.server, client, 2)
        hall.a.open_gate("overlap")
    assert hall.a.ranges("OVERLAP-USD") == [first, span("2024-01-05", "2024-01-08")]


async def test_no_window_of_a_limit_is_ever_exceeded_not_even_by_a_restart(home: Path, serving: ServerMaker) -> None:
    """5 a second and 24 a day, 200 questions at once, kill -9 of the server in the middle, 200 questions at once."""
    stub = Stub(
        "limited", home / "manifests", home / "stubs",
        rate_limits={
            "windows": [{"requests": PER_SECOND, "seconds": 1}, {"requests": PER_DAY, "seconds": 86_400}]
        },
    )  # fmt: skip
    with serving(home, max_budget_wait_s=12) as server:
        async with asking(server) as client, trio.open_nursery() as nursery:
            nursery.start_soon(_ask_until_cut_off, client)
            await until(lambda: len(stub.seen()) >= PER_DAY // 2)
            server.kill()
            nursery.cancel_scope.cancel()
        await trio.to_thread.run_sync(server.start)
        with trio.fail_after(90):
            while not _is_spent(replies := await _ask_all(server)):
                pass

    instants = [each.at for each in stub.seen()]
    # What was put down as spent when the server fell, and was not sent any more, stays spent.
    assert PER_DAY - PER_SECOND <= len(instants) <= PER_DAY
    assert _most_within(1.0, instants) <= PER_SECOND
    outcomes = Counter(reply.status_code for reply in replies)
    assert set(outcomes) == {200, 502}
    refusals = [reply for reply in replies if reply.status_code != 200]
    assert all(reply.headers["content-type"] == PROBLEM for reply in refusals)
    assert {reply.json()["attempts"][-1]["outcome"] for reply in refusals} == {"rate_limited"}
    assert all(int(reply.headers["retry-after"]) > 0 for reply in refusals)


async def _together(hall: Hall, client: httpx.AsyncClient, n: int, question: Callable[[], Any], gate: str) -> list[Any]:
    """The answers to n askings of one question that are all under way before the provider answers the first."""
    answers: list[Any] = []

    async def one() -> None:
        answers.append(await question())

    async with trio.open_nursery() as nursery:
        for _ in range(n):
            nursery.start_soon(one)
        await taken_up(hall.server, client, n)
        hall.a.open_gate(gate)
    return answers


async def _ask_until_cut_off(client: httpx.AsyncClient) -> None:
    async with trio.open_nursery() as nursery:
        for n in range(200):
            nursery.start_soon(_ask_one_cut_off, client, n)


async def _ask_one_cut_off(client: httpx.AsyncClient, n: int) -> None:
    with suppress(httpx.TransportError):  # the server was killed
        await get(client, f"MANY{n}-USD", WEEK)


async def _ask_all(server: Server) -> list[httpx.Response]:
    replies: list[httpx.Response] = []

    async def one(client: httpx.AsyncClient, n: int) -> None:
        replies.append(await get(client, f"MANY{n}-USD", WEEK))

    async with asking(server) as client, trio.open_nursery() as nursery:
        for n in range(200):
            nursery.start_soon(one, client, n)
    return replies


def _is_spent(replies: Sequence[httpx.Response]) -> bool:
    """Whether the day has nothing left: what is not here already was refused for want of budget."""
    return all(
        reply.json()["attempts"][-1]["outcome"] == "rate_limited"
        if reply.is_error
        else reply.json()["meta"]["source"] != "fetched"
        for reply in replies
    )


def _most_within(seconds: float, instants: Sequence[float]) -> int:
    """The most instants in any window of that length."""
    return max(sum(1 for at in instants if first <= at < first + seconds) for first in instants)
