"""A real server in a process of its own, and the commands that ask it."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil
import trio

T = TypeVar("T")

LISTENS = re.compile(r"TimeBase listens on (http://\S+)")
START_S = 60.0  # a new cluster on a busy machine
POLL_S = 0.02
ENDS_S = 30.0


class Server:
    """`timebase serve` over the data directory `home`/data. May be killed and started again."""

    def __init__(self, home: Path, manifests: Sequence[Path], **settings: object) -> None:
        self.home = home
        self.data_dir = home / "data"
        self.log_file = home / "server.log"
        self.environ = clean_environ() | {
            "TIMEBASE_PORT": "0",
            "TIMEBASE_DATA_DIR": str(self.data_dir),
            "TIMEBASE_MANIFESTS": os.pathsep.join(str(folder) for folder in manifests),
            **{f"TIMEBASE_{name.upper()}": str(value) for name, value in settings.items() if value is not None},
        }
        self.url = ""
        self._process: subprocess.Popen[bytes] | None = None
        home.mkdir(parents=True, exist_ok=True)

    def start(self) -> "Server":
        """Returns when it listens."""
        offset = self.log_file.stat().st_size if self.log_file.exists() else 0
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "timebase", "serve"],
                cwd=self.home, env=self.environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        until = time.monotonic() + START_S
        while (found := LISTENS.search(self.log(offset))) is None:
            assert self._process.poll() is None, f"the server ended: {self.log(offset)}"
            assert time.monotonic() < until, f"the server does not start: {self.log(offset)}"
            time.sleep(POLL_S)
        self.url = found[1]
        return self

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        assert self._process is not None
        return self._process

    def log(self, offset: int = 0) -> str:
        return self.log_file.read_bytes()[offset:].decode(errors="replace")

    def errors(self) -> list[str]:
        """What it logged as ERROR, and tracebacks."""
        return [line for line in self.log().splitlines() if " ERROR " in line or line.startswith("Traceback")]

    def kill(self) -> None:
        """As the kernel's out-of-memory killer does it: only the core, with no word to anybody."""
        self.process.kill()
        self.process.wait(ENDS_S)

    def stop(self) -> int:
        """Returns: its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(ENDS_S)

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=self.url, timeout=60.0, limits=httpx.Limits(max_connections=None), trust_env=False
        )

    def children(self) -> list[psutil.Process]:
        """The provider processes."""
        return [
            child
            for child in psutil.Process(self.process.pid).children(recursive=True)
            if "postgres" not in child.name()
        ]

    def connections(self) -> int:
        """How many clients it has accepted."""
        connected = psutil.Process(self.process.pid).net_connections("tcp")
        return sum(1 for each in connected if each.status == psutil.CONN_ESTABLISHED)

    def run(self, *arguments: str, **environ: str) -> "subprocess.CompletedProcess[bytes]":
        """A `timebase` command that finds this server."""
        return command(*arguments, cwd=self.home, environ=self.environ | {"TIMEBASE_SERVER": self.url, **environ})


def command(
    *arguments: str, cwd: Path, environ: Mapping[str, str] | None = None, limit_s: float = 60.0
) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [sys.executable, "-m", "timebase", *arguments],
        cwd=cwd, env=dict(clean_environ() if environ is None else environ), capture_output=True, timeout=limit_s,
        check=False,
    )  # fmt: skip


def clean_environ() -> dict[str, str]:
    """Ours, without what somebody configured for a TimeBase of their own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TIMEBASE_")}
    return kept | {"PYTHONPATH": str(Path(__file__).resolve().parents[2]), "COLUMNS": "200"}


async def until(condition: Callable[[], Awaitable[T] | T], within_s: float = 20.0) -> T:
    """Ask again and again until `condition` gives something; its last word is the failure."""
    with trio.move_on_after(within_s):
        while True:
            found = condition()
            if isinstance(found, Awaitable):
                found = await found
            if found:
                return found
            await trio.sleep(POLL_S)
    raise AssertionError(f"not within {within_s:g} s")


@asynccontextmanager
async def asking(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    """A client, with every provider of the server ready."""
    async with server.client() as client:
        await until(lambda: all_ready(client))
        yield client


async def taken_up(server: Server, client: httpx.AsyncClient, n: int) -> None:
    """Returns when n requests that were just sent are under way in the server: it reads what came first, first."""
    await until(lambda: server.connections() >= n)
    for _ in range(2):
        await client.get("/api/v1/providers")


async def states(client: httpx.AsyncClient) -> dict[str, dict[str, Any]]:
    reply = (await client.get("/api/v1/providers")).json()
    return {each["slug"]: each for each in reply["providers"]}


async def all_ready(client: httpx.AsyncClient) -> bool:
    known = await states(client)
    return bool(known) and all(each["state"] == "ready" for each in known.values())


async def is_ready(client: httpx.AsyncClient, slug: str, but_not: int | None = None) -> bool:
    """Whether the provider is ready, in another process than `but_not`."""
    state = (await states(client)).get(slug)
    return state is not None and state["state"] == "ready" and state["pid"] != but_not
