"""What a provider gives back, in every shape that is allowed, and what its exceptions are called."""

from collections.abc import AsyncIterator, Iterator

import pytest
import trio

from timebase.errors import Malformed, ProviderError, RateLimited, Unsupported, Upstream, UpstreamTimeout
from timebase.sdk import Bars, CorporateAction, HistoryRequest, Provider
from timebase.sdk.answering import ACTION_ROWS, Outflow, answer_history, typed
from timebase.wire.envelope import unpack_message

REQUEST = HistoryRequest.of("X", "1d", "2024-01-01", "2024-02-01")
SPLIT = CorporateAction(0, "split", 2.0)


def bars(n: int, first: int = 0) -> Bars:
    return Bars(range(first, first + n), *([1.0] * n for _ in range(5)))


class One(Provider):
    def history(self, request: HistoryRequest) -> Bars:
        return bars(2)


class Nothing(Provider):
    def history(self, request: HistoryRequest) -> None:
        return None


class Listed(Provider):
    def history(self, request: HistoryRequest) -> list[Bars]:
        return [bars(1), bars(1, 1)]


class Generated(Provider):
    def history(self, request: HistoryRequest) -> Iterator[Bars]:
        yield bars(1)
        yield bars(1, 1)


class AsyncOne(Provider):
    async def history(self, request: HistoryRequest) -> Bars:
        return bars(2)


class AsyncListed(Provider):
    async def history(self, request: HistoryRequest) -> list[Bars]:
        return [bars(1), bars(1, 1)]


class AsyncGenerated(Provider):
    async def history(self, request: HistoryRequest) -> AsyncIterator[Bars]:
        yield bars(1)
        yield bars(1, 1)


class Delegated(Provider):
    """A `def` that gives back an async generator."""

    def history(self, request: HistoryRequest) -> AsyncIterator[Bars]:
        return AsyncGenerated().history(request)


class DelegatedOne(Provider):
    """A `def` that gives back something to await."""

    def history(self, request: HistoryRequest):
        return AsyncOne().history(request)


async def sent_by(provider: Provider, credit: int = 100, batch_rows: int = 10) -> list[tuple[str, object]]:
    sent: list[tuple[str, object]] = []

    async def send(data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        message = unpack_message(data)
        sent.append((message.type, message.fields.get("n", len(message.rows()))))

    out = Outflow(1, send, credit, batch_rows)
    with trio.fail_after(10):
        await answer_history(provider, REQUEST, out)
        await out.flush()
    return sent


@pytest.mark.parametrize(
    ("provider", "sent"),
    [
        (One, [("bars", 2)]),
        (Nothing, []),
        (Listed, [("bars", 1), ("bars", 1)]),
        (Generated, [("bars", 1), ("bars", 1)]),
        (AsyncOne, [("bars", 2)]),
        (AsyncListed, [("bars", 1), ("bars", 1)]),
        (AsyncGenerated, [("bars", 1), ("bars", 1)]),
        (Delegated, [("bars", 1), ("bars", 1)]),
        (DelegatedOne, [("bars", 2)]),
    ],
)
async def test_history_may_give_bars_in_any_shape(provider: type[Provider], sent: list[tuple[str, object]]) -> None:
    assert await sent_by(provider()) == sent


async def test_long_bars_are_split() -> None:
    class Long(Provider):
        def history(self, request: HistoryRequest) -> Bars:
            return bars(25)

    assert await sent_by(Long()) == [("bars", 10), ("bars", 10), ("bars", 5)]


async def test_corporate_actions_gather_until_bars_or_the_end_come() -> None:
    class Mixed(Provider):
        def history(self, request: HistoryRequest) -> Iterator[Bars | CorporateAction | list[CorporateAction]]:
            yield SPLIT
            yield [SPLIT, SPLIT]
            yield bars(1)
            yield [SPLIT] * (ACTION_ROWS + 1)

    assert await sent_by(Mixed()) == [("actions", 3), ("bars", 1), ("actions", ACTION_ROWS), ("actions", 1)]


@pytest.mark.parametrize("given", [7, [7], [[7]], ["bars"]])
async def test_what_is_neither_bars_nor_actions_is_a_bug(given: object) -> None:
    class Odd(Provider):
        async def history(self, request: HistoryRequest):
            return given

    with pytest.raises(TypeError, match="history gives"):
        await sent_by(Odd())


async def test_nothing_is_sent_without_credit() -> None:
    sent = []

    async def send(data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        sent.append(data)

    out = Outflow(1, send, 1, 10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(out.put, bars(30))
        await trio.testing.wait_all_tasks_blocked()
        assert len(sent) == 1
        out.grant(1)
        await trio.testing.wait_all_tasks_blocked()
        assert len(sent) == 2
        out.grant(1)


LIMIT = RateLimited("slow down", retry_after_s=3.0)


@pytest.mark.parametrize(
    ("raised", "error", "message"),
    [
        (LIMIT, RateLimited, "slow down"),
        (ExceptionGroup("tasks", [LIMIT]), RateLimited, "slow down"),
        (ExceptionGroup("tasks", [ExceptionGroup("more", [Malformed("odd")])]), Malformed, "odd"),
        (ExceptionGroup("tasks", [LIMIT, KeyError("x")]), Upstream, "ExceptionGroup: tasks"),
        (TimeoutError("30 s"), UpstreamTimeout, "30 s"),
        (TimeoutError(), UpstreamTimeout, "timed out"),
        (ConnectionRefusedError("no"), Upstream, "ConnectionRefusedError: no"),
        (NotImplementedError(), Unsupported, "does not answer"),
        (KeyError("Close"), Upstream, "KeyError: 'Close'"),
    ],
)
def test_exceptions_have_a_name_on_the_wire(raised: Exception, error: type[ProviderError], message: str) -> None:
    told = typed(raised)
    assert type(told) is error
    assert message in str(told)
