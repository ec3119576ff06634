"""A whole server in the test's own process, so that the test can look at what it holds."""

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import trio

from timebase import app
from timebase.config import Settings


@dataclass(frozen=True, slots=True)
class Inside:
    """Where it listens; as far as tests need it, what `running.Server` is."""

    url: str

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, timeout=60.0, trust_env=False)


@dataclass(frozen=True, slots=True)
class Holdings:
    """What the process has open, and keeps."""

    descriptors: int
    tasks: int
    zombies: int
    kept_bytes: int


@asynccontextmanager
async def serving_inside(home: Path, database_url: str) -> AsyncIterator[Inside]:
    """It serves the manifests of `home`, and ends in order with the block."""
    settings = Settings(
        port=0, data_dir=home / "data", database_url=database_url, manifests=(home / "manifests",), lateness_s=0.5
    )
    stop, listens = trio.Event(), trio.Event()
    ports: list[int] = []

    def started(port: int) -> None:
        ports.append(port)
        listens.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(app.run, settings, stop, started)
        with trio.fail_after(60):
            await listens.wait()
        try:
            yield Inside(f"http://127.0.0.1:{ports[0]}")
        finally:
            stop.set()


def holdings() -> Holdings:
    gc.collect()
    own = psutil.Process()
    zombies = [child for child in own.children() if child.status() == psutil.STATUS_ZOMBIE]
    return Holdings(own.num_fds(), trio.lowlevel.current_statistics().tasks_living, len(zombies), own.memory_info().rss)
