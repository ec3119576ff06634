"""archive -> [package] -> the files of one provider's folder. Pure: nothing touches the disk before all is checked.

Who sends an archive may be wrong or wicked: its size, its number of members and what they unpack to are bounded, and
a member is a file or a folder below the archive's own top, nothing else.
"""

import gzip
import io
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from timebase.errors import BadPackage
from timebase.manifest.load import FILE

MAX_MEMBERS = 1_000  # as many files as the watch looks at
MAX_UNPACKED_BYTES = 32 << 20
MAX_NAME_BYTES = 255  # of a path and so of each part of it: what every file system takes
MAX_FAULTS = 20
TAR_BLOCK = 512
_ZIP, _GZIP = b"PK", b"\x1f\x8b"
_ZIP_ENTRY = b"PK\x01\x02"
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_LEFT_OUT = frozenset({"__pycache__", "__MACOSX"})  # and what is hidden

# What the two libraries raise over archives that are damaged, or meant to be.
_DAMAGED = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, struct.error, EOFError, OSError, ValueError, RuntimeError,
    OverflowError, LookupError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class PackedFile:
    """`path` is relative to the folder that holds config.yaml."""

    path: PurePosixPath
    content: bytes
    is_executable: bool = False


@dataclass(frozen=True, slots=True)
class _Member:
    """`fault` says why it cannot be taken. `read` gives at most so many bytes of its content."""

    name: str
    read: Callable[[int], bytes]
    is_folder: bool = False
    is_executable: bool = False
    fault: str = ""


def unpack(archive: bytes) -> tuple[PackedFile, ...]:
    """The files of a zip or tar.gz whose config.yaml is at its top or in the one folder at its top.

    Hidden files and caches are left out.
    Raises: BadPackage.
    """
    try:
        if archive.startswith(_ZIP):
            files = _collect(_zip_members(archive))
        elif archive.startswith(_GZIP):
            files = _collect(_tar_members(archive))
        else:
            raise BadPackage(["this is neither a zip nor a tar.gz; pack the plugin's folder as one of them"])
    except _DAMAGED as exc:
        raise BadPackage([f"the archive is damaged: {str(exc)[:200] or type(exc).__name__}"]) from exc
    return _below_the_manifest(files)


def _collect(members: Iterable[_Member]) -> list[PackedFile]:
    files: list[PackedFile] = []
    faults: list[str] = []
    left = MAX_UNPACKED_BYTES
    for n, member in enumerate(members):
        if n >= MAX_MEMBERS:
            raise BadPackage([f"there are more than {MAX_MEMBERS} members; a plugin's folder has no need of them"])
        parts = tuple(part for part in member.name.split("/") if part not in ("", "."))
        is_nameless = not parts and not member.is_folder
        fault = _name_fault(member.name, parts) or member.fault or ("has no name" if is_nameless else "")
        if fault:
            faults.append(f"{member.name[:100]!r} {fault}")
        elif not member.is_folder and not any(part.startswith(".") or part in _LEFT_OUT for part in parts):
            content = member.read(left + 1)
            left -= len(content)
            if left < 0:
                raise BadPackage([f"it unpacks to more than {MAX_UNPACKED_BYTES >> 20} MiB; leave data out"])
            files.append(PackedFile(PurePosixPath(*parts), content, member.is_executable))
    faults += _clashes(files)
    if faults:
        raise BadPackage(faults[:MAX_FAULTS])
    return files


def _name_fault(name: str, parts: Sequence[str]) -> str:
    if name.startswith("/"):
        return "is an absolute path; pack the folder by its own name"
    if ".." in parts:
        return "leads out of the archive (`..`); pack the folder by its own name"
    if not name.isprintable() or "\\" in name:
        return "is no name that every system can have; write letters, digits, `-`, `_` and `.`"
    if len(name.encode()) > MAX_NAME_BYTES:
        return f"has more than {MAX_NAME_BYTES} bytes"
    return ""


def _clashes(files: Sequence[PackedFile]) -> Iterator[str]:
    """Two files of one name, also where a file system ignores case, and files that others have for a folder."""
    taken: set[str] = set()
    folders = {str(folder).casefold() for file in files for folder in file.path.parents}
    for file in files:
        name = str(file.path).casefold()
        if name in taken or name in folders:
            yield f"{str(file.path)!r} is there twice"
        taken.add(name)


def _below_the_manifest(files: Sequence[PackedFile]) -> tuple[PackedFile, ...]:
    paths = {file.path for file in files}
    if PurePosixPath(FILE) in paths:
        return tuple(files)
    tops = {path.parts[0] for path in paths}
    top = tops.pop() if len(tops) == 1 else ""
    if not top or PurePosixPath(top, FILE) not in paths:
        raise BadPackage([f"there is no {FILE} at its top or in its only folder; pack the folder that holds one"])
    return tuple(replace(file, path=file.path.relative_to(top)) for file in files)


def _zip_members(archive: bytes) -> Iterator[_Member]:
    # Counted before the library makes an object of each: 16 MiB have room for a third of a million.
    if archive.count(_ZIP_ENTRY) > 10 * MAX_MEMBERS:
        raise BadPackage([f"there are more than {MAX_MEMBERS} members; a plugin's folder has no need of them"])
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        for info in opened.infolist():
            yield _zip_member(opened, info)


def _zip_member(opened: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
    mode = info.external_attr >> 16
    fault = ""
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        fault = "is a link or a device; pack the file itself"
    elif info.flag_bits & 1:
        fault = "is encrypted; pack it without a password"
    elif info.compress_type not in _ZIP_METHODS:
        fault = "is compressed by another method than deflate; pack it with a plain zip"

    def read(limit: int) -> bytes:
        with opened.open(info) as file:
            return file.read(limit)

    # Older than the name that Python shows may be one with a NUL and more behind it.
    return _Member(info.orig_filename, read, info.is_dir(), bool(mode & 0o111), fault)


def _tar_members(archive: bytes) -> Iterator[_Member]:
    room = MAX_UNPACKED_BYTES + MAX_MEMBERS * 4 * TAR_BLOCK
    with gzip.GzipFile(fileobj=io.BytesIO(archive)) as packed:
        raw = packed.read(room + 1)
    if len(raw) > room:
        raise BadPackage([f"it unpacks to more than {MAX_UNPACKED_BYTES >> 20} MiB; leave data out"])
    with tarfile.open(fileobj=io.BytesIO(raw), mode="r:") as opened:
        for info in opened:
            yield _tar_member(opened, info)


def _tar_member(opened: tarfile.TarFile, info: tarfile.TarInfo) -> _Member:
    is_plain = info.isdir() or (info.isreg() and not info.issparse())
    fault = "" if is_plain else "is a link, a device or sparse; pack the file itself"

    def read(limit: int) -> bytes:
        file = opened.extractfile(info)
        assert file is not None
        with file:
            content = file.read(limit)
        if len(content) < min(limit, info.size):
            raise EOFError(f"{info.name} is cut off")
        return content

    return _Member(info.name, read, info.isdir(), bool(info.mode & 0o111), fault)
