"""manifest folders -> [watch] -> what appeared, changed, broke or went: the supervisor looks four times a second.

Polling, because inotify misses network and overlay file systems, and a look at five providers costs about a
millisecond.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from timebase.errors import ConfigError
from timebase.house import PLUGINS
from timebase.manifest.load import FILE, BrokenManifest, load_manifest, manifest_folders, twice
from timebase.manifest.manifest import Manifest

CODE = frozenset({".py", ".js", ".mjs", ".cjs", ".ts", ".sh", ".rb", ".pl", ".lua", ".jar"})
NOT_CODE = frozenset({"node_modules", "venv", "build", "dist", "target"})
MAX_FILES = 1_000  # of one folder; more is no plugin but somebody's disk
MAX_DEPTH = 4


@dataclass(frozen=True, slots=True)
class Good:
    """A manifest that is new, or changed, or whose code changed."""

    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Broken:
    """A folder that cannot be used. What ran from its last good manifest goes on running."""

    broken: BrokenManifest


@dataclass(frozen=True, slots=True)
class Gone:
    """A folder that is no more, or has another slug now. `slug` is None when it never was good."""

    folder: Path
    slug: str | None


Event = Good | Broken | Gone
Fingerprint = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of one folder. `print` is what was loaded; `latest` what was seen last: loaded when seen twice,
    so that a file is not read while it is being written.
    """

    latest: Fingerprint | None = None
    print: Fingerprint | None = None
    slug: str | None = None
    also: tuple[Path, ...] = ()


class Watch:
    """Remembers what it saw; `look` says what is different. Does file I/O: call it in a thread."""

    def __init__(self, roots: Iterable[Path]) -> None:
        self._roots = tuple(roots)
        self._known: dict[Path, _Known] = {}
        self._is_first = True

    def look(self) -> list[Event]:
        try:
            present = manifest_folders(self._roots)
        except OSError:
            return []  # a disk that is away for a moment removes nobody
        events: list[Event] = []
        for folder in [folder for folder in self._known if folder not in present]:
            events += self._miss(folder)
        if events:
            self._forget_broken()
        for folder in present:
            events += self._look_at(folder)
        self._is_first = False
        return events

    def _look_at(self, folder: Path) -> Iterator[Event]:
        known = self._known.setdefault(folder, _Known())
        latest = fingerprint((folder, *known.also))
        if latest == known.print:
            self._known[folder] = replace(known, latest=latest)
        elif latest == known.latest or self._is_first:
            yield from self._load(folder, known)
        else:
            self._known[folder] = replace(known, latest=latest)

    def _load(self, folder: Path, known: _Known) -> Iterator[Event]:
        try:
            manifest = load_manifest(folder)
        except ConfigError as error:
            yield Broken(BrokenManifest(folder, error.faults))
            self._note(folder, known.slug, (PLUGINS,))
            return
        holder = self._holder(manifest.slug)
        if holder not in {None, folder}:
            yield Broken(twice(manifest, holder or folder))
            self._note(folder, known.slug, ())
            return
        if known.slug not in {None, manifest.slug}:
            yield Gone(folder, known.slug)
            self._forget_broken()
        yield Good(manifest)
        self._note(folder, manifest.slug, _elsewhere(manifest))

    def _note(self, folder: Path, slug: str | None, also: tuple[Path, ...]) -> None:
        now = fingerprint((folder, *also))
        self._known[folder] = _Known(now, now, slug, also)

    def _miss(self, folder: Path) -> list[Event]:
        """Gone when it is missing twice in a row: some programs save a folder by moving it away first."""
        known = self._known[folder]
        if known.latest is not None:
            self._known[folder] = replace(known, latest=None, print=None)
            return []
        del self._known[folder]
        return [Gone(folder, known.slug)]

    def _holder(self, slug: str) -> Path | None:
        return next((folder for folder, known in self._known.items() if known.slug == slug), None)

    def _forget_broken(self) -> None:
        """Have the folders that never were good read again: one may wait for a slug that is free now."""
        for folder, known in self._known.items():
            if known.slug is None:
                self._known[folder] = replace(known, print=None)


def fingerprint(folders: Iterable[Path]) -> Fingerprint:
    """Name, time and size of the manifest and of all code in `folders`."""
    found: list[tuple[str, int, int]] = []
    for folder in folders:
        for entry in _files(folder, 0):
            try:
                status = entry.stat()
            except OSError:
                continue
            if _counts(entry.name, status.st_mode):
                found.append((entry.path, status.st_mtime_ns, status.st_size))
            if len(found) >= MAX_FILES:
                break
    return tuple(sorted(found))


def _counts(name: str, mode: int) -> bool:
    """Whether a change of that file is a change of the plugin. Its tests and its data are not."""
    if name == FILE:
        return True
    is_test = name.startswith("test_") or name == "conftest.py"
    return not is_test and (Path(name).suffix in CODE or bool(mode & 0o111))


def _files(folder: Path | str, depth: int) -> Iterator[os.DirEntry[str]]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if entry.name.startswith((".", "__pycache__")) or entry.name in NOT_CODE:
            continue
        if entry.is_file():
            yield entry
        elif depth < MAX_DEPTH and entry.is_dir():
            yield from _files(entry.path, depth + 1)


def _elsewhere(manifest: Manifest) -> tuple[Path, ...]:
    """The folder of the code, when that is not the manifest's."""
    if manifest.code is None or manifest.code.is_relative_to(manifest.folder):
        return ()
    return (manifest.code.parent,)
