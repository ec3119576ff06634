"""Where good batches wait on disk while the database is away: a queue of files, replayed in order.

One file per append, written aside, synced and renamed: a file under its final name is whole. What is in it:
`spool_format.py`.
"""

import fcntl
import logging
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from timebase.errors import ConfigError
from timebase.model.bars import Batch
from timebase.model.live import LiveBatch
from timebase.storage.delivery import Delivery
from timebase.storage.spool_format import Damaged, SpooledLive, pack, pack_live, unpack

logger = logging.getLogger(__name__)

SUFFIX, ASIDE = ".batches", ".set-aside"
_MB = 1 << 20


Piece = bytes


class SpoolFull(Exception):
    """The spool could not take it: its bound is reached, or the disk's."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """One file of the spool: batches of history, or one live delivery."""

    path: Path
    batches: tuple[Batch, ...] = ()
    live: SpooledLive | None = None


class Spool:
    """Made by `open_spool`. One task at a time."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.writer = _name_of(folder)  # whose deliveries the database remembers, also after a restart
        self._folder = folder
        self._sizes = {path: path.stat().st_size for path in sorted(folder.glob(f"*{SUFFIX}"))}
        numbers = [int(path.name.split(".")[0]) for path in folder.glob("[0-9]*.*")]
        self._next = max(numbers, default=0) + 1

    def __len__(self) -> int:
        """Files that wait."""
        return len(self._sizes)

    @property
    def bytes(self) -> int:
        return sum(self._sizes.values())

    async def append(self, batches: Sequence[Batch]) -> None:
        """When this returns, `batches` outlive a crash of the machine.

        Raises: SpoolFull, and then nothing of them is kept.
        """
        await self._append(list(pack(batches)))

    async def append_live(self, batches: Sequence[LiveBatch], delivery: Delivery) -> None:
        """The same of what `delivery` stores of live batches."""
        await self._append(list(pack_live(batches, delivery)))

    async def _append(self, pieces: Sequence[Piece]) -> None:
        size = sum(len(piece) for piece in pieces)
        if self.bytes + size > self.max_bytes:
            raise SpoolFull(f"the spool holds {self.bytes / _MB:.1f} of {self.max_bytes / _MB:.1f} MB")
        path = self._folder / f"{self._next:012d}{SUFFIX}"
        await trio.to_thread.run_sync(_write, path, pieces)
        self._next += 1
        self._sizes[path] = size

    async def oldest(self) -> Waiting | None:
        """The file to replay next. One that cannot be read is set aside, loudly."""
        for path in list(self._sizes):
            try:
                return await trio.to_thread.run_sync(_read, path)
            except (Damaged, OSError) as error:
                await self.set_aside(path, str(error))
        return None

    async def remove(self, path: Path) -> None:
        """Forget a file whose batches are in the database. Durable, lest it be replayed over newer ones."""
        await trio.to_thread.run_sync(_unlink, path)
        del self._sizes[path]

    async def set_aside(self, path: Path, why: str) -> None:
        """Keep a file for people to look at, out of the queue."""
        aside = path.with_suffix(ASIDE)
        logger.error("the spooled %s cannot be replayed and is kept as %s: %s", path.name, aside, why)
        await trio.to_thread.run_sync(path.rename, aside)
        del self._sizes[path]


@contextmanager
def open_spool(folder: Path, max_bytes: int) -> Iterator[Spool]:
    """The spool of `folder`, for one server at a time.

    Raises: ConfigError when another server holds it, or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("ab")
    except OSError as error:
        raise ConfigError([f"data_dir: {folder.parent} cannot be written: {error.strerror}; name another"]) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                [f"{folder.parent} is in use by another TimeBase: give this one its own data_dir"]
            ) from None
        for unfinished in folder.glob("*.tmp"):
            unfinished.unlink()
        yield Spool(folder, max_bytes)


def _write(path: Path, pieces: Sequence[Piece]) -> None:
    unfinished = path.with_suffix(".tmp")
    try:
        with unfinished.open("wb") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(path)
        _sync_folder(path.parent)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        raise SpoolFull(f"the spool cannot be written: {error}") from error


def _unlink(path: Path) -> None:
    path.unlink()
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _read(path: Path) -> Waiting:
    found = unpack(path.read_bytes())
    return Waiting(path, live=found) if isinstance(found, SpooledLive) else Waiting(path, found)


def _name_of(folder: Path) -> str:
    """A name that no other spool has, and that this one keeps: that of an empty file."""
    given = next(folder.glob("writer-*"), folder / f"writer-{secrets.token_hex(16)}")
    given.touch()
    return given.name
