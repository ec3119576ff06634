"""The link between the core and real plugin processes of the Python SDK, over ipc://."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import trio
import trio.lowlevel

from timebase.errors import (
    AuthFailed,
    ProviderError,
    RateLimited,
    SymbolNotFound,
    Unavailable,
    Unsupported,
    Upstream,
    UpstreamTimeout,
)  # fmt: skip
from timebase.link.address import RunDirectory, open_run_directory
from timebase.link.provider_link import ProviderLink, open_link
from timebase.model.bars import Bars
from timebase.model.demand import Demand
from timebase.model.instrument import AssetClass, CorporateAction, Instrument
from timebase.model.interval import Interval
from timebase.model.series import Series
from timebase.model.timerange import DAY_US, MINUTE_US, TimeRange

ROOT = Path(__file__).parents[2]

PLUGIN = """
import asyncio, os, threading, time
from array import array
import anyio
from timebase.sdk import *

MINUTE = 60_000_000

def minutes(start_us, n):
    times = array("q", range(start_us, start_us + n * MINUTE, MINUTE))
    prices = array("d", [100.0]) * n
    return Bars(times, prices, prices, prices, prices, array("d", bytes(8 * n)))

class Plugin(Provider):
    backend = os.environ.get("BACKEND", "asyncio")

    async def setup(self):
        if self.options.get("setup") == "auth":
            raise AuthFailed("the key was refused")
        if self.options.get("setup") == "bug":
            {}["nothing"]
        if self.options.get("setup") == "hang":
            await anyio.sleep_forever()
        self.log.warning("set up with %s", sorted(self.secrets))
        self.stopped = []

    async def history(self, request):
        answer = getattr(self, "answer_" + request.symbol.lower(), None)
        if answer is None:
            raise SymbolNotFound(request.symbol)
        async for part in answer(request):
            yield part

    async def answer_rows(self, request):
        yield minutes(request.start_us, (request.end_us - request.start_us) // MINUTE)

    async def answer_nothing(self, request):
        request.warn("a holiday")
        return
        yield

    async def answer_zone(self, request):
        request.warn(f"dates of {request.timezone or 'UTC'}")
        return
        yield

    async def answer_actions(self, request):
        yield CorporateAction(request.start_us, "split", 4.0)
        yield minutes(request.start_us, 3)
        yield [CorporateAction(request.start_us, "dividend", 0.25, "USD")]

    async def answer_backwards(self, request):
        whole = minutes(request.start_us, 100_000)
        yield Bars(*(getattr(whole, name)[::-1] for name in ("time", "open", "high", "low", "close", "volume")))

    async def answer_endless(self, request):
        at_us = request.start_us
        try:
            while True:
                yield minutes(at_us, 10)
                at_us += 10 * MINUTE
        finally:
            self.stopped.append(request.symbol)

    async def answer_stopped(self, request):
        while not self.stopped:
            await anyio.sleep(0.01)
        yield minutes(request.start_us, 1)

    async def answer_limited(self, request):
        raise RateLimited("too fast", retry_after_s=2.5)
        yield

    async def answer_partial(self, request):
        yield minutes(request.start_us, 5)
        raise Upstream("502 in the middle")

    async def answer_timeout(self, request):
        raise TimeoutError("no answer in 30 s")
        yield

    async def answer_bug(self, request):
        yield minutes(0, "x")

    async def answer_group(self, request):
        async with anyio.create_task_group():
            raise Unsupported("not this far back")
        yield

    async def answer_spending(self, request):
        await self.spend(3)
        yield minutes(request.start_us, 1)

    async def answer_mute(self, request):
        await anyio.sleep_forever()
        yield

    async def answer_blocked(self, request):
        time.sleep(3600)
        yield

    async def answer_vanish(self, request):
        yield minutes(request.start_us, 5)
        os._exit(3)

    async def symbols(self, query, limit):
        return [Instrument(0, f"{query}{i}", AssetClass.STOCK, currency="USD") for i in range(limit + 5)]

class Threaded(Provider):
    backend = os.environ.get("BACKEND", "asyncio")
    stopped = threading.Event()

    def setup(self):
        self.options["ready"] = True

    def history(self, request):
        assert threading.current_thread() is not threading.main_thread()
        if request.symbol == "LONE":
            return minutes(request.start_us, 2)
        if request.symbol == "NONE":
            return None
        if request.symbol == "STUCK":
            time.sleep(3600)
        if request.symbol == "SPEND":
            self.spend_sync(2)
        if request.symbol == "ENDLESS":
            return self.endless(request)
        if request.symbol == "STOPPED":
            self.stopped.wait()
        if request.symbol == "WAIT":
            return self.wait(request)
        return self.pages(request)

    def pages(self, request):
        for page in range(10):
            yield minutes(request.start_us + page * MINUTE, 1)

    def endless(self, request):
        try:
            for page in range(10**9):
                yield minutes(request.start_us + page * MINUTE, 1)
        finally:
            self.stopped.set()

    async def wait(self, request):
        return [minutes(request.start_us, 1)]
"""


@dataclass
class Running:
    """A plugin process and what it asked for."""

    link: ProviderLink
    process: trio.Process
    spent: list[int] = field(default_factory=list)
    logged: list[tuple[str, str]] = field(default_factory=list)
    refusal: ProviderError | None = None
    is_budget_slow: bool = False
    asked_to_spend: trio.Event = field(default_factory=trio.Event)
    withdrawn: trio.Event = field(default_factory=trio.Event)
    ended_with: BaseException | None = None

    async def spend(self, n: int) -> None:
        await trio.lowlevel.checkpoint()
        if self.refusal is not None:
            raise self.refusal
        if self.is_budget_slow:
            self.asked_to_spend.set()
            try:
                await trio.sleep_forever()
            finally:
                self.withdrawn.set()
        self.spent.append(n)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        try:
            await self.link.run(self.spend, self.log, task_status=task_status)
        except ProviderError as error:
            self.ended_with = error

    def log(self, level: str, text: str) -> None:
        self.logged.append((level, text))

    async def hello(self, **options: object) -> tuple[str, ...]:
        with trio.fail_after(20):
            return await self.link.hello(slug="test", options=options, secrets={"key": "hush"}, cache_dir="/nowhere")


async def leave(process: trio.Process) -> None:
    """End the process as the death of its parent would, and see that it went."""
    assert process.stdin is not None
    with trio.move_on_after(10, shield=True):
        await process.stdin.aclose()
        await process.wait()
    assert process.returncode is not None, "the plugin outlived its parent"


Start = Callable[..., AbstractAsyncContextManager[Running]]


@pytest.fixture
def run_directory():
    with open_run_directory() as directory:
        yield directory


@pytest.fixture
def start(tmp_path: Path, run_directory: RunDirectory) -> Start:
    """`async with start("Plugin") as running`: a plugin process with its link in the making."""
    file = tmp_path / "plugin.py"
    file.write_text(PLUGIN)

    @asynccontextmanager
    async def started(
        name: str = "Plugin", *, command: list[str] | None = None, backend: str = "asyncio", credit: int = 2
    ) -> AsyncIterator[Running]:
        address = run_directory.new_address()
        arguments = command or [sys.executable, "-m", "timebase.sdk.run", f"{file}:{name}"]
        environ = {**os.environ, "TIMEBASE_LINK": address, "BACKEND": backend, "PYTHONPATH": str(ROOT)}
        async with open_link(address, credit=credit) as link, trio.open_nursery() as nursery:
            process = await trio.lowlevel.open_process(
                arguments, env=environ, stdin=subprocess.PIPE, stderr=subprocess.PIPE
            )
            running = Running(link, process)
            await nursery.start(running.run)
            try:
                yield running
            finally:
                await leave(process)
                nursery.cancel_scope.cancel()

    return started


def a_demand(symbol: str, n: int = 10, interval: Interval = Interval.M1) -> Demand:
    start_us = 20_000 * DAY_US
    return Demand(
        1, Series(1, 1, symbol, "test", interval), Instrument(1, symbol, AssetClass.STOCK),
        TimeRange(start_us, start_us + n * MINUTE_US),
    )  # fmt: skip


async def ask(running: Running, symbol: str, n: int = 10) -> list[Bars | tuple[CorporateAction, ...]]:
    with trio.fail_after(20):
        async with running.link.history(a_demand(symbol, n)) as answer:
            return [part async for part in answer]


async def ask_bars(running: Running, symbol: str, n: int = 10) -> Bars:
    parts = await ask(running, symbol, n)
    return Bars.concat(part for part in parts if isinstance(part, Bars))


async def rows_before(running: Running, symbol: str, error: type[ProviderError]) -> int:
    """How many rows came before the error."""
    rows = 0
    try:
        with trio.fail_after(20):
            async with running.link.history(a_demand(symbol)) as answer:
                async for part in answer:
                    rows += len(part)
    except error:
        return rows
    pytest.fail(f"no {error.__name__}")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
async def test_bars_arrive_as_they_were_sent(start: Start, backend: str) -> None:
    async with start(backend=backend) as running:
        assert await running.hello() == ("history", "symbols")
        bars = await ask_bars(running, "ROWS", 150_000)
        assert len(bars) == 150_000
        assert bars.time[0] == 20_000 * DAY_US
        assert (np.diff(bars.time) == MINUTE_US).all()
        assert (bars.close == 100.0).all()


async def test_a_shutdown_ends_the_process(start: Start) -> None:
    async with start() as running:
        await running.hello()
        await running.link.shutdown()
        with trio.fail_after(20):
            assert await running.process.wait() == 0


async def test_a_confirmed_nothing_comes_with_its_warning(start: Start) -> None:
    async with start() as running:
        await running.hello()
        with trio.fail_after(20):
            async with running.link.history(a_demand("NOTHING")) as answer:
                assert [part async for part in answer] == []
        assert answer.warnings == ("a holiday",)


@pytest.mark.parametrize(
    ("asset_class", "zone", "dates"),
    [
        (AssetClass.STOCK, "America/New_York", "dates of America/New_York"),
        (AssetClass.STOCK, "", "dates of UTC"),
        (AssetClass.CRYPTO, "America/New_York", "dates of UTC"),
    ],
)
async def test_a_question_says_whose_dates_its_days_are(
    start: Start, asset_class: AssetClass, zone: str, dates: str
) -> None:
    demand = replace(a_demand("ZONE"), instrument=Instrument(1, "ZONE", asset_class, timezone=zone))
    async with start() as running:
        await running.hello()
        with trio.fail_after(20):
            async with running.link.history(demand) as answer:
                assert [part async for part in answer] == []
        assert answer.warnings == (dates,)


async def test_corporate_actions_travel_with_the_bars(start: Start) -> None:
    async with start() as running:
        await running.hello()
        split, bars, dividend = await ask(running, "ACTIONS")
        assert split == (CorporateAction(20_000 * DAY_US, "split", 4.0),)
        assert isinstance(bars, Bars)
        assert len(bars) == 3
        assert dividend == (CorporateAction(20_000 * DAY_US, "dividend", 0.25, "USD"),)


async def test_bars_given_newest_first_arrive_oldest_first(start: Start) -> None:
    async with start() as running:
        await running.hello()
        bars = await ask_bars(running, "BACKWARDS")
        assert len(bars) == 100_000
        assert (np.diff(bars.time) == MINUTE_US).all()


@pytest.mark.parametrize(
    ("symbol", "error", "message"),
    [
        ("OTHER", SymbolNotFound, "OTHER"),
        ("LIMITED", RateLimited, "too fast"),
        ("PARTIAL", Upstream, "502 in the middle"),
        ("TIMEOUT", UpstreamTimeout, "no answer in 30 s"),
        ("BUG", Upstream, "TypeError: "),
        ("GROUP", Unsupported, "not this far back"),
    ],
)
async def test_what_a_provider_raises_arrives_typed(
    start: Start, symbol: str, error: type[ProviderError], message: str
) -> None:
    async with start() as running:
        await running.hello()
        with pytest.raises(error, match=message) as raised:
            await ask(running, symbol)
        if isinstance(raised.value, RateLimited):
            assert raised.value.retry_after_s == 2.5


async def test_bars_before_an_error_are_not_lost(start: Start) -> None:
    async with start() as running:
        await running.hello()
        rows = await rows_before(running, "PARTIAL", Upstream)
        assert rows == 5


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
async def test_leaving_early_stops_the_provider(start: Start, backend: str) -> None:
    async with start(backend=backend) as running:
        await running.hello()
        with trio.fail_after(20):
            async with running.link.history(a_demand("ENDLESS")) as answer:
                async for _ in answer:
                    break
        assert len(await ask_bars(running, "STOPPED")) == 1


async def test_a_provider_waits_for_credit(start: Start) -> None:
    async with start(credit=2) as running:
        await running.hello()
        with trio.fail_after(20):
            async with running.link.history(a_demand("ENDLESS")) as answer:
                # Pings go round behind whatever the provider was able to send without credit.
                for _ in range(20):
                    await running.link.ping()
                arrived = answer._inbox.statistics().current_buffer_used
                assert arrived == 2
                parts = [await anext(answer) for _ in range(50)]
        assert [int(bars.time[0]) for bars in parts] == sorted({int(bars.time[0]) for bars in parts})


async def test_a_slow_question_does_not_hold_up_the_others(start: Start) -> None:
    async with start() as running:
        await running.hello()
        with trio.fail_after(20):
            async with running.link.history(a_demand("MUTE")), trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(ask_bars, running, "ROWS", 1_000)


async def test_paging_spends_from_the_budget(start: Start) -> None:
    async with start() as running:
        await running.hello()
        assert len(await ask_bars(running, "SPENDING")) == 1
        assert running.spent == [3]


async def test_a_refused_permission_ends_the_question(start: Start) -> None:
    async with start() as running:
        await running.hello()
        running.refusal = RateLimited("500 a day are gone", retry_after_s=60.0)
        with pytest.raises(RateLimited, match="500 a day are gone") as raised:
            await ask(running, "SPENDING")
        assert raised.value.retry_after_s == 60.0


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
async def test_a_question_that_nobody_waits_for_spends_nothing(start: Start, backend: str) -> None:
    async with start(backend=backend) as running:
        await running.hello()
        running.is_budget_slow = True
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask, running, "SPENDING")
                await running.asked_to_spend.wait()
                nursery.cancel_scope.cancel()
            await running.withdrawn.wait()
        assert running.spent == []


async def test_symbols_are_at_most_as_many_as_asked_for(start: Start) -> None:
    async with start() as running:
        await running.hello()
        with trio.fail_after(20):
            found = await running.link.symbols("AB", 3)
        assert found == tuple(Instrument(0, f"AB{i}", AssetClass.STOCK, currency="USD") for i in range(3))


async def test_the_plugins_log_arrives(start: Start) -> None:
    async with start() as running:
        await running.hello()
        assert running.logged == [("warning", "set up with ['key']")]


@pytest.mark.parametrize(
    ("setup", "error", "message"),
    [("auth", AuthFailed, "the key was refused"), ("bug", Upstream, "KeyError: 'nothing'")],
)
async def test_a_failed_setup_is_told(start: Start, setup: str, error: type[ProviderError], message: str) -> None:
    async with start() as running:
        with pytest.raises(error, match=message):
            await running.hello(setup=setup)


async def test_a_class_that_is_not_there_is_told(start: Start) -> None:
    async with start("Missing") as running:
        with pytest.raises(Upstream, match=r"plugin\.py has no class Missing"):
            await running.hello()


async def test_plain_methods_run_in_threads(start: Start) -> None:
    async with start("Threaded") as running:
        assert await running.hello() == ("history",)
        assert len(await ask_bars(running, "LONE")) == 2
        assert len(await ask_bars(running, "NONE")) == 0
        assert len(await ask_bars(running, "PAGES")) == 10
        assert len(await ask_bars(running, "WAIT")) == 1
        assert len(await ask_bars(running, "SPEND")) == 10
        assert running.spent == [2]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
async def test_leaving_early_stops_a_generator_in_a_thread(start: Start, backend: str) -> None:
    async with start("Threaded", backend=backend) as running:
        await running.hello()
        with trio.fail_after(20):
            async with running.link.history(a_demand("ENDLESS")) as answer:
                await anext(answer)
        assert len(await ask_bars(running, "STOPPED")) == 10


async def test_a_thread_that_hangs_blocks_nobody_and_ends_with_the_process(start: Start) -> None:
    async with start("Threaded") as running:
        await running.hello()
        with trio.fail_after(20):
            async with running.link.history(a_demand("STUCK")):
                assert len(await ask_bars(running, "LONE")) == 2
            await running.link.shutdown()
            assert await running.process.wait() == 0


async def test_symbols_without_a_method_are_unsupported(start: Start) -> None:
    async with start("Threaded") as running:
        await running.hello()
        with trio.fail_after(20), pytest.raises(Unsupported):
            await running.link.symbols("A", 1)


async def test_a_killed_plugin_fails_every_question_that_waits(start: Start) -> None:
    async with start() as running:
        await running.hello()
        failed = []

        async def ask_and_fail() -> None:
            with pytest.raises(Unavailable) as raised:
                await ask(running, "MUTE")
            failed.append(str(raised.value))

        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(ask_and_fail)
                await running.link.ping()
                running.process.kill()
        assert len(failed) == 10
        with pytest.raises(Unavailable):
            await ask(running, "ROWS")
        assert isinstance(running.ended_with, Unavailable)


async def test_a_plugin_that_dies_in_an_answer_leaves_what_it_sent(start: Start) -> None:
    async with start() as running:
        await running.hello()
        rows = await rows_before(running, "VANISH", Unavailable)
        assert rows in {0, 5}  # what nng had not handed to the kernel died with the process


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
async def test_a_plugin_dies_with_its_parent_though_its_event_loop_is_blocked(start: Start, backend: str) -> None:
    async with start(backend=backend) as running:
        await running.hello()
        with trio.fail_after(20):
            async with running.link.history(a_demand("BLOCKED")):
                with trio.move_on_after(0.1):
                    await running.link.ping()
                assert running.process.stdin is not None
                await running.process.stdin.aclose()
                await running.process.wait()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
async def test_a_plugin_in_setup_dies_with_its_parent(start: Start, backend: str) -> None:
    async with start(backend=backend) as running, trio.open_nursery() as nursery:

        async def shake_hands() -> None:
            with pytest.raises(Unavailable):
                await running.hello(setup="hang")

        nursery.start_soon(shake_hands)
        with trio.fail_after(20):
            while not running.link.peer:
                await trio.lowlevel.checkpoint()
            assert running.process.stdin is not None
            await running.process.stdin.aclose()
            assert await running.process.wait() == 0


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
async def test_a_plugin_whose_core_is_gone_leaves(start: Start, backend: str) -> None:
    """The link's socket closes while stdin stays open, as when the supervisor gives up on a link."""
    async with start(backend=backend) as running:
        await running.hello()
        running.link._socket._pair.close()
        with trio.fail_after(20):
            assert await running.process.wait() == 0
