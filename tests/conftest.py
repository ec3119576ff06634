"""What many tests need: a database of their own, the store over it, and an eye on the log.

TIMEBASE_TEST_DATABASE_URL names a PostgreSQL or TimescaleDB whose user may create databases; unset, an embedded one is
started for the session. Each session makes a template, each test gets a clone of it.
"""

import asyncio
import logging
import os
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
import trio

from timebase.storage.embedded import cluster_in
from timebase.storage.migrate import migrate
from timebase.storage.store import Store, open_store

TEST_DATABASE_URL = "TIMEBASE_TEST_DATABASE_URL"
SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture
def expected_errors() -> list[str]:
    """Words of ERROR log lines that a test provokes; any other ERROR fails it."""
    return []


@pytest.fixture(autouse=True)
def _no_unexpected_errors(caplog: pytest.LogCaptureFixture, expected_errors: list[str]) -> Iterator[None]:
    yield
    records = [*caplog.get_records("setup"), *caplog.get_records("call")]
    said = [record.getMessage() for record in records if record.levelno >= logging.ERROR]
    unexpected = [line for line in said if not any(words in line for words in expected_errors)]
    assert not unexpected, f"logged as ERROR: {unexpected}"


@pytest.fixture
def shared_data() -> Path:
    """The real market data beside the checkout."""
    if not SHARED_DATA.is_dir():
        pytest.skip("../shared/data is not here")
    return SHARED_DATA


@pytest.fixture(scope="session")
def admin_url() -> Iterator[str]:
    """A database server to make databases in."""
    given = os.environ.get(TEST_DATABASE_URL)
    if given:
        yield given
        return
    folder = Path(tempfile.mkdtemp(prefix="timebase-"))
    cluster = cluster_in(folder / "postgres")
    try:
        trio.run(cluster.start)
        # Nobody pulls the plug on a test database, and a commit is 3 ms shorter without the disk.
        _sql(cluster.url, "ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
        yield cluster.url
    finally:
        trio.run(cluster.stop)
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def template_database(admin_url: str) -> Iterator[str]:
    """The name of a migrated database without connections."""
    name = f"timebase_template_{uuid.uuid4().hex[:12]}"
    _sql(admin_url, f"CREATE DATABASE {name}")
    try:
        asyncio.run(_migrate(database_of(admin_url, name)))
        # TimescaleDB's background workers connect to every database that lets them, and then it cannot be cloned.
        _sql(admin_url, f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        _sql(admin_url, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        yield name
    finally:
        _sql(admin_url, f"DROP DATABASE {name} WITH (FORCE)")


def creation(name: str, template: str) -> str:
    """Makes a database. As files, not through the log: 20 ms and not 110, where nothing is synced."""
    return f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy"


@pytest.fixture
def empty_database_url(admin_url: str) -> Iterator[str]:
    """A database without anything in it, for the test alone."""
    with _database(admin_url, "template0") as url:
        yield url


@pytest.fixture
def database_url(admin_url: str, template_database: str) -> Iterator[str]:
    """A migrated database for the test alone."""
    with _database(admin_url, template_database) as url:
        yield url


@pytest.fixture
async def store(database_url: str, tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(database_url, tmp_path) as opened:
        yield opened


@contextmanager
def _database(admin_url: str, template: str) -> Iterator[str]:
    name = f"timebase_test_{uuid.uuid4().hex[:12]}"
    _sql(admin_url, creation(name, template))
    try:
        yield database_of(admin_url, name)
    finally:
        _sql(admin_url, f"DROP DATABASE {name} WITH (FORCE)")


def database_of(url: str, name: str) -> str:
    """The URL of another database on the same server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def _sql(url: str, *statements: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(url)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(run())


async def _migrate(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await migrate(connection)
    finally:
        await connection.close()
