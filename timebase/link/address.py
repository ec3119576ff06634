"""Where core and plugin meet: one socket per plugin process in a directory that only this user can enter."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

_PREFIX = "timebase-run-"
_LOCK = "lock"
_LONGEST_PATH = 100  # a unix socket's path has 107 bytes, and `/12345.sock` must fit behind the directory


class RunDirectory:
    def __init__(self, path: Path) -> None:
        self.path = path
        self._numbers = count(1)

    def new_address(self) -> str:
        """An address that nobody has used: a restarted plugin must not meet its predecessor's messages."""
        return f"ipc://{self.path}/{next(self._numbers)}.sock"


@contextmanager
def open_run_directory() -> Iterator[RunDirectory]:
    """A 0700 directory for the sockets, removed at the end; those of killed servers are swept away first."""
    parent = _short_parent()
    _sweep(parent)
    path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    lock = os.open(path / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield RunDirectory(path)
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def _short_parent() -> Path:
    preferred = Path(tempfile.gettempdir())
    needed = len(os.fsencode(preferred)) + len(_PREFIX) + len("/12345678/123456.sock")
    return preferred if needed <= _LONGEST_PATH else Path("/tmp")  # noqa: S108


def _sweep(parent: Path) -> None:
    """Remove our directories whose lock nobody holds: their server did not live to do it."""
    for path in parent.glob(f"{_PREFIX}*"):
        try:
            lock = os.open(path / _LOCK, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue  # not ours, or being made this moment
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
        except OSError:
            pass  # its server lives
        finally:
            os.close(lock)
