"""Where good batches wait on disk while the database is away: a queue of files, replayed in order.

One file per append, written aside, synced and renamed: a file under its final name is whole. Format, little-endian:
`TBSPOOL1`, then per batch a uint32 length, that much JSON, and the columns of its bars and of its refused rows as raw
bytes; at the end a uint32 CRC-32 of everything between the two.
"""

import fcntl
import json
import logging
import os
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import trio

from timebase.errors import ConfigError
from timebase.model.bars import Bars, Batch, Outcome, Refused
from timebase.model.instrument import CorporateAction
from timebase.model.interval import Interval
from timebase.model.series import Series
from timebase.model.timerange import TimeRange

logger = logging.getLogger(__name__)

MAGIC = b"TBSPOOL1"
SUFFIX, ASIDE = ".batches", ".set-aside"
_MB = 1 << 20
_U32 = struct.Struct("<I")
_DTYPES = ("<i8", *["<f8"] * 5, "<i2")


class SpoolFull(Exception):
    """The spool could not take it: its bound is reached, or the disk's."""


class Damaged(Exception):
    """A file of the spool is not what was written."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """One file of the spool."""

    path: Path
    batches: tuple[Batch, ...]


class Spool:
    """Made by `open_spool`. One task at a time."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.max_bytes = max_bytes
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
        pieces = list(_pack(batches))
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
                return Waiting(path, await trio.to_thread.run_sync(_read, path))
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


def _write(path: Path, pieces: Sequence[bytes]) -> None:
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


def _pack(batches: Sequence[Batch]) -> Iterator[bytes]:
    yield MAGIC
    crc = 0
    for piece in _pack_batches(batches):
        crc = zlib.crc32(piece, crc)
        yield piece
    yield _U32.pack(crc)


def _pack_batches(batches: Sequence[Batch]) -> Iterator[bytes]:
    for batch in batches:
        head = json.dumps(_head(batch)).encode()
        yield _U32.pack(len(head))
        yield head
        for bars in (batch.bars, *(refused.bars for refused in batch.refused)):
            for column, dtype in zip(bars.columns(), _DTYPES, strict=True):
                yield np.ascontiguousarray(column, dtype).tobytes()


def _head(batch: Batch) -> dict[str, object]:
    series = batch.series
    return {
        "demand_id": batch.demand_id,
        "series": [series.id, series.instrument_id, series.symbol, series.provider, series.interval.value],
        "covers": [batch.covers.start_us, batch.covers.end_us],
        "outcome": batch.outcome.value,
        "reason": batch.reason,
        "fetched_us": batch.fetched_us,
        "settled_us": batch.settled_us,
        "is_last": batch.is_last,
        "actions": [[a.ex_date_us, a.kind, a.value, a.currency] for a in batch.actions],
        "warnings": batch.warnings,
        "why": batch.why,
        "bars": len(batch.bars),
        "refused": [[refused.rule, len(refused.bars)] for refused in batch.refused],
    }


def _read(path: Path) -> tuple[Batch, ...]:
    data = memoryview(path.read_bytes())
    body = data[len(MAGIC) : -_U32.size]
    if data[: len(MAGIC)] != MAGIC or _U32.pack(zlib.crc32(body)) != data[-_U32.size :]:
        raise Damaged("its checksum is wrong")
    return tuple(_unpack_batches(body))


def _unpack_batches(body: memoryview) -> Iterator[Batch]:
    at = 0
    while at < len(body):
        (length,) = _U32.unpack_from(body, at)
        at += _U32.size
        head = json.loads(bytes(body[at : at + length]))
        at += length
        bars, at = _unpack_bars(body, at, head["bars"])
        refused = []
        for rule, n in head["refused"]:
            rows, at = _unpack_bars(body, at, n)
            refused.append(Refused(rule, rows))
        yield _batch(head, bars, tuple(refused))


def _unpack_bars(body: memoryview, at: int, n: int) -> tuple[Bars, int]:
    columns = []
    for dtype in _DTYPES:
        columns.append(np.frombuffer(body, dtype, n, at))
        at += columns[-1].nbytes
    return Bars(*columns), at


def _batch(head: Mapping[str, Any], bars: Bars, refused: tuple[Refused, ...]) -> Batch:
    series_id, instrument_id, symbol, provider, interval = head["series"]
    return Batch(
        demand_id=head["demand_id"],
        series=Series(series_id, instrument_id, symbol, provider, Interval(interval)),
        covers=TimeRange(*head["covers"]),
        outcome=Outcome(head["outcome"]),
        reason=head["reason"],
        fetched_us=head["fetched_us"],
        bars=bars,
        is_last=head["is_last"],
        actions=tuple(CorporateAction(*action) for action in head["actions"]),
        refused=refused,
        warnings=tuple(head["warnings"]),
        why=head["why"],
        settled_us=head["settled_us"],
    )
