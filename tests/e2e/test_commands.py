"""The command line, against a running server and without one."""

import shutil
import signal
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from e2e.asked import day, span
from e2e.conftest import Hall, ServerMaker
from e2e.ledger import settled, stored
from e2e.running import Server, asking, command, until
from e2e.stubs import Stub, true_bars

from timebase.model.bars import COLUMNS, Bars
from timebase.model.interval import Interval
from timebase.model.timerange import MINUTE_US, Ranges, TimeRange

WEEK = span("2024-01-01", "2024-01-08")
ASK_WEEK = ("--interval", "1h", "--start", "2024-01-01", "--end", "2024-01-08")
READ = {
    "csv": lambda raw: pl.read_csv(raw, try_parse_dates=True),
    "ndjson": pl.read_ndjson,
    "arrow": pl.read_ipc,
    "parquet": pl.read_parquet,
}


@pytest.mark.parametrize("ending", ["csv", "ndjson", "arrow", "parquet"])
def test_get_writes_a_file_in_every_format(hall: Hall, tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"bars.{ending}"
    done = hall.server.run("get", "CLI-USD", *ASK_WEEK, "-o", str(file))
    assert done.returncode == 0, done.stderr.decode()
    assert _bars(READ[ending](BytesIO(file.read_bytes()))).equals(true_bars(Interval.H1, WEEK))


def test_get_writes_json_too(hall: Hall, tmp_path: Path) -> None:
    file = tmp_path / "bars.json"
    assert hall.server.run("get", "CLI-USD", *ASK_WEEK, "-o", str(file)).returncode == 0
    columns = pl.read_json(file)["bars"].struct.unnest().explode(*COLUMNS)
    assert _bars(columns).equals(true_bars(Interval.H1, WEEK))


def test_get_prints_a_table_or_what_a_pipe_wants(hall: Hall) -> None:
    table = hall.server.run("get", "CLI-USD", *ASK_WEEK)
    assert b"2024-01-01 00:00" in table.stdout
    assert b"168 bars, complete" in table.stderr
    piped = hall.server.run("get", "CLI-USD", *ASK_WEEK, "--format", "csv", "--limit", "3")
    assert len(piped.stdout.splitlines()) == 4


def test_get_says_what_is_wrong_and_fails(hall: Hall) -> None:
    hall.server.run("get", "CLI-USD", *ASK_WEEK)
    hall.a.script("CLY-USD", {"code": "unknown_symbol"})
    unknown = hall.server.run("get", "CLY-USD", *ASK_WEEK)
    assert unknown.returncode == 1
    assert b"CLI-USD" in unknown.stderr
    bad = hall.server.run("get", "CLI-USD", "--interval", "7m")
    assert bad.returncode == 1
    assert b"1wk" in bad.stderr


def test_providers_and_coverage_are_shown(hall: Hall) -> None:
    hall.server.run("get", "CLI-USD", *ASK_WEEK)
    providers = hall.server.run("providers")
    assert providers.returncode == 0
    assert b"stub-a" in providers.stdout
    coverage = hall.server.run("coverage", "CLI-USD")
    assert coverage.returncode == 0
    assert b"complete" in coverage.stdout
    assert b"2024-01-08" in coverage.stdout


def test_commands_work_without_a_server(home: Path) -> None:
    """The command starts one for itself, over the same data, and stops it."""
    stub = Stub("stub", home / "manifests", home / "stubs")
    environ = _alone(home)
    file = home / "bars.parquet"
    done = command("get", "ALONE-USD", *ASK_WEEK, "-o", str(file), cwd=home, environ=environ)
    assert done.returncode == 0, done.stderr.decode()
    assert _bars(pl.read_parquet(file)).equals(true_bars(Interval.H1, WEEK))
    done = command("coverage", "ALONE-USD", cwd=home, environ=environ)
    assert done.returncode == 0, done.stderr.decode()
    assert b"2024-01-08" in done.stdout
    assert len(stub.seen()) == 1
    assert not (home / "data" / "postgres" / "postmaster.pid").exists()


async def test_a_command_that_is_interrupted_stops_the_server_that_it_started(home: Path) -> None:
    stub = Stub("stub", home / "manifests", home / "stubs")
    stub.script("ALONE-USD", {"gate": "never"})
    running = _start("get", "ALONE-USD", *ASK_WEEK, cwd=home, environ=_alone(home))
    await until(stub.seen)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=30)
    assert running.returncode == 130, said.decode()
    assert not (home / "data" / "postgres" / "postmaster.pid").exists()


def test_check_names_every_fault_of_configuration_and_manifests_at_once(home: Path) -> None:
    manifests = home / "manifests"
    Stub("good", manifests, home / "stubs")
    for slug, change in (("one", {"intervals": ["7m"]}), ("two", {"rate_limits": {"requests_per_fortnight": 3}})):
        Stub(slug, manifests, home / "stubs", **change)
    environ = _alone(home) | {"TIMEBASE_PORT": "many", "TIMEBASE_LOG_FORMAT": "prose"}
    done = command("check", cwd=home, environ=environ)
    assert done.returncode == 1
    said = done.stderr.decode()
    for word in ("TIMEBASE_PORT", "TIMEBASE_LOG_FORMAT", "7m", "requests_per_fortnight"):
        assert word in said
    assert said.count(".yaml:") == 2
    assert not (home / "data").exists()


def test_check_finds_a_good_configuration_good(home: Path) -> None:
    Stub("good", home / "manifests", home / "stubs")
    done = command("check", cwd=home, environ=_alone(home))
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"good" in done.stdout


def test_migrate_may_be_repeated_and_run_beside_a_server(hall: Hall, home: Path) -> None:
    (home / "manifests").mkdir()
    first, second = (command("migrate", cwd=home, environ=_alone(home)) for _ in range(2))
    assert (first.returncode, second.returncode) == (0, 0), first.stderr.decode()
    assert b"applied 0001" in first.stdout
    assert b"applied" not in second.stdout
    assert hall.server.run("migrate").returncode == 0


def test_a_new_plugin_works_and_passes_its_own_test(hall: Hall) -> None:
    """Written into a folder of the running server, it is live at once."""
    manifests = hall.a.home.parent
    arguments = ("plugin", "new", "My Vendor", "--folder", str(manifests))
    done = hall.server.run(*arguments)
    folder = manifests / "my-vendor"
    try:
        assert done.returncode == 0, done.stderr.decode()
        assert len((folder / "provider.py").read_text().splitlines()) <= 30
        symbol = yaml.safe_load((folder / "config.yaml").read_text())["symbols"][0]["symbol"]
        assert hall.server.run("check").returncode == 0
        tested = subprocess.run([sys.executable, "-m", "pytest", "-q", "my-vendor"], cwd=manifests, check=False)
        assert tested.returncode == 0
        done = hall.server.run("get", symbol, "--start", "2024-01-01", "--end", "2024-02-01")
        assert done.returncode == 0, done.stderr.decode()
        assert b"31 bars, complete" in done.stderr
        assert hall.server.run(*arguments).returncode == 1  # it overwrites nothing
    finally:
        shutil.rmtree(folder)


async def test_an_interrupted_backfill_goes_on_where_it_stopped(home: Path, serving: ServerMaker) -> None:
    stub = Stub("stub", home / "manifests", home / "stubs")
    stub.script("LONG-USD", {}, {}, {"page": 10_000, "gate_after": [10_000, "never"]}, {})
    whole = TimeRange(day("2022-01-01"), day("2022-01-01") + 200_000 * MINUTE_US)
    with serving(home, retention_intraday_days="never") as server:
        async with asking(server):
            running = _backfill(server, whole)
            await until(lambda: len(stub.seen()) == 3)
            running.send_signal(signal.SIGINT)
            said = running.communicate(timeout=5)[1].decode()
            assert running.returncode == 130
            assert "the same command goes on from here" in said
            known = await settled(server, "LONG-USD")
            assert known
            asked_before = len(stub.seen())
            stub.open_gate("never")  # the server goes on with the piece that it is at
            again = _backfill(server, whole)
            said = again.communicate(timeout=30)[1].decode()
            assert again.returncode == 0, said
            assert "0 of 1 symbols failed" in said
            assert not Ranges.of(each.range for each in stub.seen()[asked_before:]) & known
            assert (await stored(server, "LONG-USD")).equals(true_bars(Interval.M1, whole))


def test_a_backfill_shows_its_progress_and_names_what_failed(hall: Hall) -> None:
    hall.a.script("LOST-USD", {"code": "unknown_symbol"})
    done = hall.server.run("backfill", "FOUND-USD", "LOST-USD", *ASK_WEEK)
    said = done.stderr.decode()
    assert done.returncode == 1
    assert "LOST-USD" in said
    assert "168 new bars, 1 of 2 symbols failed" in said


def _alone(home: Path) -> dict[str, str]:
    """The environment of a command that finds no server."""
    server = Server(home, [home / "manifests"])
    return server.environ | {"TIMEBASE_PORT": "1"}


def _backfill(server: Server, within: TimeRange) -> "subprocess.Popen[bytes]":
    times = ["--start", str(within.start_us // 1_000_000), "--end", str(within.end_us // 1_000_000)]
    environ = server.environ | {"TIMEBASE_SERVER": server.url}
    return _start("backfill", "LONG-USD", "--interval", "1m", *times, cwd=server.home, environ=environ)


def _start(*arguments: str, cwd: Path, environ: dict[str, str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "timebase", *arguments],
        cwd=cwd, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip


def _bars(frame: pl.DataFrame) -> Bars:
    time = frame["time"]
    if time.dtype == pl.String:
        time = time.str.to_datetime(time_zone="UTC")
    in_us = time.dt.epoch("us") if time.dtype.is_temporal() else time * 1_000
    return Bars.of(in_us.to_numpy(), *(np.asarray(frame[name]) for name in COLUMNS[1:]))


def test_get_refuses_a_file_it_cannot_write_or_name_the_format_of(hall: Hall, tmp_path: Path) -> None:
    nowhere = hall.server.run("get", "CLI-USD", *ASK_WEEK, "-o", str(tmp_path / "nowhere" / "bars.csv"))
    assert nowhere.returncode == 1
    assert nowhere.stderr.decode().splitlines()[-1].endswith("cannot be written: No such file or directory")
    unnamed = hall.server.run("get", "CLI-USD", *ASK_WEEK, "-o", str(tmp_path / "bars.xls"))
    assert unnamed.returncode == 1
    assert b"parquet" in unnamed.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("symbol", ["A B", "../providers", "CLI-USD?limit=1", ""])
@pytest.mark.parametrize("asking_command", ["get", "coverage"])
def test_odd_symbols_are_refused_as_symbols(hall: Hall, asking_command: str, symbol: str) -> None:
    done = hall.server.run(asking_command, symbol)
    assert done.returncode == 1
    assert done.stderr.startswith((b"timebase: symbol: ", b"timebase: no provider knows "))


def test_coverage_fits_into_a_terminal(hall: Hall) -> None:
    hall.server.run("get", "CLI-USD", *ASK_WEEK)
    shown = hall.server.run("coverage", "CLI-USD", COLUMNS="80").stdout.decode()
    assert "2024-01-01 00:00 │ 2024-01-08 00:00" in shown
