"""What the database's errors mean to us: away (ask again later), or a fault of ours."""

import asyncpg
from asyncpg import (  # type: ignore[attr-defined]
    ClientConfigurationError,
    InterfaceError,
    InternalClientError,
    PostgresError,
)

from timebase.errors import StoreUnavailable, TimeBaseError

_AWAY = (
    OSError,  # refused, reset, no such socket; TimeoutError of a connect is one too
    EOFError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # shutting down, starting up, query cancelled by an operator
    asyncpg.InsufficientResourcesError,  # disk full, too many connections, out of memory
    asyncpg.PostgresSystemError,  # an I/O error below the database
    asyncpg.ReadOnlySQLTransactionError,  # a failover left us with a replica
    asyncpg.TransactionRollbackError,  # a deadlock with somebody else's transaction
)
_MISCONFIGURED = (
    ClientConfigurationError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)
# The last two: of a connection that lay idle when the database told it that it goes down, before it noticed the end,
# and of the rollback after that. No two of our tasks ever use one connection.
_LOST = (
    "closed", "closing", "terminated", "lost", "released back", "cannot switch to state",
    "another operation is in progress",
)  # fmt: skip


class StoreFault(TimeBaseError):
    """The database refused what we asked of it: a bug, or a database that somebody else changed."""

    code = "store_fault"


def is_away(error: BaseException) -> bool:
    """True when the database could not be reached or could not work, whatever was asked of it."""
    if isinstance(error, InterfaceError | InternalClientError):
        return any(word in str(error) for word in _LOST)
    return isinstance(error, _AWAY)


def is_lost(error: BaseException) -> bool:
    """True when a connection broke under us: a fresh one may well answer."""
    return is_away(error) and not isinstance(error, asyncpg.InsufficientResourcesError | ConnectionRefusedError)


def is_misconfigured(error: BaseException | None) -> bool:
    """True when only the operator can help: a wrong URL, password or database name."""
    return isinstance(error, _MISCONFIGURED)


def translated(error: Exception) -> Exception:
    """`error` as it may leave this folder."""
    if is_away(error):
        return StoreUnavailable(f"the database is away: {_said(error)}")
    if isinstance(error, PostgresError | InterfaceError | InternalClientError):
        return StoreFault(f"the database refused: {_said(error)}")
    return error


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
