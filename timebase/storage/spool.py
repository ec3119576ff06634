"""Where good batches wait on disk while the database is away: a queue of files, replayed in order.

One file per append, written aside, synced and renamed: a file under its final name is whole. What is in it:
`spool_format.py`.
"""

import errno
import fcntl
import logging
import os
import secrets
from collections import OrderedDict
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import trio

from timebase.errors import ConfigError, StoreUnavailable
from timebase.model.bars import Batch
from timebase.model.live import LiveBatch
from timebase.storage.delivery import Delivery
from timebase.storage.spool_format import Damaged, SpooledLive, pack, pack_live, unpack

logger = logging.getLogger(__name__)

SUFFIX, ASIDE = ".batches", ".set-aside"
WORDS_BYTES = 1 << 20  # beyond the bound, for what is said of losses: a few hundred bytes for each feed
_MB = 1 << 20
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}  # the process, not the file

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
    """Made by `open_spool`. One task at a time.

    `refusal`: why it could not take what it was given last; empty: it could. `lost`: how many it could not take.
    `stuck`: files that are done with, and that the disk does not let go; they still take room.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.writer = _name_of(folder)  # whose deliveries the database remembers, also after a restart
        self.life = secrets.token_hex(8)
        self.refusal = ""
        self.lost = 0
        self._folder = folder
        queue = sorted(path for path in folder.glob(f"*{SUFFIX}") if _number(path))
        self._sizes = OrderedDict((path, path.stat().st_size) for path in queue)  # a dict is slow at its left end
        self._stuck: set[Path] = set()
        self.bytes = sum(self._sizes.values())  # what it takes on disk
        self._next = max(map(_number, folder.iterdir()), default=0) + 1

    def __len__(self) -> int:
        """Files that wait."""
        return len(self._sizes)

    @property
    def stuck(self) -> int:
        return len(self._stuck)

    async def append(self, batches: Sequence[Batch]) -> None:
        """When this returns, `batches` outlive a crash of the machine.

        Raises: SpoolFull, and then nothing of them is kept.
        """
        await self._append(list(pack(batches)), len(batches))

    async def append_live(self, batches: Sequence[LiveBatch], delivery: Delivery) -> None:
        """The same of what `delivery` stores of live batches."""
        await self._append(list(pack_live(batches, delivery)), len(batches))

    async def append_words(self, words: LiveBatch, delivery: Delivery) -> None:
        """The same of what is said of losses: for that there is room beyond the bound."""
        await self._append(list(pack_live([words], delivery)), 0, self.max_bytes + WORDS_BYTES)

    async def _append(self, pieces: Sequence[Piece], n: int, max_bytes: int | None = None) -> None:
        try:
            await self._write(pieces, max_bytes or self.max_bytes)
        except SpoolFull as error:
            self.refusal = str(error)
            self.lost += n
            raise
        if n:
            self.refusal = ""

    async def _write(self, pieces: Sequence[Piece], max_bytes: int) -> None:
        size = sum(len(piece) for piece in pieces)
        if self.bytes + size > max_bytes:
            raise SpoolFull(f"the spool holds {self.bytes / _MB:.1f} of {self.max_bytes / _MB:.1f} MB")
        path = self._folder / f"{self._next:012d}{SUFFIX}"
        await trio.to_thread.run_sync(_write, path, pieces)
        self._next += 1
        self._sizes[path] = size
        self.bytes += size

    async def oldest(self) -> Waiting | None:
        """The file to replay next. One that cannot be read is set aside, loudly.

        Raises: StoreUnavailable when nothing can be read for now; what is newer has to wait for it.
        """
        while self._sizes:
            path = next(iter(self._sizes))
            try:
                return await trio.to_thread.run_sync(_read, path)
            except FileNotFoundError:
                logger.error("the spooled %s was deleted by somebody else: what it held is lost", path)
                self._forget(path)
            except (Damaged, OSError) as error:
                if isinstance(error, OSError) and error.errno in _EXHAUSTED:
                    raise StoreUnavailable(f"the spool cannot be read for now: {error}") from error
                await self.set_aside(path, str(error))
        return None

    async def remove(self, path: Path) -> str:
        """Forget a file whose batches are in the database. Durable, lest it be replayed over newer ones.

        Returns: by what to know it again when it cannot be taken away; empty: it is gone.
        """
        try:
            await trio.to_thread.run_sync(_unlink, path)
        except OSError as error:
            self._get_stuck(path, error)
            return await trio.to_thread.run_sync(_mark, path)
        self._forget(path)
        self.refusal = ""
        return ""

    async def forget(self, marks: Set[str]) -> None:
        """Those of an earlier server that could not be taken away: try again, and do not replay them in any case."""
        for path in list(self._sizes) if marks else ():
            if await trio.to_thread.run_sync(_mark, path) in marks:
                await self.remove(path)

    async def set_aside(self, path: Path, why: str) -> None:
        """Keep a file for people to look at, out of the queue."""
        aside = path.with_suffix(ASIDE)
        try:
            await trio.to_thread.run_sync(path.rename, aside)
        except OSError as error:
            logger.error("the spooled %s cannot be replayed (%s), and stays where it is: %s", path, why, error)
            self._leave(path)
            return
        logger.error("the spooled %s cannot be replayed and is kept as %s: %s", path.name, aside, why)
        self._forget(path)

    def _get_stuck(self, path: Path, error: OSError) -> None:
        """Once is enough: what the disk does not let go, it does not let go a thousand times."""
        say = logger.debug if self._stuck else logger.error
        say(
            "the spooled %s is stored, and cannot be deleted: %s. Make %s writable and restart, or delete it by hand;"
            " nothing is stored twice, but the spool's room is not free", path.name, error, path.parent,
        )  # fmt: skip
        self._leave(path)

    def _leave(self, path: Path) -> None:
        del self._sizes[path]
        self._stuck.add(path)

    def _forget(self, path: Path) -> None:
        self.bytes -= self._sizes.pop(path)


@contextmanager
def open_spool(folder: Path, max_bytes: int) -> Iterator[Spool]:
    """The spool of `folder`, for one server at a time.

    Raises: ConfigError when another server holds it, or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("ab")
    except OSError as error:
        raise _unwritable(folder, error) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                [f"{folder.parent} is in use by another TimeBase: give this one its own data_dir"]
            ) from None
        try:
            for unfinished in folder.glob("*.tmp"):
                unfinished.unlink()
            spool = Spool(folder, max_bytes)
        except OSError as error:
            raise _unwritable(folder, error) from error
        yield spool


def _unwritable(folder: Path, error: OSError) -> ConfigError:
    return ConfigError([f"data_dir: {folder.parent} cannot be written ({error}); repair it, or name another folder"])


def _number(path: Path) -> int:
    """0: not of ours, such as a copy that somebody made."""
    name = path.name.partition(".")[0]
    return int(name) if name.isdecimal() else 0


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
        for left in (unfinished, path):
            with suppress(OSError):
                left.unlink(missing_ok=True)
        raise SpoolFull(f"the spool cannot be written: {error.strerror or error}") from error  # followers read it


def _unlink(path: Path) -> None:
    path.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _mark(path: Path) -> str:
    """The same for one file through all restarts; another one that is given its name has another."""
    with suppress(FileNotFoundError):
        return f"{path.name} {path.stat().st_mtime_ns}"
    return ""


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
