"""Queries as values, so that several of them can go in one round trip.

A live commit is short: what the database does for it takes less time than the ways there and back, for on each of them
threads and processes wait for each other, and longer the busier the machine is.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, TypeVar, overload

from timebase.storage.annex import Connection

_ROWS_OF = "ARRAY(SELECT {0} FROM {0})"

T = TypeVar("T")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
Row = Sequence[Any]


@dataclass(frozen=True, slots=True)
class Query(Generic[T]):
    """SQL with its arguments. `read` makes the answer of its rows; None: an INSERT, UPDATE or DELETE without rows."""

    text: str
    args: tuple[object, ...]
    read: Callable[[Sequence[Row]], T] | None = None


@overload
async def ask(conn: Connection, q1: Query[T1], /) -> tuple[T1]: ...
@overload
async def ask(conn: Connection, q1: Query[T1], q2: Query[T2], /) -> tuple[T1, T2]: ...
@overload
async def ask(conn: Connection, /, *queries: Query[Any]) -> tuple[Any, ...]: ...
async def ask(conn: Connection, /, *queries: Query[Any]) -> tuple[Any, ...]:
    """Their answers, in one round trip; none when there are none. None of them sees what another one changes."""
    if not queries:
        return ()
    if len(queries) == 1:
        answers: Sequence[Any] = [await conn.fetch(queries[0].text, *queries[0].args)]
    else:
        text = _combined(tuple((query.text, len(query.args), query.read is not None) for query in queries))
        answers = await conn.fetchrow(text, *(arg for query in queries for arg in query.args))
    rows = iter(answers)
    return tuple(None if query.read is None else query.read(next(rows)) for query in queries)


@lru_cache(maxsize=64)
def _combined(parts: tuple[tuple[str, int, bool], ...]) -> str:
    """Each a common table expression, and of those that return rows an array of them."""
    tables, arrays, before = [], [], 0
    for place, (text, n, has_rows) in enumerate(parts):
        tables.append(f"q{place} AS ({_shifted(text, before)})")
        if has_rows:
            arrays.append(_ROWS_OF.format(f"q{place}"))
        before += n
    return f"WITH {', '.join(tables)} SELECT {', '.join(arrays)}"


def _shifted(text: str, by: int) -> str:
    """The same query with its arguments behind `by` others."""
    return re.sub(r"\$(\d+)", lambda found: f"${int(found[1]) + by}", text)
