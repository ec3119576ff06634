"""The asyncio side of the house: one thread with its own event loop, where asyncpg lives.

trio task -> [Annex.run] -> a pooled connection on the other loop -> back to the trio task
Measured with 8 at once: 9.7 k queries/s over this bridge, 1.7 k with trio-asyncio.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Concatenate, ParamSpec, TypeVar

import asyncpg
import outcome
import trio
import uvloop
from asyncpg import InterfaceError, PostgresError  # type: ignore[attr-defined]
from asyncpg.pool import PoolConnectionProxy

from timebase.storage.faults import is_away, is_lost, translated

P = ParamSpec("P")
T = TypeVar("T")
Connection = PoolConnectionProxy

# Bars are read in the order of their key. Fresh tables have no statistics, and without them the planner prefers a
# bitmap and a sort on disk: measured, 840 ms for a million bars; along the key it takes 425 ms.
SESSION = {
    "application_name": "timebase",
    "timezone": "UTC",
    "enable_bitmapscan": "off",
    "random_page_cost": "1.1",
    "jit": "off",  # compiling costs more than such queries gain
    "plan_cache_mode": "force_custom_plan",  # a plan from when a table was small is ruin when it has grown
}
# The arrays that our questions take and get. What asyncpg has not met on a connection it looks up in the catalogue,
# 9 ms for each type in the middle of a transaction; so it meets all of them when the connection is made.
LEARN = """
SELECT $1::integer[], $2::bigint[], $3::float8[], $4::boolean[], $5::text[], $6::date[], $7::timestamptz[],
       ARRAY(SELECT ROW(1))
"""
CONNECT_S = 5.0
CANCEL_S = 1.0  # a cancelled query that has not ended by then is dropped together with its connection
LOST_S = 0.2  # for work whose connection broke to notice by itself
CLOSE_S = 5.0


class _QuietConnection(asyncpg.Connection):
    """A connection that is not reset on its way back to the pool: we leave nothing behind that would need it.

    Locks are transaction locks and temporary tables are emptied at commit; a reset is a round trip per question.
    """

    def get_reset_query(self) -> str:
        return ""


class Annex:
    """Runs database work on the other loop. Made by `open_annex`.

    `connections` are for questions, at most. The writer has one of its own: no question, however long or many, makes
    what is live wait for its turn, and what the writer says in each transaction is prepared there.
    """

    def __init__(self, url: str, connections: int) -> None:
        self.url = url
        self.is_up = True  # what the last piece of work found
        self._connections = connections
        self._loop = uvloop.new_event_loop()
        self._stop = asyncio.Event()
        self._ready = threading.Event()
        self._asking: Any = None
        self._writing: Any = None

    async def run(
        self, work: Callable[Concatenate[Connection, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Await `work(connection, *args)` on the other loop.

        Cancelling the calling task cancels the query. Work that was done when the cancellation arrived is not undone.
        Raises: StoreUnavailable when the database is away, StoreFault when it refuses; `asyncpg.*` never.
        """
        return await self._run(self._asking, work, args, kwargs)

    async def write(
        self, work: Callable[Concatenate[Connection, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """The same on the writer's connection, one after the other."""
        return await self._run(self._writing, work, args, kwargs)

    async def _run(self, pool: Any, work: Callable[..., Awaitable[T]], args: Any, kwargs: Any) -> T:  # noqa: ANN401
        await trio.lowlevel.checkpoint_if_cancelled()
        held: list[Connection] = []
        job = _Job(self._loop, self._with_connection(pool, held, work, args, kwargs), held)
        result: T = await job.wait()
        return result

    async def _with_connection(
        self,
        pool: Any,  # noqa: ANN401
        held: list[Connection],
        work: Callable[..., Awaitable[T]],
        args: Any,  # noqa: ANN401
        kwargs: Any,  # noqa: ANN401
    ) -> T:
        try:
            try:
                return await self._attempt(pool, held, work, args, kwargs)
            except Exception as error:
                if not is_lost(error):
                    raise
            # The pooled connection was dead, as after a restart of the database: one more try on a fresh one. Every
            # piece of work may be repeated without harm.
            return await self._attempt(pool, held, work, args, kwargs)
        except Exception as error:
            if is_away(error):
                self.is_up = False
            told = translated(error)
            if told is error:
                raise
            raise told from error

    async def _attempt(
        self,
        pool: Any,  # noqa: ANN401
        held: list[Connection],
        work: Callable[..., Awaitable[T]],
        args: Any,  # noqa: ANN401
        kwargs: Any,  # noqa: ANN401
    ) -> T:
        async with pool.acquire() as connection:
            held[:] = [connection]
            try:
                with _ending_with(connection):
                    result = await work(connection, *args, **kwargs)
            except PostgresError as error:
                if is_away(error):  # a database that goes down says so in the middle of whatever it was at
                    _terminate(connection)
                raise  # else an answer like any other; the connection is as good as before
            except BaseException:
                await _abandon(connection)  # noqa: ASYNC102 - asyncio's, and bounded in itself
                raise
        self.is_up = True
        return result

    def serve(self) -> None:
        """The thread's life: both pools, until `close`."""
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._keep_pools())

    async def _keep_pools(self) -> None:
        self._loop.set_exception_handler(_told)
        self._asking = self._pool(max_size=self._connections)
        # The pool takes others for used up after a while, and makes them anew.
        self._writing = self._pool(max_size=1, max_queries=1 << 62, max_inactive_connection_lifetime=0)
        pools = (self._asking, self._writing)
        await asyncio.gather(*pools)
        self._ready.set()
        await self._stop.wait()
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*(pool.close() for pool in pools)), CLOSE_S)
        for pool in pools:
            pool.terminate()

    def _pool(self, **sizes: int) -> Any:  # noqa: ANN401
        return asyncpg.create_pool(  # type: ignore[no-untyped-call]
            self.url,
            min_size=0,
            **sizes,
            timeout=CONNECT_S,
            connection_class=_QuietConnection,
            init=_learn_types,
            server_settings=SESSION,
        )

    def wait_ready(self) -> None:
        self._ready.wait()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)


async def _learn_types(connection: asyncpg.Connection) -> None:
    try:
        await connection.prepare(LEARN, timeout=CONNECT_S)  # type: ignore[no-untyped-call]
    except BaseException:
        connection.terminate()  # type: ignore[no-untyped-call]  # what hangs does not answer a goodbye either
        raise


@contextmanager
def _ending_with(connection: Connection) -> Iterator[None]:
    """End the work when its connection breaks.

    asyncpg fails what waits for an answer; what waits to send more of a COPY it would let wait for ever.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    ends: list[asyncio.TimerHandle] = []

    def end(_: object) -> None:
        if task is not None:
            ends.append(loop.call_later(LOST_S, task.cancel))

    connection.add_termination_listener(end)
    try:
        yield
    except asyncio.CancelledError:
        if ends and task is not None:
            task.uncancel()
            # The cancellation was ours, and is taken back.
            raise asyncpg.ConnectionDoesNotExistError("the connection broke in the middle") from None  # noqa: ASYNC104
        raise
    finally:
        for each in ends:
            each.cancel()
        with suppress(InterfaceError):
            connection.remove_termination_listener(end)


async def _abandon(connection: Connection) -> None:
    """Drop a connection in the middle of something, once the server has heard that nobody waits for it any more.

    asyncpg sends the cancellation and holds the next question back until it is acknowledged; a connection that was
    cancelled in the middle of a COPY is not fit for another one after that.
    """
    with suppress(Exception):
        await asyncio.wait_for(connection.execute("SELECT"), CANCEL_S)
    _terminate(connection)


def _terminate(connection: Connection) -> None:
    with suppress(InterfaceError):  # it broke of itself, and the pool has it back already
        connection.terminate()


def _told(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """asyncpg leaves the end of a COPY that was cancelled or cut off lying about; whoever waited for it was told."""
    error = context.get("exception")
    if error is None or not is_away(error):
        loop.default_exception_handler(context)


class _Job:
    """One coroutine on the other loop, and the trio task that waits for it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, work: Any, held: list[Connection]) -> None:  # noqa: ANN401
        self._loop = loop
        self._work = work
        self._held = held  # the connection it works with
        self._task: asyncio.Task[Any] | None = None
        self._waiter = trio.lowlevel.current_task()
        self._token = trio.lowlevel.current_trio_token()
        self._raise_cancel: Callable[[], Any] | None = None
        self._is_delivered = False

    async def wait(self) -> Any:  # noqa: ANN401
        self._loop.call_soon_threadsafe(self._start)
        return await trio.lowlevel.wait_task_rescheduled(self._abort)

    def _start(self) -> None:
        self._task = self._loop.create_task(self._work)
        self._task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[Any]") -> None:
        if task.cancelled():
            result: outcome.Outcome[Any] = outcome.Error(trio.BrokenResourceError("the annex is closed"))
        elif (error := task.exception()) is not None:
            result = outcome.Error(error)
        else:
            result = outcome.Value(task.result())
        self._send_back(result)

    def _send_back(self, result: "outcome.Outcome[Any]") -> None:
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._deliver, result)

    def _deliver(self, result: "outcome.Outcome[Any]") -> None:
        if self._is_delivered:
            return
        self._is_delivered = True
        if self._raise_cancel is not None and isinstance(result, outcome.Error):
            result = outcome.capture(self._raise_cancel)
        trio.lowlevel.reschedule(self._waiter, result)

    def _abort(self, raise_cancel: Callable[[], Any]) -> trio.lowlevel.Abort:
        self._raise_cancel = raise_cancel
        self._loop.call_soon_threadsafe(self._cancel)
        return trio.lowlevel.Abort.FAILED

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self._loop.call_later(CANCEL_S, self._drop)

    def _drop(self) -> None:
        """A database that hangs does not hear of a cancellation either, and the pool needs its place back."""
        if self._task is not None and not self._task.done():
            for connection in self._held:
                _terminate(connection)
            self._send_back(outcome.Error(trio.TooSlowError()))


@asynccontextmanager
async def open_annex(url: str, *, connections: int = 8) -> AsyncIterator[Annex]:
    """An annex whose questions take at most `connections`; none is made before the first work."""
    annex = Annex(url, connections)
    thread = threading.Thread(target=annex.serve, name="timebase-annex", daemon=True)
    thread.start()
    annex.wait_ready()
    try:
        yield annex
    finally:
        annex.close()
        with trio.move_on_after(2 * CLOSE_S, shield=True):
            await trio.to_thread.run_sync(thread.join, abandon_on_cancel=True)
