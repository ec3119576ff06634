"""Bringing a database to the shape of this version: schema/NNNN_*.sql, each once, in order, one server at a time.

`NNNN_name.timescale.sql` runs only where the TimescaleDB extension is; should it arrive later, they run then.
"""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from timebase.errors import ConfigError
from timebase.house import SCHEMA
from timebase.storage.annex import Connection

logger = logging.getLogger(__name__)

OLDEST_POSTGRESQL = 14  # the first with multiranges
_LOCK_KEY = 0x74696D65_62617365  # "timebase"
_FOR_TIMESCALE = ".timescale.sql"

_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    name       text PRIMARY KEY,
    checksum   text        NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""
_SELECT = "SELECT name, checksum FROM schema_migrations"
_INSERT = "INSERT INTO schema_migrations (name, checksum) VALUES ($1, $2)"

_HAS_TIMESCALE = "SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')"
_CAN_HAVE_TIMESCALE = """
SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb')
       AND current_setting('shared_preload_libraries') LIKE '%timescaledb%'
"""


@dataclass(frozen=True, slots=True)
class Migrated:
    applied: tuple[str, ...]  # by this run
    known: tuple[str, ...]  # all that this database has
    has_timescale: bool


async def migrate(conn: Connection, folder: Path = SCHEMA) -> Migrated:
    """Apply what is missing, all of it or nothing.

    Raises: ConfigError when the database was made by a newer TimeBase, or a file was changed after it had been applied.
    """
    async with conn.transaction():
        await conn.execute("SELECT pg_advisory_xact_lock($1)", _LOCK_KEY)
        if conn.get_server_version().major < OLDEST_POSTGRESQL:
            raise ConfigError([f"database_url: PostgreSQL {OLDEST_POSTGRESQL} or later is needed"])
        has_timescale = await _ensure_timescale(conn)
        await conn.execute(_TABLE)
        done = {row["name"]: row["checksum"] for row in await conn.fetch(_SELECT)}
        files = migrations(folder)
        _compare(done, files)
        missing = [name for name in files if name not in done and (has_timescale or not name.endswith(_FOR_TIMESCALE))]
        for name in missing:
            await conn.execute(files[name])
            await conn.execute(_INSERT, name, _checksum(files[name]))
            logger.info("migration %s applied", name)
    return Migrated(tuple(missing), tuple(sorted({*done, *missing})), has_timescale)


def migrations(folder: Path = SCHEMA) -> dict[str, str]:
    """Name -> SQL, in the order in which they are applied."""
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.glob("[0-9][0-9][0-9][0-9]_*.sql"))}


def _compare(done: Mapping[str, str], files: Mapping[str, str]) -> None:
    faults = [
        f"the database has migration {name}, which this version does not know: start the newer TimeBase"
        for name in sorted(done.keys() - files.keys())
    ]
    faults += [
        f"schema/{name} was changed after it had been applied: restore the file, and write a new migration instead"
        for name in sorted(done.keys() & files.keys())
        if done[name] != _checksum(files[name])
    ]
    if faults:
        raise ConfigError(faults)


def _checksum(sql: str) -> str:
    return hashlib.sha256(sql.encode()).hexdigest()


async def _ensure_timescale(conn: Connection) -> bool:
    if await conn.fetchval(_HAS_TIMESCALE):
        return True
    if not await conn.fetchval(_CAN_HAVE_TIMESCALE):
        return False
    try:
        async with conn.transaction():
            await conn.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
    except asyncpg.InsufficientPrivilegeError:
        logger.warning("TimescaleDB is there, but this user may not create the extension: going on without it")
        return False
    return True
