"""Several queries in one round trip, over a real database."""

from collections.abc import AsyncIterator

import pytest

from timebase.storage.annex import Annex, Connection, open_annex
from timebase.storage.queries.query import Query, ask


@pytest.fixture
async def annex(database_url: str) -> AsyncIterator[Annex]:
    async with open_annex(database_url) as opened:
        yield opened


def numbers(upto: int) -> Query[list[int]]:
    return Query("SELECT n, n * 0.5 FROM generate_series(1, $1::integer) n", (upto,), lambda rows: [n for n, _ in rows])


def shout(text: str, times: int) -> Query[str]:
    return Query("SELECT repeat($1::text, $2::integer)", (text, times), lambda rows: "".join(word for (word,) in rows))


async def test_each_query_has_its_own_arguments_and_its_own_answer(annex: Annex) -> None:
    async def asked(conn: Connection) -> tuple[list[int], str, list[int]]:
        return await ask(conn, numbers(3), shout("ho", 2), numbers(0))

    assert await annex.run(asked) == ([1, 2, 3], "hoho", [])


async def test_more_than_nine_arguments_are_told_apart(annex: Annex) -> None:
    async def asked(conn: Connection) -> tuple[str, ...]:
        return await ask(conn, *(shout(letter, 1) for letter in "abcdefgh"))

    assert "".join(await annex.run(asked)) == "abcdefgh"


async def test_alone_and_none_at_all(annex: Annex) -> None:
    async def asked(conn: Connection) -> tuple[object, ...]:
        return (await ask(conn, numbers(2)), await ask(conn))

    assert await annex.run(asked) == (([1, 2],), ())


async def test_what_changes_something_is_done_also_when_nothing_is_asked_of_it(annex: Annex) -> None:
    insert = "INSERT INTO replayed (writer, file) VALUES ($1, $2)"

    async def asked(conn: Connection) -> list[str]:
        assert await ask(conn, Query(insert, ("w", "one")), Query(insert, ("w", "two"))) == (None, None)
        assert await ask(conn, Query(insert, ("w", "three")), numbers(1)) == (None, [1])
        return [row["file"] for row in await conn.fetch("SELECT file FROM replayed WHERE writer = 'w' ORDER BY file")]

    assert await annex.run(asked) == ["one", "three", "two"]
