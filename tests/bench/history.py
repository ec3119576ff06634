"""History: the rows of the first table in docs/benchmarks.md, in its order."""

import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import httpx
import psutil
from lab import BEGIN, HERE, Lab, iso, load, say, sql, timed

MILLION = 1_000_000
ROUNDS = 3


def fetch(lab: Lab) -> None:
    """1 M new bars, plugin to committed; a bare binary COPY of the same rows; the same range again, unchanged."""
    copies, fetches, refreshes = [], [], []
    for turn in range(ROUNDS):
        begin = BEGIN + timedelta(days=800 * turn)
        question = {"symbol": "BENCH" if turn == 0 else f"BENCH{turn}", "interval": "1m", "provider": "bench"}
        question |= {"start": iso(begin), "end": iso(begin + timedelta(minutes=MILLION))}
        fetches.append(timed(lambda q=question: _backfill(lab, q)))
        refreshes.append(timed(lambda q=question: _backfill(lab, q, refresh=True)))
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
    series_id = int(sql(lab.database_url, "SELECT series_id FROM bars ORDER BY time LIMIT 1"))
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
        cold.append(timed(lambda: _download(lab.port, path)))
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
            times_asked = f"start={iso(begin)}&end={iso(begin + timedelta(days=1))}"
            url = f"/api/v1/data/SMALL{turn % 20}?interval=1m&{times_asked}&provider=bench"
            took = timed(lambda u=url: client.get(u).raise_for_status())
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
        times = f"start={iso(offset)}&end={iso(offset + timedelta(minutes=bars))}"
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


def plugins(lab: Lab) -> None:
    """Seconds until a provider's folder that is dropped in is ready, and until one whose process is killed is again."""
    folder = lab.folder / "manifests" / "bench-dropped"
    dropped, back = [], []
    for _ in range(ROUNDS):
        shutil.copytree(HERE / "history_provider", lab.folder / "dropping")
        config = lab.folder / "dropping" / "config.yaml"
        config.write_text(config.read_text().replace("slug: bench", "slug: bench-dropped"))
        (lab.folder / "dropping").rename(folder)
        dropped.append(timed(lambda: _until_ready(lab, "bench-dropped")))
        pid = lab.get("/api/v1/providers/bench-dropped").json()["pid"]
        os.kill(pid, signal.SIGKILL)
        back.append(timed(lambda killed=pid: _until_ready(lab, "bench-dropped", but_not=killed)))
        shutil.rmtree(folder)
        while _state(lab, "bench-dropped").status_code != 404:
            time.sleep(0.02)
    figure = f"{max(dropped):.2f} s, {max(back):.2f} s"
    say(f"a dropped folder ready, a killed plugin back, worst of {ROUNDS}", figure, "< 2 s, < 2 s")


def bare_copy(database_url: str) -> float:
    """Seconds to COPY 1 M minute bars in binary into a table like `bars`, by asyncpg, committed."""
    return float(subprocess.run(
        [sys.executable, str(HERE / "bare_copy.py"), database_url], check=True, capture_output=True
    ).stdout)  # fmt: skip


def _backfill(lab: Lab, question: dict[str, str], *, refresh: bool = False) -> None:
    body = {**question, "refresh": refresh} if refresh else question
    httpx.post(f"http://127.0.0.1:{lab.port}/api/v1/backfill", json=body, timeout=300).raise_for_status()


def _until_ready(lab: Lab, slug: str, *, but_not: int | None = None) -> None:
    """Until the provider is, in another process than the one that was killed."""
    while True:
        answer = _state(lab, slug)
        if answer.status_code == 200 and answer.json()["state"] == "ready" and answer.json()["pid"] != but_not:
            return
        time.sleep(0.02)


def _state(lab: Lab, slug: str) -> httpx.Response:
    return httpx.get(f"http://127.0.0.1:{lab.port}/api/v1/providers/{slug}", timeout=30)


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


ROWS: dict[str, Callable[[Lab], None]] = {
    "fetch": fetch, "json": json_cached, "arrow": arrow, "small": small, "mixed": mixed, "memory": memory,
    "plugins": plugins,
}  # fmt: skip


def open_lab(lab: Lab, wanted: list[str]) -> None:
    """Twice started, with the bench provider ready and a million of its bars stored."""
    ready_s = lab.start_server()
    lab.stop_server()
    again_s = lab.start_server()
    say("start to ready: first, second", f"{ready_s:.1f} s, {again_s:.1f} s", "second < 3 s")
    lab.wait_ready("bench")
    if "fetch" not in wanted:
        end = BEGIN + timedelta(minutes=MILLION)
        _backfill(lab, {"symbol": "BENCH", "interval": "1m", "provider": "bench", "start": iso(BEGIN), "end": iso(end)})
