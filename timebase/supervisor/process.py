"""A plugin's process: its command, its environment, its folders, its start and its end."""

import os
import signal
import site
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import trio

from timebase.errors import ProviderError
from timebase.manifest.manifest import Manifest

PASSED_ON = frozenset(
    {
        "PATH", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "LD_LIBRARY_PATH", "NIX_SSL_CERT_FILE",
        "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS",
        "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy",
        "COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG",  # the tests measure the SDK where it runs
    }
)  # fmt: skip
PACKAGE_ROOT = Path(__file__).resolve().parents[2]
REAP_S = 5.0  # from SIGKILL to the end of a process that is stuck in the kernel


@dataclass(frozen=True, slots=True)
class Home:
    """A provider's own folders below the data directory. Nobody else may enter."""

    work: Path
    cache: Path
    switch: Path  # holds "on" or "off" when the operator has switched the provider while the server ran

    @classmethod
    def of(cls, data_dir: Path, slug: str) -> "Home":
        folder = data_dir.absolute() / "providers" / slug
        return cls(folder / "work", folder / "cache", folder / "switch")

    def read_switch(self) -> bool | None:
        try:
            return {"on": True, "off": False}.get(self.switch.read_text("ascii").strip())
        except (OSError, UnicodeDecodeError):
            return None

    def write_switch(self, is_on: bool) -> None:
        self.make()
        self.switch.write_text("on\n" if is_on else "off\n", "ascii")

    def make(self) -> None:
        for folder in (self.work, self.cache):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def command_line(manifest: Manifest) -> list[str]:
    if isinstance(manifest.entrypoint, tuple):
        return list(manifest.entrypoint)
    class_name = manifest.entrypoint.rpartition(":")[2]
    return [sys.executable, "-m", "timebase.sdk.run", f"{manifest.code}:{class_name}"]


def clean_environ(environ: Mapping[str, str], home: Home, address: str) -> dict[str, str]:
    """Nothing of the server's environment but what a program needs to run and to reach the network; no secret.

    The plugin's home is its own work folder, so that what libraries leave in `~` stays apart as well.
    """
    passed_on = {name: value for name, value in environ.items() if name in PASSED_ON}
    return passed_on | {
        "TIMEBASE_LINK": address,
        "HOME": str(home.work),
        "XDG_CACHE_HOME": str(home.cache),
        "TZ": "UTC",
        "PYTHONPATH": str(PACKAGE_ROOT),
        "PYTHONUSERBASE": site.getuserbase(),  # follows HOME otherwise, and our own packages may lie there
        "PYTHONSAFEPATH": "1",  # never import from the work folder
        "PYTHONUNBUFFERED": "1",
        "PYTHONUTF8": "1",
        "MALLOC_ARENA_MAX": "2",  # glibc reserves an arena per thread and core otherwise
    }


async def spawn(manifest: Manifest, home: Home, environ: Mapping[str, str]) -> trio.Process:
    """Raises: OSError when the program cannot be started."""
    await trio.to_thread.run_sync(home.make)
    return await trio.lowlevel.open_process(
        command_line(manifest),
        stdin=subprocess.PIPE,  # never written to: its end tells the plugin that we are gone
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=home.work,
        env=environ,
        start_new_session=True,  # Ctrl-C in our terminal is for us, and a kill reaches its children too
    )


async def end(process: trio.Process, farewell: Callable[[], Awaitable[None]], grace_s: float) -> None:
    """Ask it to leave, wait `grace_s`, then kill it and what it started. Call it shielded, with REAP_S to spare."""
    if process.returncode is None and grace_s > 0:
        with trio.move_on_after(grace_s):
            with suppress(ProviderError):
                await farewell()
            await _close_stdin(process)
            await process.wait()
    await _close_stdin(process)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


async def _close_stdin(process: trio.Process) -> None:
    if process.stdin is not None:
        await process.stdin.aclose()


def ending_of(returncode: int) -> str:
    """How a process ended, for people."""
    if returncode >= 0:
        return f"exited with status {returncode}"
    with suppress(ValueError):
        return f"was ended by {signal.Signals(-returncode).name}"
    return f"was ended by signal {-returncode}"


def memory_of(pid: int) -> int:
    """Resident bytes of the process; 0 when it is gone."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0
