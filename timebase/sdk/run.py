"""A plugin's process: `python -m timebase.sdk.run path/to/provider.py:Class`, started by the supervisor.

    TIMEBASE_LINK -> dial -> hello -> setup -> ready -> questions, each a task -> shutdown, or the end of stdin

The process dies with its parent: a thread of its own waits for the end of stdin, so that not even a blocked event loop
can keep it alive.
"""

import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import TaskGroup

from timebase.errors import Malformed, ProviderError, Unsupported
from timebase.link.plugin_link import PluginLink, open_plugin_link
from timebase.link.socket import LinkClosed
from timebase.model.instrument import AssetClass
from timebase.model.interval import Interval
from timebase.sdk.answering import Outflow, answer_history, call, told
from timebase.sdk.entrypoint import load_provider
from timebase.sdk.provider import HistoryRequest, Provider
from timebase.sdk.streaming import Streaming, parse_subscription
from timebase.sdk.threads import Soon, call_soon, is_cancelled
from timebase.wire.envelope import BATCH_ROWS, NO_ID, Message, Type, pack_error, pack_message, parse_error
from timebase.wire.instruments import instrument_row

SDK = "timebase-python/1"
GRACE_S = 1.0  # to close clients in, after the parent is gone or has asked us to leave
MAX_CREDIT = 64


class Questions:
    """The questions at work: answers `cancel` and `credit`, and turns what goes wrong into `error` messages."""

    def __init__(self, link: PluginLink, tasks: TaskGroup, batch_rows: int) -> None:
        self._link = link
        self._tasks = tasks
        self._batch_rows = batch_rows
        self._scopes: dict[int, anyio.CancelScope] = {}
        self._outflows: dict[int, Outflow] = {}
        self._spend_ids = count(1)
        self._spends: dict[int, _Permission] = {}

    def start(self, id_: int, question: Callable[[], Coroutine[Any, Any, bytes]]) -> None:
        self._tasks.start_soon(self._answer, id_, question)

    async def _answer(self, id_: int, question: Callable[[], Coroutine[Any, Any, bytes]]) -> None:
        with anyio.CancelScope() as scope:
            self._scopes[id_] = scope
            try:
                await self._link.send(await question())
            except LinkClosed:
                raise
            except Exception as problem:  # noqa: BLE001 - a provider may raise anything; the asker shall hear of it
                if not is_cancelled():
                    await self._link.send(pack_error(id_, told(problem)))
        del self._scopes[id_]

    async def history(self, provider: Provider, message: Message) -> bytes:
        request = HistoryRequest(
            message.text("symbol"),
            AssetClass(message.text("asset_class")),
            Interval(message.text("interval")),
            message.integer("start"),
            message.integer("end"),
            message.text("timezone", ""),
        )
        credit = min(message.integer("credit"), MAX_CREDIT)
        out = self._outflows[message.id] = Outflow(message.id, self._link.send, credit, self._batch_rows)
        try:
            await answer_history(provider, request, out)
            await out.flush()
        finally:
            del self._outflows[message.id]
        warnings = {"warnings": request.warnings} if request.warnings else {}
        return pack_message(Type.END, message.id, **warnings)

    async def symbols(self, provider: Provider, message: Message) -> bytes:
        limit = message.integer("limit")
        found = await call(provider.symbols, message.text("query"), limit)
        rows = [instrument_row(instrument) for instrument, _ in zip(found, range(limit), strict=False)]
        return pack_message(Type.SYMBOLS, message.id, rows=rows)

    def credit(self, message: Message) -> None:
        if (out := self._outflows.get(message.id)) is not None:
            out.grant(min(message.integer("n", 1), MAX_CREDIT))

    def cancel(self, id_: int) -> None:
        if (scope := self._scopes.get(id_)) is not None:
            scope.cancel()

    async def ask_to_spend(self, n: int) -> None:
        """What `Provider.spend` does. Leaving early withdraws the wish."""
        id_ = next(self._spend_ids)
        permission = self._spends[id_] = _Permission()
        try:
            await self._link.send(pack_message(Type.SPEND, id_, n=n))
            await permission.answered.wait()
        finally:
            if self._spends.pop(id_, None) is not None:
                self._link.send_nowait(pack_message(Type.CANCEL, id_))
        if permission.refusal is not None:
            raise permission.refusal

    def permit(self, message: Message) -> None:
        if (permission := self._spends.pop(message.id, None)) is not None:
            permission.refusal = parse_error(message) if message.type == Type.ERROR else None
            permission.answered.set()


class _Permission:
    def __init__(self) -> None:
        self.answered = anyio.Event()
        self.refusal: ProviderError | None = None


class _LinkLog(logging.Handler):
    """Log lines of `Provider.log` go to the core; those that find no room go to stderr."""

    def __init__(self, link: PluginLink) -> None:
        super().__init__()
        self._link = link

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record)
        if not self._link.send_nowait(pack_message(Type.LOG, level=record.levelname.lower(), message=line)):
            sys.stderr.write(line + "\n")


@dataclass(frozen=True, slots=True)
class _Served:
    """A provider that is set up; `streaming` where it streams."""

    provider: Provider
    streaming: Streaming | None


async def serve(address: str, load: Callable[[], type[Provider]]) -> None:
    """Answer questions until the core says shutdown, its connection is lost, or stdin ends."""
    soon = call_soon()
    try:
        async with anyio.create_task_group() as tasks:

            def leave() -> None:
                with suppress(RuntimeError):  # the loop has ended by itself
                    soon(tasks.cancel_scope.cancel)

            threading.Thread(target=_leave_at_end_of_stdin, args=(leave,), daemon=True).start()
            with open_plugin_link(address, on_gone=leave) as link:
                await link.send(pack_message(Type.HELLO, sdk=SDK, pid=os.getpid()))
                await _answer_questions(link, tasks, load, soon)
                tasks.cancel_scope.cancel()
    except* LinkClosed:
        pass  # the core is gone, and that is our end too


async def _answer_questions(link: PluginLink, tasks: TaskGroup, load: Callable[[], type[Provider]], soon: Soon) -> None:
    hello = await _next(link, Type.HELLO)
    batch_rows = max(1, min(hello.integer("batch_rows", BATCH_ROWS), BATCH_ROWS))
    questions = Questions(link, tasks, batch_rows)
    stream_credit = max(0, min(hello.integer("stream_credit", 0), MAX_CREDIT))
    # The core's messages are read while setup runs: it may spend, and a shutdown must not wait for it.
    ready: list[_Served] = []

    async def set_up() -> None:
        provider = await _set_up(link, hello, load, questions)
        if provider is None:
            return
        streaming: Streaming | None = None
        if "stream" in provider.methods():
            streaming = Streaming(provider, link.send, stream_credit, batch_rows, soon)
            tasks.start_soon(streaming.run)
        ready.append(_Served(provider, streaming))
        await link.send(pack_message(Type.READY, hello.id, methods=list(provider.methods())))

    tasks.start_soon(set_up)
    async with _closing(ready):
        await _dispatch_all(link, questions, ready)


async def _dispatch_all(link: PluginLink, questions: Questions, ready: list[_Served]) -> None:
    while True:
        message = await link.receive()
        match message.type:
            case Type.HISTORY | Type.SYMBOLS if ready:
                answer = questions.history if message.type == Type.HISTORY else questions.symbols
                questions.start(message.id, partial(answer, ready[0].provider, message))
            case Type.SUBSCRIBE | Type.UNSUBSCRIBE if ready:
                await _dispatch_stream(link, ready[0].streaming, message)
            case Type.CREDIT if message.id != NO_ID:
                questions.credit(message)
            case Type.CREDIT if ready and ready[0].streaming is not None:
                ready[0].streaming.grant(min(message.integer("n", 1), MAX_CREDIT))
            case Type.CANCEL:
                questions.cancel(message.id)
            case Type.PING:
                await link.send(pack_message(Type.PONG, message.id))
            case Type.GRANTED | Type.ERROR:
                questions.permit(message)
            case Type.SHUTDOWN:
                return
            case _:
                pass  # a newer core may say more than we know


async def _dispatch_stream(link: PluginLink, streaming: Streaming | None, message: Message) -> None:
    if streaming is None:
        await link.send(pack_error(message.id, Unsupported("this provider does not stream")))
    elif message.type == Type.UNSUBSCRIBE:
        streaming.unsubscribe(message.id)
    else:
        try:
            streaming.subscribe(parse_subscription(message))
        except ValueError as problem:  # of a newer core
            await link.send(pack_error(message.id, Unsupported(str(problem))))


async def _set_up(
    link: PluginLink, hello: Message, load: Callable[[], type[Provider]], questions: Questions
) -> Provider | None:
    """None when its setup failed, which the core has been told."""
    try:
        log = logging.getLogger(f"timebase.plugin.{hello.text('slug', '')}")
        log.setLevel(logging.INFO)
        log.propagate = False
        log.addHandler(_LinkLog(link))
        provider = load()(
            options=hello.mapping("options"),
            secrets={name: str(value) for name, value in hello.mapping("secrets").items()},
            cache_dir=Path(hello.text("cache_dir", ".")),
            log=log,
            ask_to_spend=questions.ask_to_spend,
        )
        await call(provider.setup)
    except Exception as problem:  # noqa: BLE001 - the operator shall hear whatever it was
        await link.send(pack_error(hello.id, told(problem)))
        return None
    return provider


@asynccontextmanager
async def _closing(ready: list[_Served]) -> AsyncIterator[None]:
    try:
        yield
    finally:
        _exit_in(GRACE_S)
        with anyio.CancelScope(shield=True):
            for served in ready:
                if served.streaming is not None:
                    await served.streaming.leave()
                await call(served.provider.close)


async def _next(link: PluginLink, type_: Type) -> Message:
    message = await link.receive()
    if message.type != type_:
        raise Malformed(f"{type_} wanted, not {message.type}")
    return message


def _exit_in(seconds: float) -> None:
    """A worker thread in a request that hangs, or a client that does not close, must not keep the process."""
    timer = threading.Timer(seconds, os._exit, (0,))
    timer.daemon = True
    timer.start()


def _leave_at_end_of_stdin(leave: Callable[[], None]) -> None:
    with suppress(OSError):  # no stdin: no parent
        while os.read(0, 4096):
            pass
    leave()
    threading.Event().wait(2 * GRACE_S)
    os._exit(1)


def main(arguments: list[str]) -> int:
    address = os.environ.get("TIMEBASE_LINK")
    if len(arguments) != 1 or address is None:
        sys.stderr.write("usage: TIMEBASE_LINK=ipc://… python -m timebase.sdk.run path/to/provider.py:Class\n")
        return 2
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, and we follow it
    backend, load = _loaded(arguments[0])
    anyio.run(serve, address, load, backend=backend)
    return 0


def _loaded(entrypoint: str) -> tuple[str, Callable[[], type[Provider]]]:
    """The class decides on the event loop, so it is loaded first; a failure waits for someone to tell it to."""
    try:
        provider = load_provider(entrypoint)
    except Exception as problem:  # noqa: BLE001 - importing anybody's code
        failure = problem

        def fail() -> type[Provider]:
            raise failure

        return "asyncio", fail
    return provider.backend, lambda: provider


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # a worker thread in a request that hangs must not keep the process
