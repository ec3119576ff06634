"""Live: the rows of the second table in docs/benchmarks.md, in its order."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx
import psutil
from lab import HERE, Lab, free_port, say, wait_for
from live_builder import live_builder

CLIENTS = 200
SYMBOLS = 10
CROWD = 1_000
SECONDS = 10.0
LATENESS_MS = 500  # the server's default for trades that come late


def builder(_: Lab) -> None:
    """The bar builder alone: trades a second into all nine intervals, beside a compiled one-interval aggregation."""
    live_builder(say)


def trades(lab: Lab) -> None:
    """Trades a second through the whole road to durable, for 60 s; the core's memory at 20 s and at the end."""
    seconds, symbols, rate = 60.0, 50, 4_000
    core = _core(lab)
    with _following(lab, [f"bars:TAPE-{rate}-{n}:1m" for n in range(symbols)]):
        time.sleep(10)
        before, began = _durable(lab), time.perf_counter()
        time.sleep(seconds / 3)
        early_mb = core.memory_info().rss / 1e6
        time.sleep(seconds * 2 / 3)
        stored, spent = _durable(lab) - before, time.perf_counter() - began
    late_mb = core.memory_info().rss / 1e6
    figure = f"{stored / spent / 1e3:,.0f} k trades/s, memory {early_mb:.0f} -> {late_mb:.0f} MB"
    say(f"trades, plugin to durable, {symbols} symbols, 60 s", figure, ">= 150 k, flat")


def fanout(lab: Lab) -> None:
    """Events a second delivered to 200 clients that follow the same ten symbols, beside the reference."""
    rate = 200
    channels = [f"trades:TAPE-{rate}-{n}" for n in range(SYMBOLS)]
    ours = _clients(lab.port, "/api/v1/stream", CLIENTS, SECONDS, _subscribe(channels))
    theirs = _reference_clients([channels], rate, CLIENTS, SECONDS)
    figures = [each["events"] / each["seconds"] for each in (ours, theirs)]
    figure = f"{figures[0]:,.0f} against {figures[1]:,.0f} events/s = {figures[0] / figures[1]:.1f} x"
    say(f"events to {CLIENTS} clients, {SYMBOLS} symbols, {rate * SYMBOLS:,} events/s made", figure, ">= 3 x")
    say("  age on arrival, p99", f"{ours['p99_ms']:,.0f} against {theirs['p99_ms']:,.0f} ms", "")


def crowd(lab: Lab) -> None:
    """1,000 clients, five events a second each, 60 s: how old an event is when it arrives, beside the reference."""
    groups = [[f"trades:TAPE-5-{n}"] for n in range(20)]
    seen = _clients(lab.port, "/api/v1/stream", CROWD, 60.0, *map(_subscribe, groups))
    figure = f"p50 {seen['p50_ms']:.0f}, p99 {seen['p99_ms']:.0f} ms, {seen['events'] / seen['seconds']:,.0f} events/s"
    say(f"{CROWD:,} clients, 5 events/s each, 60 s", f"{figure}, {seen['drops']} drops", "p99 < 100 ms, 0 drops")
    say("  the reference, not durable", _percentiles(_reference_clients(groups, 5, CROWD, 20.0)), "")


def idle(lab: Lab) -> None:
    """One client, one symbol, five trades a second: from the plugin's send to the client, durable in between."""
    channels = ["trades:TAPE-5-idle"]
    seen = _clients(lab.port, "/api/v1/stream", 1, 30.0, _subscribe(channels))
    say("idle latency, plugin to client, durable first", _percentiles(seen), "p50 < 8 ms, p99 < 25 ms")
    say("  the reference, not durable", _percentiles(_reference_clients([channels], 5, 1, 20.0)), "")


def close(lab: Lab) -> None:
    """Closed bars at one client, from the instant at which the watermark passes their end: of ten symbols, of 100."""
    reach = "p99 < 50 ms"
    for symbols, seconds in ((SYMBOLS, 310.0), (100, 130.0)):
        channels = [f"bars:TAPE-200-{n}:1m" for n in range(symbols)]  # a trade every 5 ms: the watermark is as exact
        seen = _clients(lab.port, "/api/v1/stream", 1, seconds, f"closed={LATENESS_MS}", _subscribe(channels))
        what = f"{symbols} symbols at once, {symbols * 200:,} trades/s"
        say(f"bar completion, watermark passes to client, {what}", _percentiles(seen), reach)
        reach = "(the same, harder)"


def stall(lab: Lab) -> None:
    """50 clients at full load for 60 s, without and with one that stops reading."""
    channels = [f"trades:TAPE-100-{n}" for n in range(SYMBOLS)]
    core = _core(lab)
    without = _clients(lab.port, "/api/v1/stream", 50, 20.0, _subscribe(channels))
    before_mb = core.memory_info().rss / 1e6
    stalled = _clients(lab.port, "/api/v1/stream", 51, 60.0, "stalled=1", _subscribe(channels))
    grown_mb = core.memory_info().rss / 1e6 - before_mb
    figure = f"p99 {without['p99_ms']:.0f} -> {stalled['p99_ms']:.0f} ms, core {grown_mb:+.0f} MB"
    say("one client stalled for 60 s at full load", figure, "unchanged, within 50 MB")


ROWS: dict[str, Callable[[Lab], None]] = {
    "builder": builder, "trades": trades, "fanout": fanout, "crowd": crowd, "idle": idle, "close": close,
    "stall": stall,
}  # fmt: skip


def open_lab(lab: Lab, wanted: Sequence[str]) -> None:
    """Started, with the live bench provider ready."""
    lab.start_server()
    lab.wait_ready("bench-live")


def _subscribe(channels: Sequence[str]) -> str:
    return json.dumps({"action": "subscribe", "channels": [f"{channel}@bench-live" for channel in channels]})


def _clients(port: int, path: str, clients: int, seconds: float, *messages: str) -> dict[str, float]:
    command = [sys.executable, str(HERE / "ws_load.py"), str(port), path, str(clients), str(seconds), *messages]
    answer: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    if answer["lost"]:
        say(f"  clients that were cut off: {answer['lost']:.0f}", "", "0")
    return answer


def _reference_clients(groups: Sequence[list[str]], rate: int, clients: int, seconds: float) -> dict[str, float]:
    """What the reference's clients see; each follows one group of channels, in turn."""
    symbols = [channel.partition(":")[2] for group in groups for channel in group]
    with _reference() as (port, redis_port):
        feeder = [sys.executable, str(HERE / "live_reference.py"), "feed", str(redis_port), str(rate), "600", *symbols]
        with _process(feeder):
            return _clients(port, "/ws", clients, seconds, *(json.dumps({"channels": group}) for group in groups))


@contextmanager
def _following(lab: Lab, channels: Sequence[str]) -> Iterator[None]:
    """One client that follows `channels` for as long as the block runs."""
    command = [sys.executable, str(HERE / "ws_load.py"), str(lab.port), "/api/v1/stream", "1", "600"]
    with _process([*command, _subscribe(channels)]):
        yield


@contextmanager
def _reference() -> Iterator[tuple[int, int]]:
    """The reference server and its Redis; their ports."""
    port, redis_port = free_port(), free_port()
    serve = [sys.executable, str(HERE / "live_reference.py"), "serve", str(port), str(redis_port)]
    with _process(["redis-server", "--port", str(redis_port), "--save", "", "--loglevel", "warning"]):
        time.sleep(0.5)
        with _process(serve):
            wait_for(f"http://127.0.0.1:{port}/openapi.json")
            yield port, redis_port


@contextmanager
def _process(command: Sequence[str]) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


def _core(lab: Lab) -> psutil.Process:
    assert lab.server is not None
    return psutil.Process(lab.server.pid)


def _durable(lab: Lab) -> float:
    """Trades that are stored."""
    text = httpx.get(f"http://127.0.0.1:{lab.port}/metrics", timeout=30).text
    lines = [line for line in text.splitlines() if line.startswith('timebase_ticks_total{kind="trades"}')]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def _percentiles(seen: dict[str, Any]) -> str:
    return f"p50 {seen['p50_ms']:.1f} ms, p99 {seen['p99_ms']:.1f} ms ({seen['frames']:,} frames)"
