"""A plugin's command, environment and folders."""

import stat
import sys
from pathlib import Path

from timebase.manifest.manifest import Manifest
from timebase.model.instrument import AssetClass
from timebase.model.interval import Interval
from timebase.supervisor.process import Home, clean_environ, command_line, ending_of, memory_of


def manifest(entrypoint: str | tuple[str, ...]) -> Manifest:
    return Manifest(
        slug="acme",
        name="Acme",
        version="1",
        entrypoint=entrypoint,
        code=Path("/plugins/acme/provider.py"),
        folder=Path("/manifests/acme"),
        asset_classes=frozenset({AssetClass.STOCK}),
        intervals=frozenset({Interval.D1}),
    )


def test_a_class_is_run_by_the_sdk_and_a_command_line_as_it_is() -> None:
    assert command_line(manifest("provider.py:Acme")) == [
        sys.executable,
        "-m",
        "timebase.sdk.run",
        "/plugins/acme/provider.py:Acme",
    ]
    assert command_line(manifest(("node", "x.js"))) == ["node", "x.js"]


def test_the_environment_of_a_plugin_holds_nothing_of_the_servers_but_what_it_needs(tmp_path: Path) -> None:
    home = Home.of(tmp_path, "acme")
    environ = {
        "PATH": "/bin",
        "HOME": "/root",
        "https_proxy": "http://proxy",
        "SSL_CERT_FILE": "/certs",
        "TIMEBASE_TOKEN": "t",
        "TIMEBASE_DATABASE_URL": "d",
        "ACME_KEY": "k",
        "PYTHONPATH": "/elsewhere",
        "PYTHONSTARTUP": "x",
        "LD_PRELOAD": "x",
    }
    clean = clean_environ(environ, home, "ipc:///run/1")
    assert clean["TIMEBASE_LINK"] == "ipc:///run/1"
    assert (clean["PATH"], clean["https_proxy"], clean["SSL_CERT_FILE"]) == ("/bin", "http://proxy", "/certs")
    assert (clean["HOME"], clean["XDG_CACHE_HOME"]) == (str(home.work), str(home.cache))
    assert clean["TZ"] == "UTC"
    assert {"TIMEBASE_TOKEN", "TIMEBASE_DATABASE_URL", "ACME_KEY", "PYTHONSTARTUP", "LD_PRELOAD"}.isdisjoint(clean)
    assert (Path(clean["PYTHONPATH"]) / "timebase" / "sdk").is_dir()


def test_the_folders_of_a_provider_are_its_own_and_the_switch_is_kept(tmp_path: Path) -> None:
    home = Home.of(tmp_path, "acme")
    assert home.read_switch() is None
    home.write_switch(False)
    assert home.read_switch() is False
    home.write_switch(True)
    assert home.read_switch() is True
    home.switch.write_bytes(b"\xff")
    assert home.read_switch() is None
    assert all(stat.S_IMODE(folder.stat().st_mode) == 0o700 for folder in (home.work, home.cache))


def test_an_end_is_told_in_words() -> None:
    assert [ending_of(code) for code in (0, 3, -9, -64)] == [
        "exited with status 0",
        "exited with status 3",
        "was ended by SIGKILL",
        "was ended by SIGRTMAX",
    ]
    assert ending_of(-99) == "was ended by signal 99"


def test_a_process_that_is_gone_has_no_memory() -> None:
    assert memory_of(2**22 - 1) == 0
