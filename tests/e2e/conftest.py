"""Real servers for the tests: `timebase serve` as a child process, with stub providers and a database of its own.

The database is a new one of the session's (see tests/conftest.py), or the embedded one where a test is about that;
with TIMEBASE_TEST_DATABASE_URL it is always one on the server which that names.
"""

import asyncio
import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import httpx
import pytest
from conftest import creation
from e2e.running import Server, asking
from e2e.stubs import Stub

HAS_EMBEDDED = "TIMEBASE_TEST_DATABASE_URL" not in os.environ
ServerMaker = Callable[..., AbstractContextManager[Server]]


@pytest.fixture(scope="session", autouse=True)
def _heeds_interrupts() -> None:
    """A shell lets what it starts in the background ignore SIGINT, and so would every server and command from here."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def new_database(admin_url: str, template_database: str) -> Iterator[Callable[[], str]]:
    """Makes migrated databases for servers that need not bring their own."""
    made: list[str] = []

    def make() -> str:
        name = f"timebase_e2e_{uuid.uuid4().hex[:12]}"
        asyncio.run(_execute(admin_url, creation(name, template_database)))
        made.append(name)
        return urlunsplit(urlsplit(admin_url)._replace(path=f"/{name}"))

    yield make
    for name in () if HAS_EMBEDDED else made:  # an embedded server goes with all that it has: a minute less of dropping
        asyncio.run(_execute(admin_url, f"DROP DATABASE {name} WITH (FORCE)"))


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def new_home() -> Iterator[Callable[[], Path]]:
    """Makes folders for servers.

    Not below pytest's own: that one takes the right to pass through it from other accounts whenever it starts.
    """
    made: list[Path] = []

    def make() -> Path:
        made.append(Path(tempfile.mkdtemp(prefix="timebase-e2e-")))
        return made[-1]

    yield make
    for home in made:
        shutil.rmtree(home)


@pytest.fixture
def home(new_home: Callable[[], Path]) -> Path:
    return new_home()


@pytest.fixture(scope="session")
def serving(new_database: Callable[[], str]) -> ServerMaker:
    """A running server over `home`, whose manifests are in `home`/manifests unless said otherwise.

    However the test left it, it ends in order, with exit code 0 and without an ERROR in its log.
    """

    @contextmanager
    def serve(home: Path, *, is_embedded: bool = False, **settings: Any) -> Iterator[Server]:
        own = home / "manifests"
        own.mkdir(parents=True, exist_ok=True)
        if "database_url" not in settings and not (is_embedded and HAS_EMBEDDED):
            settings["database_url"] = new_database()
        server = Server(home, settings.pop("manifests", [own]), **settings)
        server.start()
        is_good = False
        try:
            yield server
            is_good = True
        finally:
            code = server.stop()
            if not is_good or server.errors():
                print(server.log()[-20_000:])
        assert code == 0
        assert server.errors() == []

    return serve


@dataclass(frozen=True, slots=True)
class Hall:
    """One server for all tests that can share it: each asks for symbols of its own.

    `a` is asked first, `b` next. `b` knows no symbol that it has no script for. Circuits stay closed.
    """

    server: Server
    a: Stub
    b: Stub


@pytest.fixture(scope="session")
def hall(new_home: Callable[[], Path], serving: ServerMaker) -> Iterator[Hall]:
    home = new_home()
    manifests, folder = home / "manifests", home / "stubs"
    manifests.mkdir()
    a = Stub("stub-a", manifests, folder, priority=60)
    b = Stub("stub-b", manifests, folder, priority=40)
    b.script("*", {"code": "unknown_symbol", "message": "stub-b does not know it"})
    with serving(home, is_embedded=True, breaker_failures=1000) as server:
        yield Hall(server, a, b)


@pytest.fixture
async def client(hall: Hall) -> AsyncIterator[httpx.AsyncClient]:
    """Asks the hall's server, whose providers are ready."""
    async with asking(hall.server) as asker:
        yield asker
