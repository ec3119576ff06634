"""archive -> [install] -> a folder among the manifests: the watch finds it there like any other that is dropped in.

A folder comes and goes by one rename, so that a kill at any instant leaves it whole: what is not in place yet, or any
more, has a hidden name, which no watch looks at. `mend` puts right at the next start what a kill interrupted.
"""

import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import trio

from timebase.errors import BadPackage, ConfigError, FixedProvider, ProviderExists
from timebase.house import MANIFESTS
from timebase.manifest.load import FILE, load_manifest
from timebase.manifest.manifest import Manifest
from timebase.supervisor.package import PackedFile, unpack
from timebase.supervisor.process import Home
from timebase.supervisor.roster import Roster
from timebase.supervisor.settings import SupervisorSettings

INCOMING = ".incoming-"  # + anything: not whole yet
REPLACED = ".replaced-"  # + the folder's name: the old one, until the new one is in its place
REMOVED = ".removed-"  # + the folder's name: kept for who removed it by mistake, until the next one


class Installer:
    """Puts provider folders among the manifests, one at a time, and takes them away.

    It writes into the last directory of manifests that may be written to and is not the bundled one.
    """

    def __init__(self, settings: SupervisorSettings, roster: Roster) -> None:
        self._settings = settings
        self._roster = roster
        self._turn = trio.Lock()

    async def install(self, archive: bytes) -> str:
        """Returns: the slug, once the roster has it.

        Raises: BadPackage with every fault, ProviderExists, ConfigError when there is nowhere to put it.
        """
        async with self._turn:
            root = self._root()
            taken = {state.slug: state.manifest.folder for state in self._roster.all()}
            manifest = await trio.to_thread.run_sync(_install, archive, root, taken)
            await self._roster.until(lambda: self._roster.get(manifest.slug) is not None)
        return manifest.slug

    async def update(self, slug: str, archive: bytes) -> None:
        """Put another version into the provider's place; returns when it has been started anew.

        Raises: UnknownProvider, FixedProvider, BadPackage: then the old one runs on.
        """
        async with self._turn:
            handle = self._roster.known(slug)
            old = handle.manifest
            await trio.to_thread.run_sync(_replace, archive, self._own(old), slug)
            await self._roster.until(lambda: handle.manifest is not old or handle.gone.is_set())

    async def remove(self, slug: str) -> Path:
        """Take the provider's folder away; returns, when its process has ended, where the folder is kept.

        What it has brought stays stored. Raises: UnknownProvider, FixedProvider.
        """
        async with self._turn:
            handle = self._roster.known(slug)
            kept = await trio.to_thread.run_sync(_set_aside, self._own(handle.manifest))
            await handle.gone.wait()
            # Another provider of that name is not to find itself switched off.
            Home.of(self._settings.data_dir, slug).switch.unlink(missing_ok=True)
        return kept

    def _root(self) -> Path:
        own = own_roots(self._settings.manifests)
        if not own:
            listed = ", ".join(map(str, self._settings.manifests)) or "none"
            raise ConfigError([
                f"there is no directory of manifests to install into ({listed}; the bundled one is left as it is); "
                "name one of yours in TIMEBASE_MANIFESTS, and let the server write there"
            ])  # fmt: skip
        return own[-1]

    def _own(self, manifest: Manifest) -> Path:
        """The provider's folder. Raises: FixedProvider when it is not ours to change."""
        parent = manifest.folder.parent
        if parent.resolve() == MANIFESTS.resolve():
            raise FixedProvider(manifest.slug, "is bundled with TimeBase")
        if parent.resolve() not in [root.resolve() for root in own_roots(self._settings.manifests)]:
            raise FixedProvider(manifest.slug, f"lies in {parent}, where the server may not write")
        return manifest.folder


def own_roots(roots: Iterable[Path]) -> list[Path]:
    """The directories of manifests that are the operator's, and may be written to. One that is missing can be made."""
    bundled = MANIFESTS.resolve()
    return [root for root in roots if root.resolve() != bundled and _is_writable(root)]


def mend(roots: Iterable[Path]) -> None:
    """Put right what a kill in the middle of an update or an installation left. Nobody may install meanwhile."""
    for root in own_roots(roots):
        for left in root.glob(f"{INCOMING}*"):
            _discard(left)
        for old in root.glob(f"{REPLACED}*"):
            folder = root / old.name.removeprefix(REPLACED)
            if os.path.lexists(folder):
                _discard(old)
            else:
                old.rename(folder)


def _install(archive: bytes, root: Path, taken: dict[str, Path]) -> Manifest:
    files = unpack(archive)
    with _staged(files, root) as (staged, manifest):
        folder = root / manifest.slug
        if manifest.slug in taken or os.path.lexists(folder):
            raise ProviderExists(manifest.slug, str(taken.get(manifest.slug, folder)))
        staged.rename(folder)
    return manifest


def _replace(archive: bytes, folder: Path, slug: str) -> None:
    files = unpack(archive)
    with _staged(files, folder.parent) as (staged, manifest):
        if manifest.slug != slug:
            raise BadPackage([f"{FILE}: its slug is `{manifest.slug}`; write `slug: {slug}`, or install it beside it"])
        old = folder.with_name(REPLACED + folder.name)
        folder.rename(old)
        try:
            staged.rename(folder)
        except OSError:
            old.rename(folder)
            raise
    _discard(old)


def _set_aside(folder: Path) -> Path:
    kept = folder.with_name(REMOVED + folder.name)
    _discard(kept)
    return folder.rename(kept)


@contextmanager
def _staged(files: Sequence[PackedFile], root: Path) -> Iterator[tuple[Path, Manifest]]:
    """The files on disk beside their destination, and the manifest that they make.

    Raises: BadPackage with the manifest's faults, ConfigError when it cannot be written.
    """
    staged = root / f"{INCOMING}{secrets.token_hex(8)}"
    try:
        try:
            for file in files:
                _write(staged / file.path, file)
        except OSError as error:
            raise ConfigError([f"{root} cannot be written to: {error.strerror}"]) from error
        yield staged, _manifest_of(staged)
    finally:
        _discard(staged)


def _manifest_of(staged: Path) -> Manifest:
    """Faults of an archive are told by the names in the archive."""
    try:
        return load_manifest(staged)
    except ConfigError as error:
        told = (fault.replace(f"{staged}{os.sep}", "").replace(str(staged), "the archive") for fault in error.faults)
        raise BadPackage(list(told)) from error


def _write(path: Path, file: PackedFile) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = 0o777 if file.is_executable else 0o666
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as out:  # noqa: PTH123 - with its mode
        out.write(file.content)


def _discard(path: Path) -> None:
    """It may be a link that the operator made: what that leads to is not ours."""
    if path.is_symlink():
        path.unlink()
    else:
        with suppress(FileNotFoundError):
            shutil.rmtree(path)


def _is_writable(root: Path) -> bool:
    there = next((path for path in (root, *root.parents) if path.exists()), root)
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)
