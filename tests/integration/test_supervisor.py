"""The supervisor with real plugin processes over real sockets: what befalls one is seen, survived and mended."""

import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
import trio

from timebase.errors import AuthFailed, ProviderError, RateLimited, Unavailable, UnknownProvider, Unsupported
from timebase.model.bars import Batch, Outcome
from timebase.model.demand import Demand
from timebase.model.instrument import AssetClass, Instrument
from timebase.model.interval import Interval
from timebase.model.series import Series
from timebase.model.timerange import MINUTE_US, TimeRange
from timebase.supervisor.handle import ProviderHandle, ProviderState
from timebase.supervisor.roster import Roster
from timebase.supervisor.settings import SupervisorSettings
from timebase.supervisor.supervisor import run_supervisor

ROOT = str(Path(__file__).resolve().parents[2])
LONG_S = 20.0  # nobody waits that long unless something is broken

MANIFEST = """\
name: The Puppet
slug: puppet
version: 1
entrypoint: provider.py:Puppet
data_types: [stocks]
intervals: [1m]
max_concurrent: 20
"""

PUPPET = """\
import os, sys, time
import anyio
from timebase.sdk import AuthFailed, Bars, CorporateAction, Empty, Instrument, AssetClass, Provider, RateLimited

MINUTE = 60_000_000

def bars(first, n):
    ones = [1.0] * n
    return Bars([first + i * MINUTE for i in range(n)], ones, ones, ones, ones, ones)

class Puppet(Provider):
    async def history(self, request):
        start = request.start_us
        match request.symbol:
            case "PAGES":
                yield CorporateAction(start, "split", 4.0)
                yield bars(start, 3)
                yield bars(start + 3 * MINUTE, 3)
            case "BACK":
                yield bars(start + 3 * MINUTE, 3)
                yield bars(start, 3)
            case "BROKEN":
                yield bars(start, 3)
                yield bars(start + 3 * MINUTE, 3)
                raise RateLimited("slow down, " + self.secrets.get("key", ""), retry_after_s=7)
            case "SLEEP":
                await anyio.sleep_forever()
            case "FREEZE":
                time.sleep(1000)
            case "EAT":
                self.eaten = bytearray(os.urandom(1 << 20) * 300)
                await anyio.sleep_forever()
            case "AUTH":
                raise AuthFailed("the key " + self.secrets.get("key", "") + " was refused")
            case "EMPTY":
                raise Empty("nothing there")
            case "TALK":
                print("a line on stdout with", self.secrets["key"], flush=True)
                print("a line on stderr with", self.secrets["key"], file=sys.stderr, flush=True)
                self.log.warning("a line over the link with %s", self.secrets["key"])
            case "SPEND":
                await self.spend(3)
            case "ENV":
                request.warn(repr(dict(os.environ)) + os.getcwd() + repr(sys.argv))

    async def symbols(self, query, limit):
        return [Instrument(0, query, AssetClass.STOCK)]
"""


@dataclass
class World:
    """A supervisor at work over `folder`; `batches` is the road behind it."""

    folder: Path
    roster: Roster
    batches: trio.MemoryReceiveChannel[Batch]
    spent: list[tuple[str, int]] = field(default_factory=list)

    def write(self, slug: str = "puppet", manifest: str = MANIFEST, code: str | None = PUPPET) -> Path:
        folder = self.folder / slug
        folder.mkdir(exist_ok=True)
        if code is not None:
            (folder / "provider.py").write_text(code)
        (folder / "config.yaml").write_text(manifest.replace("puppet", slug))
        return folder

    def state(self, slug: str = "puppet") -> ProviderState | None:
        return next((state for state in self.roster.all() if state.slug == slug), None)

    async def reach(self, state: str, slug: str = "puppet") -> ProviderState:
        await until(lambda: (now := self.state(slug)) is not None and now.state == state)
        found = self.state(slug)
        assert found is not None
        return found

    def handle(self, slug: str = "puppet") -> ProviderHandle:
        handle = self.roster.get(slug)
        assert handle is not None
        return handle

    async def ask(self, symbol: str, slug: str = "puppet") -> None:
        await self.handle(slug).history(demand(symbol, slug))

    def arrived(self) -> list[Batch]:
        found = []
        while True:
            try:
                found.append(self.batches.receive_nowait())
            except trio.WouldBlock:
                return found


def demand(symbol: str, slug: str = "puppet", minutes: int = 10) -> Demand:
    series = Series(1, 1, symbol, slug, Interval.M1)
    return Demand(7, series, Instrument(1, symbol, AssetClass.STOCK), TimeRange(0, minutes * MINUTE_US))


async def until(claim: Callable[[], object]) -> None:
    with trio.fail_after(LONG_S):
        while not claim():  # noqa: ASYNC110 - files and processes set no event
            await trio.sleep(0.01)


@asynccontextmanager
async def supervised(tmp_path: Path, *slugs: str, manifest: str = MANIFEST, **how: object) -> AsyncIterator[World]:
    raw_in, raw_out = trio.open_memory_channel[Batch](100)
    folder = tmp_path / "manifests"
    folder.mkdir()
    world = World(folder, Roster(), raw_out)
    for slug in slugs:
        world.write(slug, manifest)

    async def spend(slug: str, n: int) -> None:
        world.spent.append((slug, n))

    settings = SupervisorSettings(
        (folder,), tmp_path / "data", **({"environ": {"PATH": os.environ["PATH"], "KEY": "hush-hush"}} | how)
    )
    with trio.fail_after(2 * LONG_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(run_supervisor, settings, world.roster, raw_in, spend)
            yield world
            nursery.cancel_scope.cancel()


def alive(pid: int | None) -> bool:
    try:
        return pid is not None and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


# --- questions ---


LISTING = MANIFEST + "lists_symbols: true\n"
LISTED = PUPPET.replace("(0, query, AssetClass.STOCK)", "(0, s, AssetClass.STOCK) for s in ('A', 'B')")


async def test_a_provider_that_lists_its_symbols_is_asked_for_them_before_it_is_ready(tmp_path: Path) -> None:
    async with supervised(tmp_path) as world:
        world.write("quiet", MANIFEST, LISTED)
        world.write("stocks", LISTING, LISTED)
        world.write("indices", LISTING.replace("[stocks]", "[indices]"), LISTED.replace("'B'", "'C'"))
        world.write("others", LISTING.replace("[stocks]", "[crypto, forex]"), LISTED)
        for slug in ("quiet", "stocks", "indices", "others"):
            await world.reach("ready", slug)
        # In the order of the slugs; what it looks like is not what its only class says.
        assert [(each.symbol, each.asset_class) for each in world.roster.symbols()] == [
            ("A", AssetClass.INDEX),
            ("C", AssetClass.INDEX),
            ("B", AssetClass.STOCK),
        ]
        assert world.handle("quiet").listed == world.handle("others").listed == ()


async def test_a_provider_that_cannot_list_its_symbols_is_ready_without(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = PUPPET.replace("return [Instrument(0, query, AssetClass.STOCK)]", "raise Empty('no list today')")
    async with supervised(tmp_path) as world:
        world.write("puppet", LISTING, broken)
        await world.reach("ready")
        await world.ask("PAGES")
    assert "does not say which symbols it has: no list today" in caplog.text


async def test_an_answer_becomes_batches_that_settle_the_whole_range(tmp_path: Path) -> None:
    async with supervised(tmp_path, "puppet") as world:
        await world.ask("PAGES")
        first, last = world.arrived()

    assert (first.covers, first.is_last) == (TimeRange(0, 3 * MINUTE_US), False)
    assert (last.covers, last.is_last) == (TimeRange(3 * MINUTE_US, 10 * MINUTE_US), True)
    assert [(batch.outcome, len(batch.bars), batch.demand_id) for batch in (first, last)] == [
        (Outcome.COMPLETE, 3, 7),
        (Outcome.COMPLETE, 3, 7),
    ]
    assert [action.kind for action in first.actions] == ["split"]


@pytest.mark.parametrize("symbol", ["EMPTY", "NOTHING"])
async def test_nothing_is_confirmed_empty(tmp_path: Path, symbol: str) -> None:
    async with supervised(tmp_path, "puppet") as world:
        await world.ask(symbol)
        (only,) = world.arrived()
    assert (only.outcome, only.is_last, only.covers) == (Outcome.EMPTY, True, TimeRange(0, 10 * MINUTE_US))


async def test_a_failure_after_bars_is_partial_and_carries_no_secret(tmp_path: Path) -> None:
    manifest = MANIFEST + "secrets: {key: {env: KEY}}\n"
    async with supervised(tmp_path, "puppet", manifest=manifest) as world:
        with pytest.raises(RateLimited, match=r"slow down, \*\*\*") as caught:
            await world.ask("BROKEN")
        first, second, last = world.arrived()

    assert caught.value.retry_after_s == 7
    assert [batch.outcome for batch in (first, second, last)] == [Outcome.COMPLETE, Outcome.COMPLETE, Outcome.PARTIAL]
    assert (last.covers, last.is_last) == (TimeRange(6 * MINUTE_US, 10 * MINUTE_US), True)
    assert last.why == "rate_limited: slow down, ***"


async def test_a_plugin_that_goes_back_in_time_is_malformed(tmp_path: Path) -> None:
    async with supervised(tmp_path, "puppet") as world:
        with pytest.raises(ProviderError, match="earlier than those of the message before"):
            await world.ask("BACK")
        assert [batch.outcome for batch in world.arrived()] == [Outcome.COMPLETE, Outcome.PARTIAL]


async def test_permission_to_spend_is_asked_under_the_providers_name(tmp_path: Path) -> None:
    async with supervised(tmp_path, "puppet") as world:
        await world.ask("SPEND")
        assert world.spent == [("puppet", 3)]


async def test_symbols_are_asked_where_the_plugin_knows_any(tmp_path: Path) -> None:
    async with supervised(tmp_path, "puppet") as world:
        world.write("mute", code=PUPPET.replace("def symbols", "def sym_bols"))
        await world.reach("ready", "mute")
        assert [found.symbol for found in await world.handle().symbols("AAPL", 5)] == ["AAPL"]
        with pytest.raises(Unsupported):
            await world.handle("mute").symbols("AAPL", 5)


async def test_no_more_questions_than_allowed_are_asked_at_once(tmp_path: Path) -> None:
    manifest = MANIFEST.replace("max_concurrent: 20", "max_concurrent: 1")
    async with supervised(tmp_path, "puppet", manifest=manifest) as world:
        began: list[str] = []

        async def ask(symbol: str, name: str) -> None:
            await world.handle().history(demand(symbol), asker=Ear(lambda: began.append(name)))

        async with trio.open_nursery() as askers:
            askers.start_soon(ask, "SLEEP", "first")
            await until(lambda: began)
            askers.start_soon(ask, "PAGES", "second")
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert began == ["first"]
            askers.cancel_scope.cancel()
        await ask("PAGES", "third")
        assert set(began) == {"first", "third"}


async def test_a_plugin_sees_a_clean_environment_and_its_own_folder(tmp_path: Path) -> None:
    async with supervised(tmp_path, "puppet") as world:
        await world.ask("ENV")
        (only,) = world.arrived()
    (seen,) = only.warnings
    assert "hush-hush" not in seen
    assert "'TIMEBASE_LINK': 'ipc://" in seen
    assert str(tmp_path / "data/providers/puppet/work") in seen


class Ear:
    """Who asks, and does something whenever the provider is asked or says something."""

    def __init__(self, heard: Callable[[], None]) -> None:
        self.heard = heard

    def held(self) -> None:
        pass


# --- falls ---


async def test_a_killed_plugin_fails_its_questions_at_once_and_is_back(tmp_path: Path) -> None:
    async with supervised(tmp_path, "puppet", "other") as world:
        await world.reach("ready")
        other = await world.reach("ready", "other")
        failed: list[ProviderError] = []
        async with trio.open_nursery() as askers:

            async def ask(began: trio.Event) -> None:
                try:
                    await world.handle().history(demand("SLEEP"), asker=Ear(began.set))
                except ProviderError as error:
                    failed.append(error)

            for _ in range(10):
                began = trio.Event()
                askers.start_soon(ask, began)
                await began.wait()
            before = await world.reach("ready")
            os.kill(before.pid or 0, signal.SIGKILL)
        assert [type(error) for error in failed] == [Unavailable] * 10
        assert [batch.outcome for batch in world.arrived()] == [Outcome.FAILED] * 10

        await until(lambda: (now := world.state()) and now.state == "ready" and now.pid != before.pid)
        after = await world.reach("ready")
        assert (after.restarts, after.last_error) == (1, "was ended by SIGKILL")
        await world.ask("PAGES")
        now = world.state("other")
        assert now is not None
        assert (now.pid, now.restarts) == (other.pid, 0)


async def test_a_plugin_killed_again_and_again_is_always_back(tmp_path: Path) -> None:
    async with supervised(tmp_path, "puppet") as world:
        for _ in range(4):
            before = await world.reach("ready")
            os.kill(before.pid or 0, signal.SIGKILL)
            await until(lambda pid=before.pid: (now := world.state()) and now.pid != pid)
        await world.reach("ready")
        await world.ask("PAGES")


async def test_a_crash_loop_is_retried_with_growing_pauses_and_a_visible_reason(tmp_path: Path) -> None:
    async with supervised(tmp_path, "other") as world:
        folder = world.write("puppet", code="raise RuntimeError('no libfoo')")
        (folder / "config.yaml").write_text(MANIFEST.replace("provider.py:Puppet", f"[{sys.executable}, -c, 'raise "
                                            "RuntimeError(0)']"))  # fmt: skip
        pauses: list[int] = []

        def note(slug: str) -> None:
            now = world.state(slug)
            if now is not None and now.next_retry_us is not None:
                pauses.append(now.next_retry_us - now.since_us)
                assert now.reason == "exited with status 1: RuntimeError: 0"

        world.roster.on_change.append(note)
        await until(lambda: len(pauses) >= 4)
        assert all(later > 1.3 * earlier for earlier, later in pairwise(pauses))
        await world.ask("PAGES", "other")
        with pytest.raises(Unavailable, match="RuntimeError: 0"):
            await world.ask("PAGES")
        world.write("puppet")
        await world.reach("ready")


async def test_a_fault_in_the_plugins_own_code_is_the_reason(tmp_path: Path) -> None:
    async with supervised(tmp_path) as world:
        world.write(code="import no_such_module")
        state = await world.reach("backing_off")
        assert "No module named 'no_such_module'" in state.reason


async def test_a_program_that_is_not_there_is_the_reason(tmp_path: Path) -> None:
    async with supervised(tmp_path) as world:
        world.write(manifest=MANIFEST.replace("provider.py:Puppet", "[no-such-program]"))
        state = await world.reach("backing_off")
        assert "no-such-program" in state.reason


async def test_a_plugin_that_says_no_hello_is_ended(tmp_path: Path) -> None:
    async with supervised(tmp_path, start_s=0.3) as world:
        world.write(manifest=MANIFEST.replace("provider.py:Puppet", "[sleep, '1000']"))
        state = await world.reach("backing_off")
        assert state.reason == "it said no hello within 0.3 s"
        assert state.pid is None


RUDE = """\
import os, sys, time
from pynng import Pair0
from timebase.wire.envelope import Type, pack_error, pack_message, unpack_message
from timebase.errors import AuthFailed
with Pair0() as core:
    core.dial(os.environ["TIMEBASE_LINK"], block=True)
    core.send({first})
    if sys.argv[1:] == ["refused"]:
        core.send(pack_error(unpack_message(core.recv()).id, AuthFailed("the key was refused")))
        time.sleep(0.1)
        sys.exit(3)
    time.sleep(1000)
"""


async def test_a_program_that_speaks_nonsense_is_ended_with_the_reason(tmp_path: Path) -> None:
    async with supervised(tmp_path) as world:
        code = RUDE.replace("{first}", 'b"nonsense"')
        world.write(manifest=MANIFEST.replace("provider.py:Puppet", f"[{sys.executable}, '{{folder}}/rude.py']"))
        (world.folder / "puppet" / "rude.py").write_text(code)
        state = await world.reach("backing_off")
        assert "does not speak the protocol" in state.reason


async def test_a_refused_key_is_the_reason_also_when_the_process_ends_at_once(tmp_path: Path) -> None:
    async with supervised(tmp_path) as world:
        code = RUDE.replace("{first}", 'pack_message(Type.HELLO, 0, sdk="rude", pid=1)')
        command = f"[{sys.executable}, '{{folder}}/rude.py', refused]"
        world.write(manifest=MANIFEST.replace("provider.py:Puppet", command))
        (world.folder / "puppet" / "rude.py").write_text(code)
        state = await world.reach("failed_auth")
        assert "the key was refused" in state.reason


async def test_a_plugin_that_answers_no_ping_is_ended_and_back(tmp_path: Path) -> None:
    async with supervised(tmp_path, "puppet", ping_s=0.2) as world:
        before = await world.reach("ready")
        with pytest.raises(Unavailable):
            await world.ask("FREEZE")
        await until(lambda: (now := world.state()) and now.state == "ready" and now.pid != before.pid)
        after = await world.reach("ready")
        assert after.last_error == "answered no ping for 0.6 s"
        assert not alive(before.pid)


async def test_a_plugin_that_eats_memory_is_ended_with_the_reason(tmp_path: Path) -> None:
    manifest = MANIFEST + "memory_mb: 200\n"
    async with supervised(tmp_path, "puppet", manifest=manifest, memory_s=0.05) as world:
        with pytest.raises(Unavailable):
            await world.ask("EAT")
        await world.reach("backing_off")
        await world.reach("ready")
        now = world.state()
        assert now is not None
        assert "MB of memory; its manifest allows memory_mb: 200" in now.last_error


async def test_a_refused_key_keeps_it_down_until_the_operator_says_otherwise(tmp_path: Path) -> None:
    manifest = MANIFEST + "secrets: {key: {env: KEY}}\n"
    async with supervised(tmp_path, "puppet", manifest=manifest) as world:
        with pytest.raises(AuthFailed, match=r"the key \*\*\* was refused"):
            await world.ask("AUTH")
        state = await world.reach("failed_auth")
        assert (state.reason, state.pid) == ("the key *** was refused", None)
        with pytest.raises(AuthFailed, match="was refused"):
            await world.ask("PAGES")
        await world.roster.enable("puppet")
        await world.ask("PAGES")


async def test_a_key_refused_in_setup_keeps_it_down_too(tmp_path: Path) -> None:
    code = PUPPET.replace(
        "async def history", "def setup(self):\n        raise AuthFailed('bad key')\n\n    async def history"
    )
    async with supervised(tmp_path) as world:
        world.write(code=code)
        state = await world.reach("failed_auth")
        assert state.reason == "bad key"


# --- manifests ---


async def test_a_folder_dropped_in_is_live_and_gone_when_removed(tmp_path: Path) -> None:
    async with supervised(tmp_path) as world:
        folder = world.write()
        state = await world.reach("ready")
        await world.ask("PAGES")
        shutil.rmtree(folder)
        await until(lambda: world.roster.get("puppet") is None)
        await until(lambda: not alive(state.pid))
        world.write()
        await world.reach("ready")


async def test_a_broken_manifest_is_listed_while_its_last_good_state_runs_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with supervised(tmp_path, "puppet") as world:
        before = await world.reach("ready")
        world.write(manifest=MANIFEST.replace("version: 1", "version: 1\nintervall: [1m]"), code=None)
        await until(world.roster.broken)
        (broken,) = world.roster.broken()
        assert broken.faults == (f"{world.folder}/puppet/config.yaml:4: unknown key `intervall`; write `intervals`",)
        assert broken.faults[0] in caplog.messages
        await world.ask("PAGES")
        now = world.state()
        assert now is not None
        assert (now.pid, now.state) == (before.pid, "ready")
        world.write(manifest=MANIFEST.replace("version: 1", "version: 2"))
        await until(lambda: (now := world.state()) and now.version == "2" and now.state == "ready")
        assert world.roster.broken() == ()


async def test_a_changed_manifest_restarts_that_provider_only(tmp_path: Path) -> None:
    async with supervised(tmp_path, "puppet", "other") as world:
        before, other = await world.reach("ready"), await world.reach("ready", "other")
        world.write(manifest=MANIFEST.replace("version: 1", "version: 2"))
        await until(lambda: (now := world.state()) and now.state == "ready" and now.pid != before.pid)
        now, still = world.state(), world.state("other")
        assert now is not None
        assert still is not None
        assert now.version == "2"
        assert still.pid == other.pid


async def test_a_provider_without_its_secret_waits_and_says_for_what(tmp_path: Path) -> None:
    manifest = MANIFEST + "secrets: {token: {env: NO_SUCH}}\noptions: {folder: {type: str}}\n"
    async with supervised(tmp_path, "puppet", manifest=manifest) as world:
        state = await world.reach("waiting")
        assert "option `folder` is not set" in state.reason
        assert "set the environment variable NO_SUCH" in state.reason
        with pytest.raises(Unavailable, match="NO_SUCH"):
            await world.ask("PAGES")


# --- orders ---


async def test_the_operators_switch_holds_over_restarts_of_the_server(tmp_path: Path) -> None:
    async with supervised(tmp_path, "puppet") as world:
        before = await world.reach("ready")
        after = await world.roster.disable("puppet")
        assert (after.state, after.reason) == ("disabled", "switched off by the operator")
        assert not alive(before.pid)
    shutil.rmtree(tmp_path / "manifests")
    async with supervised(tmp_path, "puppet") as world:
        await world.reach("disabled")
        await world.roster.enable("puppet")
        await world.ask("PAGES")


async def test_a_restart_gives_a_new_process_and_unknown_names_are_refused(tmp_path: Path) -> None:
    async with supervised(tmp_path, "puppet") as world:
        before = await world.reach("ready")
        await world.roster.restart("puppet")
        after = await world.reach("ready")
        assert after.pid != before.pid
        with pytest.raises(UnknownProvider, match="there are: puppet"):
            await world.roster.restart("pupet")


# --- output and ends ---


async def test_what_a_plugin_says_is_in_our_log_without_its_secrets(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    manifest = MANIFEST + "secrets: {key: {env: KEY}}\n"
    async with supervised(tmp_path, "puppet", manifest=manifest) as world:
        await world.ask("TALK")

        def said() -> set[tuple[str, str]]:
            return {(r.levelname, r.getMessage()) for r in caplog.records if r.name == "timebase.provider.puppet"}

        await until(
            lambda: (
                {
                    ("INFO", "a line on stdout with ***"),
                    ("WARNING", "a line on stderr with ***"),
                    ("WARNING", "a line over the link with ***"),
                }
                <= said()
            )
        )
    assert "hush-hush" not in caplog.text


async def test_a_stop_ends_every_process_in_order(tmp_path: Path) -> None:
    farewell = "    async def close(self):\n        (self.cache_dir / 'farewell').touch()\n"
    async with supervised(tmp_path) as world:
        for slug in ("puppet", "other"):
            world.write(slug, code=PUPPET + farewell)
        pids = [(await world.reach("ready", slug)).pid for slug in ("puppet", "other")]
    assert not any(map(alive, pids))
    assert all((tmp_path / f"data/providers/{slug}/cache/farewell").exists() for slug in ("puppet", "other"))


async def test_a_process_that_will_not_leave_is_killed_with_its_children(tmp_path: Path) -> None:
    code = "import subprocess\n" + PUPPET.replace(
        "async def history",
        "def setup(self):\n"
        "        child = subprocess.Popen(['sleep', '1000'])\n"
        "        (self.cache_dir / 'child').write_text(str(child.pid))\n\n"
        "    def close(self):\n        time.sleep(1000)\n\n"
        "    async def history",
    )
    async with supervised(tmp_path, grace_s=0.3) as world:
        world.write(code=code)
        state = await world.reach("ready")
        child = int((tmp_path / "data/providers/puppet/cache/child").read_text())
        assert alive(child)
    assert not alive(state.pid)
    await until(lambda: not alive(child))


async def test_questions_after_the_stop_are_told_so(tmp_path: Path) -> None:
    async with supervised(tmp_path, "puppet") as world:
        await world.reach("ready")
        handle = world.handle()
    with pytest.raises(Unavailable):
        await handle.history(demand("PAGES"))


CORE = """\
import sys, trio
from pathlib import Path
from timebase.supervisor.roster import Roster
from timebase.supervisor.settings import SupervisorSettings
from timebase.supervisor.supervisor import run_supervisor

async def main():
    roster = Roster()
    def tell(slug):
        handle = roster.get(slug)
        if handle is not None and handle.state == "ready":
            print(handle.pid, flush=True)
    roster.on_change.append(tell)
    async def spend(slug, n):
        pass
    raw_in, _ = trio.open_memory_channel(1)
    await run_supervisor(SupervisorSettings((Path(sys.argv[1]),), Path(sys.argv[2])), roster, raw_in, spend)

trio.run(main)
"""


async def test_the_plugins_of_a_killed_server_end_with_it(tmp_path: Path) -> None:
    folder = tmp_path / "manifests"
    folder.mkdir()
    world = World(folder, Roster(), None)  # type: ignore[arg-type]
    world.write()
    core = await trio.lowlevel.open_process(
        [sys.executable, "-c", CORE, str(folder), str(tmp_path / "data")],
        stdout=-1,
        env={**os.environ, "PYTHONPATH": ROOT},
    )
    assert core.stdout is not None
    with trio.fail_after(LONG_S):
        pid = int((await core.stdout.receive_some()).split()[0])
        assert alive(pid)
        core.kill()
        await core.wait()
    await until(lambda: not alive(pid))
    await core.stdout.aclose()
