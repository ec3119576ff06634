"""One life of a plugin's process, from spawn to end: hello, heartbeat, memory, output, and why it ended."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial

import trio

from timebase.errors import AuthFailed, ProviderError, Unavailable
from timebase.link.provider_link import ProviderLink, open_link
from timebase.model.instrument import Instrument
from timebase.supervisor.handle import ProviderHandle
from timebase.supervisor.output import Output
from timebase.supervisor.process import REAP_S, Home, clean_environ, end, ending_of, memory_of, spawn
from timebase.supervisor.settings import SupervisorSettings

LAST_WORDS_S = 0.5  # between a process's end, its connection's end and its output's end
LIST_S = 10.0  # for a provider to name its symbols: a big folder on a slow disk
MAX_LISTED = 2_000  # a manifest has room for as many
MB = 1024 * 1024
logger = logging.getLogger("timebase.supervisor")

Spend = Callable[[str, int], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a life ended. `is_stuck`: asking the process to leave is of no use."""

    reason: str
    ready_s: float = 0.0
    is_auth: bool = False
    is_stuck: bool = False


async def live(handle: ProviderHandle, home: Home, address: str, settings: SupervisorSettings, spend: Spend) -> Ending:
    """Spawn the plugin and attend to it until it ends, or does what it must not. Cancelled, it ends it in order."""
    mask = handle.mask
    output = Output(logging.getLogger(f"timebase.provider.{handle.slug}"), mask)
    async with open_link(address, clock=handle.earliest_us) as link:
        try:
            process = await spawn(handle.manifest, home, clean_environ(settings.environ, home, address))
        except OSError as error:
            return Ending(f"cannot be started: {error}")
        handle.begin_life(process.pid)
        assert process.stdout is not None
        assert process.stderr is not None
        async with trio.open_nursery() as readers:
            readers.start_soon(output.follow, process.stdout, logging.INFO)
            readers.start_soon(output.follow, process.stderr, logging.WARNING)
            ending: Ending | None = None
            try:
                ending = await _Attendance(handle, link, process, home, settings, output).attend(spend)
            finally:
                handle.close()
                is_stuck = ending is not None and ending.is_stuck
                grace_s = 0 if is_stuck else settings.grace_s
                with trio.move_on_after(grace_s + REAP_S, shield=True):
                    await end(process, link.shutdown, grace_s)
                handle.end_life()
                readers.cancel_scope.deadline = trio.current_time() + LAST_WORDS_S
    return replace(ending, reason=_with_last_words(mask(ending.reason), process.returncode, output.last))


def _with_last_words(reason: str, returncode: int | None, last: str) -> str:
    """A crash's reason is its last line on stderr."""
    return f"{reason}: {last}" if last and returncode is not None and returncode > 0 else reason


class _Attendance:
    """All that is watched while the process lives; the first to find an end says why."""

    def __init__(
        self,
        handle: ProviderHandle,
        link: ProviderLink,
        process: trio.Process,
        home: Home,
        settings: SupervisorSettings,
        output: Output,
    ) -> None:
        self._handle = handle
        self._link = link
        self._process = process
        self._home = home
        self._settings = settings
        self._output = output
        self._scope = trio.CancelScope()
        self._link_ended = trio.Event()
        self._greeted = trio.Event()
        self._ending: Ending | None = None
        self._ready_at: float | None = None

    async def attend(self, spend: Spend) -> Ending:
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._await_exit)
                nursery.start_soon(self._watch_memory)
                await nursery.start(self._run_link, partial(spend, self._handle.slug))
                if await self._is_greeted():
                    await self._keep_pinging()
        assert self._ending is not None
        ready_s = 0.0 if self._ready_at is None else trio.current_time() - self._ready_at
        return replace(self._ending, ready_s=ready_s)

    def _finish(self, ending: Ending) -> None:
        self._ending = self._ending or ending
        self._scope.cancel()

    async def _await_exit(self) -> None:
        """The process's end is the reason, unless it said a better one just before: that is still on its way."""
        returncode = await self._process.wait()
        if self._link.peer:
            with trio.move_on_after(LAST_WORDS_S):
                await self._link_ended.wait()
                await self._greeted.wait()
        self._finish(Ending(ending_of(returncode)))

    async def _finish_unless_exited(self, ending: Ending) -> None:
        """A process that dies closes its link too, and then its own end says more."""
        with trio.move_on_after(LAST_WORDS_S):
            await self._process.wait()
        if self._process.returncode is None:
            self._finish(ending)

    async def _run_link(  # noqa: ASYNC128 - the link calls it
        self,
        spend: Callable[[int], Awaitable[None]],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        try:
            await self._link.run(spend, self._output.log, task_status=task_status)
        except ProviderError as error:
            self._link_ended.set()
            await self._finish_unless_exited(Ending(f"lost its link: {error}"))

    async def _is_greeted(self) -> bool:
        handle, settings = self._handle, self._settings
        try:
            with trio.fail_after(settings.start_s):
                methods = await self._link.hello(
                    slug=handle.slug,
                    options=handle.setup.options,
                    secrets=handle.setup.secrets,
                    cache_dir=self._home.cache,
                )
        except trio.TooSlowError:
            missing = "its setup did not end" if self._link.peer else "it said no hello"
            self._finish(Ending(f"{missing} within {settings.start_s:g} s", is_stuck=True))
        except AuthFailed as error:
            self._finish(Ending(str(error), is_auth=True))
        except Unavailable:
            self._greeted.set()
            await trio.sleep_forever()  # the link's end, or the process's, is the reason, and is told by others
        except ProviderError as error:
            self._finish(Ending(f"its setup failed: {error.code}: {error}"))
        else:
            self._greeted.set()
            listed = await self._list_symbols() if "symbols" in methods else ()
            self._ready_at = trio.current_time()
            handle.open(self._link, methods, listed)
            return True
        return False

    async def _list_symbols(self) -> tuple[Instrument, ...]:
        """Before it is ready: the first question needs them for its routing. Without them it is asked all the same."""
        handle = self._handle
        if not handle.manifest.lists_symbols:
            return ()
        why = f"it took longer than {LIST_S:g} s"
        with trio.move_on_after(LIST_S):
            try:
                return await self._link.symbols("", MAX_LISTED)
            except ProviderError as error:
                why = handle.mask(str(error))
        logger.warning("%s does not say which symbols it has: %s", handle.slug, why)
        return ()

    async def _keep_pinging(self) -> None:
        settings = self._settings
        missed = 0
        while missed < settings.missed_pings:
            asked_at = trio.current_time()
            with trio.move_on_after(settings.ping_s) as patience:
                try:
                    await self._link.ping()
                except ProviderError:
                    await trio.sleep_forever()  # others tell why
            missed = missed + 1 if patience.cancelled_caught else 0
            await trio.sleep_until(asked_at + settings.ping_s)
        silent_s = settings.ping_s * settings.missed_pings
        self._finish(Ending(f"answered no ping for {silent_s:g} s", is_stuck=True))

    async def _watch_memory(self) -> None:
        limit = self._handle.manifest.memory_mb * MB
        while True:
            used = self._handle.memory_bytes = memory_of(self._process.pid)
            if used > limit:
                allowed = f"its manifest allows memory_mb: {self._handle.manifest.memory_mb}"
                self._finish(Ending(f"used {used // MB} MB of memory; {allowed}", is_stuck=True))
            await trio.sleep(self._settings.memory_s)
