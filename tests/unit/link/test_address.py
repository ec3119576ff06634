import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from timebase.link.address import open_run_directory


@pytest.fixture(autouse=True)
def parent(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path_factory.mktemp("r")
    monkeypatch.setattr("tempfile.tempdir", str(path))
    return path


def test_nobody_else_may_enter(parent: Path) -> None:
    with open_run_directory() as directory:
        assert directory.path.parent == parent
        assert stat.S_IMODE(directory.path.stat().st_mode) == 0o700


def test_each_address_is_new_and_fits_a_socket() -> None:
    with open_run_directory() as directory:
        addresses = {directory.new_address() for _ in range(1_000)}
    assert len(addresses) == 1_000
    assert all(len(os.fsencode(address.removeprefix("ipc://"))) <= 107 for address in addresses)


def test_it_is_removed_at_the_end(parent: Path) -> None:
    with open_run_directory() as directory:
        (directory.path / "1.sock").touch()
    assert list(parent.iterdir()) == []


def test_a_long_temporary_directory_is_avoided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / ("x" * 100)))
    with open_run_directory() as directory:
        assert directory.path.parent == Path("/tmp")


def test_what_a_killed_server_left_is_swept_and_a_living_one_is_spared(parent: Path) -> None:
    code = (
        f"import os, tempfile; tempfile.tempdir = {str(parent)!r}\n"
        "from timebase.link.address import open_run_directory\n"
        "with open_run_directory(): os._exit(9)"
    )
    with open_run_directory() as living:
        subprocess.run([sys.executable, "-c", code], check=False)
        (parent / "timebase-run-foreign").mkdir()
        assert len(list(parent.iterdir())) == 3
        with open_run_directory() as directory:
            assert {path.name for path in parent.iterdir()} == {
                living.path.name,
                directory.path.name,
                "timebase-run-foreign",
            }
