import asyncpg
import pytest

from timebase.errors import StoreUnavailable
from timebase.storage.faults import StoreFault, is_lost, translated

AWAY = [
    ConnectionRefusedError(),
    FileNotFoundError("no such socket"),
    TimeoutError(),
    asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"),
    asyncpg.CannotConnectNowError("the database system is starting up"),
    asyncpg.AdminShutdownError("terminating connection"),
    asyncpg.CrashShutdownError("terminating connection"),
    asyncpg.DiskFullError("could not extend file"),
    asyncpg.TooManyConnectionsError("sorry"),
    asyncpg.DeadlockDetectedError("deadlock"),
    asyncpg.InterfaceError("connection is closed"),
    asyncpg.InternalClientError("cannot switch to state 11; another operation (2) is in progress"),
    asyncpg.InterfaceError("cannot perform operation: another operation is in progress"),
]


@pytest.mark.parametrize("error", AWAY, ids=lambda error: type(error).__name__)
def test_a_database_that_cannot_be_used_now_is_away(error: Exception) -> None:
    assert isinstance(translated(error), StoreUnavailable)


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.UndefinedTableError("relation"),
        asyncpg.NotNullViolationError("null"),
        asyncpg.InterfaceError("the server expects 2 arguments"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_the_database_refuses_is_a_fault(error: Exception) -> None:
    assert isinstance(translated(error), StoreFault)


def test_errors_of_our_own_pass_unchanged() -> None:
    error = ValueError("x")
    assert translated(error) is error


def test_only_a_broken_connection_is_worth_a_second_try() -> None:
    assert is_lost(asyncpg.ConnectionDoesNotExistError("lost"))
    assert not is_lost(ConnectionRefusedError())
    assert not is_lost(asyncpg.DiskFullError("full"))
    assert not is_lost(asyncpg.UndefinedTableError("relation"))
