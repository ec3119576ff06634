"""Bringing databases to the shape of this version."""

from pathlib import Path

import pytest
import trio

from timebase.errors import ConfigError
from timebase.storage.annex import Connection, open_annex
from timebase.storage.migrate import migrate, migrations
from timebase.storage.store import open_store


def schema(folder: Path, **files: str) -> Path:
    for name, sql in files.items():
        (folder / f"{name.removeprefix('m').replace('__', '.')}.sql").write_text(sql)
    return folder


async def tables(conn: Connection) -> set[str]:
    return {row[0] for row in await conn.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}


async def test_each_is_applied_once(empty_database_url: str, tmp_path: Path) -> None:
    async with open_store(empty_database_url, tmp_path) as store:
        first = store.applied_migrations
    async with open_store(empty_database_url, tmp_path) as store:
        assert store.applied_migrations == ()
    wanted = [name for name in migrations() if store.has_timescale or ".timescale." not in name]
    assert list(first) == wanted


async def test_two_servers_that_start_together_do_not_fall_over_each_other(
    empty_database_url: str, tmp_path: Path
) -> None:
    applied = []

    async def start() -> None:
        async with open_store(empty_database_url, tmp_path) as store:
            applied.append(store.applied_migrations)

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(start)
    assert sorted(map(bool, applied)) == [False, False, False, True]


async def test_one_that_fails_leaves_nothing_behind(empty_database_url: str, tmp_path: Path) -> None:
    folder = schema(tmp_path, m0001_good="CREATE TABLE good ()", m0002_bad="CREATE TABLE half (); SELECT 1/0")
    async with open_annex(empty_database_url) as annex:
        with pytest.raises(Exception, match="division by zero"):
            await annex.run(migrate, folder)
        assert not {"good", "half", "schema_migrations"} & await annex.run(tables)


async def test_new_ones_are_applied_to_an_old_database(empty_database_url: str, tmp_path: Path) -> None:
    async with open_annex(empty_database_url) as annex:
        await annex.run(migrate, schema(tmp_path, m0001_a="CREATE TABLE a ()"))
        migrated = await annex.run(migrate, schema(tmp_path, m0002_b="CREATE TABLE b ()"))
        assert migrated.applied == ("0002_b.sql",)
        assert {"a", "b"} <= await annex.run(tables)


async def test_one_that_was_changed_after_it_had_been_applied_is_named(empty_database_url: str, tmp_path: Path) -> None:
    async with open_annex(empty_database_url) as annex:
        await annex.run(migrate, schema(tmp_path, m0001_a="CREATE TABLE a ()"))
        with pytest.raises(ConfigError, match=r"schema/0001_a\.sql was changed"):
            await annex.run(migrate, schema(tmp_path, m0001_a="CREATE TABLE b ()"))


async def test_a_database_of_a_newer_version_is_left_alone(empty_database_url: str, tmp_path: Path) -> None:
    newer = tmp_path / "newer"
    newer.mkdir()
    async with open_annex(empty_database_url) as annex:
        await annex.run(migrate, schema(newer, m0001_a="SELECT 1", m0002_b="CREATE TABLE b ()"))
        with pytest.raises(ConfigError, match=r"0002_b\.sql"):
            await annex.run(migrate, schema(tmp_path, m0001_a="SELECT 1", m0003_c="CREATE TABLE c ()"))
        assert "c" not in await annex.run(tables)


async def test_those_for_timescale_run_only_where_it_is(empty_database_url: str, tmp_path: Path) -> None:
    folder = schema(tmp_path, m0001_a="SELECT 1", m0002_b__timescale="CREATE TABLE chunky ()")
    async with open_annex(empty_database_url) as annex:
        migrated = await annex.run(migrate, folder)
        assert ("chunky" in await annex.run(tables)) == migrated.has_timescale
        assert ("0002_b.timescale.sql" in migrated.known) == migrated.has_timescale
