"""budgets: the requests that were sent to providers, so that their limits hold across a restart."""

from typing import NamedTuple

from timebase.model.timerange import to_datetime, to_us
from timebase.storage.annex import Connection

_INSERT = "INSERT INTO budgets (provider, at, n, key) VALUES ($1, $2, $3, $4)"
_SELECT = "SELECT provider, at, n, key FROM budgets WHERE at >= $1 ORDER BY at, id"
_PRUNE = "DELETE FROM budgets WHERE at < $1"


class BudgetTake(NamedTuple):
    """`n` requests to `provider`; `key` names the question when identical ones are limited, else it is None."""

    provider: str
    at_us: int
    n: int
    key: str | None = None


async def insert_take(conn: Connection, take: BudgetTake) -> None:
    await conn.execute(_INSERT, take.provider, to_datetime(take.at_us), take.n, take.key or "")


async def select_takes(conn: Connection, since_us: int) -> list[BudgetTake]:
    """Order: oldest first."""
    return [
        BudgetTake(row["provider"], to_us(row["at"]), row["n"], row["key"] or None)
        for row in await conn.fetch(_SELECT, to_datetime(since_us))
    ]


async def prune_takes(conn: Connection, before_us: int) -> None:
    await conn.execute(_PRUNE, to_datetime(before_us))
