"""A server that cannot start says why in one line, and one that is told to stop twice in one breath stops in order."""

import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from e2e.conftest import ServerMaker
from e2e.running import clean_environ, command

NOBODY_URL = "postgresql://somebody:hidden@127.0.0.1:1/none"


def _refusal(home: Path, **settings: object) -> str:
    environ = {f"TIMEBASE_{name.upper()}": str(value) for name, value in settings.items() if value is not None}
    done = command("serve", cwd=home, environ=clean_environ() | environ)
    assert done.returncode == 1
    said = done.stderr.decode()
    assert "Traceback" not in said
    return said.splitlines()[-1]


def test_a_taken_port_is_named(home: Path, new_database: Callable[[], str | None]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = _refusal(home, port=port, data_dir=home / "data", database_url=new_database(), manifests=home)
    assert said.startswith(f"timebase: cannot listen on 127.0.0.1:{port}: Address already in use")


def test_a_data_dir_that_cannot_be_is_named(home: Path) -> None:
    file = home / "file"
    file.touch()
    assert _refusal(home, data_dir=file).startswith(f"timebase: data_dir: {file} cannot be written")


def test_a_database_that_is_not_there_is_named(home: Path) -> None:
    said = _refusal(home, data_dir=home / "data", database_url=NOBODY_URL)
    assert said.startswith("timebase: the database is away")
    assert "hidden" not in said


def test_a_second_server_over_the_same_data_is_refused(home: Path, serving: ServerMaker) -> None:
    with serving(home) as server:
        assert "in use by another TimeBase" in _refusal(home, data_dir=server.data_dir)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_echo_of_the_signal_that_stops_does_not_count(home: Path, serving: ServerMaker, number: int) -> None:
    with serving(home) as server:
        server.process.send_signal(number)
        server.process.send_signal(number)
        assert server.stop() == 0
