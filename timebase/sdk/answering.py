"""One question in the plugin: the provider's answer, sync or async, goes out as messages, at the asker's pace."""

import traceback
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Generator, Iterable
from contextlib import aclosing, closing, nullcontext
from inspect import isawaitable
from typing import Any, Protocol

import anyio

from timebase.errors import ProviderError, Unsupported, Upstream, UpstreamTimeout
from timebase.model.instrument import CorporateAction
from timebase.sdk.bars import Bars
from timebase.sdk.provider import Answered, HistoryRequest, Part, Provider, is_async
from timebase.sdk.threads import in_loop, in_thread
from timebase.wire.envelope import Type, pack_message
from timebase.wire.instruments import action_row

Send = Callable[[bytes], Awaitable[None]]

ACTION_ROWS = 5_000  # of one `actions` message


class Sink(Protocol):
    """Where the parts of an answer go."""

    async def put(self, part: Part) -> None: ...


class Outflow:
    """The data messages of one question.

    Order: pages as the provider gave them, each ascending; corporate actions gather until bars or the end come.
    """

    def __init__(self, id_: int, send: Send, credit: int, batch_rows: int) -> None:
        self._id = id_
        self._send = send
        self._batch_rows = batch_rows
        self._actions: list[CorporateAction] = []
        self._credit = anyio.Semaphore(credit)

    def grant(self, n: int) -> None:
        for _ in range(n):
            self._credit.release()

    async def put(self, part: Part) -> None:
        if isinstance(part, Bars):
            await self.flush()
            await self._put_bars(part.ascending())
        elif isinstance(part, CorporateAction):
            self._actions.append(part)
        else:
            self._actions.extend(_actions(part))

    async def flush(self) -> None:
        """Send the corporate actions that wait."""
        rows = [action_row(action) for action in self._actions]
        self._actions.clear()
        for first in range(0, len(rows), ACTION_ROWS):
            await self._credit.acquire()
            await self._send(pack_message(Type.ACTIONS, self._id, rows=rows[first : first + ACTION_ROWS]))

    async def _put_bars(self, bars: Bars) -> None:
        for first in range(0, len(bars), self._batch_rows):
            end = min(first + self._batch_rows, len(bars))
            await self._credit.acquire()
            await self._send(pack_message(Type.BARS, self._id, n=end - first, **bars.column_bytes(first, end)))


async def answer_history(provider: Provider, request: HistoryRequest, out: Sink) -> None:
    """Put all parts of the answer. A plain `def history` runs in one worker thread from its first line to its last."""
    if is_async(provider.history):
        given: Any = provider.history(request)
        await _put_all(await given if isawaitable(given) else given, out)
    else:
        for leftover in await in_thread(_answer_in_thread, provider, request, out):
            await _put_all(await leftover if isawaitable(leftover) else leftover, out)


def _answer_in_thread(provider: Provider, request: HistoryRequest, out: Sink) -> tuple[Any, ...]:
    """Returns what only the event loop can handle: a `def` may give back something to await.

    In a tuple, because trio takes a bare coroutine from a thread for a mistake.
    """
    given = provider.history(request)
    if isawaitable(given) or isinstance(given, AsyncIterable):
        return (given,)
    # Closed here and now also when the question is withdrawn, not when the garbage collector comes by.
    with closing(given) if isinstance(given, Generator) else nullcontext():
        for part in _parts(given):
            in_loop(out.put, part)
    return ()


async def _put_all(given: Answered, out: Sink) -> None:
    if isinstance(given, AsyncGenerator):
        async with aclosing(given):  # also when the question is withdrawn between two pages
            async for part in given:
                await out.put(part)
    elif isinstance(given, AsyncIterable):
        async for part in given:
            await out.put(part)
    else:
        for part in _parts(given):
            await out.put(part)


def _actions(part: Any) -> Iterable[CorporateAction]:  # noqa: ANN401
    for action in part if isinstance(part, Iterable) else [part]:
        if not isinstance(action, CorporateAction):
            raise TypeError(f"history gives Bars and CorporateActions, not {type(action).__name__}")
        yield action


def _parts(given: Any) -> Iterable[Part]:  # noqa: ANN401
    if given is None:
        return ()
    if isinstance(given, Bars | CorporateAction):
        return (given,)
    if isinstance(given, Iterable):
        return given
    raise TypeError(f"history gives Bars, pages of Bars or nothing, not {type(given).__name__}")


async def call(method: Callable[..., Any], *args: Any) -> Any:  # noqa: ANN401
    """Call a provider's method, in a worker thread when it is plain `def`."""
    if is_async(method):
        return await method(*args)
    (given,) = await in_thread(lambda: (method(*args),))
    return await given if isawaitable(given) else given


def typed(problem: BaseException) -> ProviderError:
    """What a provider's exception is called on the wire."""
    if isinstance(problem, ProviderError):
        return problem
    if isinstance(problem, BaseExceptionGroup):
        inside, others = problem.split(ProviderError)
        if inside is not None and others is None:
            return typed(inside.exceptions[0])
    if isinstance(problem, NotImplementedError):
        return Unsupported(str(problem) or "this provider does not answer that kind of question")
    if isinstance(problem, TimeoutError):
        return UpstreamTimeout(str(problem) or "timed out")
    return Upstream(f"{type(problem).__name__}: {problem}")


def told(problem: Exception) -> ProviderError:
    """The typed error; the traceback of one that nobody expected goes to stderr, which is the core's log."""
    error = typed(problem)
    if error is not problem:
        traceback.print_exception(problem)
    return error
