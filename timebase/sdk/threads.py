"""Between the event loop and the worker threads that run a provider's plain `def` methods."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from math import inf
from typing import Any, ParamSpec, TypeVar

import anyio
import anyio.from_thread
import anyio.to_thread

T = TypeVar("T")
P = ParamSpec("P")
Soon = Callable[[Callable[[], object]], object]


class Withdrawn(Exception):
    """Raised in a worker thread whose question was cancelled, when it next turns to the event loop."""


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Cancelled, it waits for the thread: threads that hang are bounded in number, not left behind."""
    return await anyio.to_thread.run_sync(partial(function, *args, **kwargs))


def in_loop(function: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T:
    """From such a thread: run a coroutine function in the event loop, in the scope of its question.

    Raises: Withdrawn when that was cancelled before; a cancellation while it runs raises as anyio has it.
    """
    return anyio.from_thread.run(_unless_cancelled, partial(function, *args, **kwargs))


def call_soon() -> Soon:
    """How another thread hands the running loop something to do, without waiting for it: the loop may be blocked."""
    try:
        return asyncio.get_running_loop().call_soon_threadsafe
    except RuntimeError:
        import trio

        return trio.lowlevel.current_trio_token().run_sync_soon


def is_cancelled() -> bool:
    return anyio.current_effective_deadline() == -inf


async def _unless_cancelled(function: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """anyio's asyncio loop does not cancel what starts in a cancelled scope from a thread: it spins for ever (4.16)."""
    if is_cancelled():
        raise Withdrawn
    return await function()
