"""What the documents tell people to type does what they say: every command that needs no internet, on a real server."""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from e2e.conftest import ServerMaker
from e2e.running import Server, command

HOUSE = Path(__file__).parents[2]
PAGES = sorted([HOUSE / "README.md", HOUSE / "CONTRIBUTING.md", *HOUSE.glob("docs/**/*.md")])
ADDRESS = "127.0.0.1:8080"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
OURS = re.compile(r"/(data|coverage|symbols)/(?!DEMO-|MY-VENDOR-)")  # everybody else's symbols need the internet
COMMAND = re.compile(r"(?:\.venv/bin/)?timebase (.+)")
ENDLESS = ("serve",)  # it runs already: it answers all the others


def blocks(language: str) -> Iterator[str]:
    for page in PAGES:
        for named, text in BLOCK.findall(page.read_text()):
            if named == language:
                yield text


def lines() -> list[str]:
    """In the order of the documents, each once, without remarks."""
    typed = (line.partition("  #")[0].strip() for text in blocks("sh") for line in text.splitlines())
    return list(dict.fromkeys(line for line in typed if line and not line.startswith("#")))


CURLS = [line for line in lines() if line.startswith("curl ")]
OFFLINE = [line for line in CURLS if not OURS.search(line)]
COMMANDS = [
    found[1] for line in lines() if (found := COMMAND.fullmatch(line)) and not found[1].startswith(ENDLESS)
]  # fmt: skip
CONFIGURATIONS = [text for text in blocks("yaml") if text.startswith("# timebase.yaml")]
MANIFESTS = [text for text in blocks("yaml") if text not in CONFIGURATIONS]


@pytest.fixture(scope="module")
def house(new_home: Callable[[], Path], serving: ServerMaker) -> Iterator[Server]:
    """A server with the bundled providers, in a folder where people would type: `plugin new` writes there."""
    home = new_home()
    shutil.copytree(HOUSE / "manifests", home / "manifests", ignore=shutil.ignore_patterns("my-vendor"))
    with serving(home) as server:
        # What later lines of the same page ask for.
        for arguments in (["my-vendor"], ["our-vendor", "--folder", "drafts"]):
            made = server.run("plugin", "new", *arguments)
            assert made.returncode == 0, made.stderr.decode()
        yield server


def test_there_are_lines_to_try() -> None:
    assert len(OFFLINE) >= 5
    assert len(COMMANDS) >= 5


@pytest.mark.parametrize("line", OFFLINE)
def test_a_documented_question_is_answered(house: Server, line: str) -> None:
    address = house.url.removeprefix("http://")
    assert ADDRESS in line, "a reader has the server at its usual address"
    typed = shlex.split(line.replace(ADDRESS, address))
    retrying = ["--retry", "20", "--retry-delay", "1", "--retry-all-errors"]  # a new provider has two seconds
    done = subprocess.run(
        [*typed, "--silent", "--show-error", "--fail", *retrying], capture_output=True, timeout=30, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout


@pytest.mark.parametrize("arguments", COMMANDS)
def test_a_documented_command_works(house: Server, tmp_path: Path, arguments: str) -> None:
    typed = shlex.split(arguments)
    where = tmp_path if typed[:2] == ["plugin", "new"] else house.home
    environ = house.environ | {"TIMEBASE_SERVER": house.url}
    done = command(*typed, cwd=where, environ=environ)
    assert done.returncode == 0, done.stderr.decode()
    if "-o" in typed:
        assert (house.home / typed[typed.index("-o") + 1]).stat().st_size > 1_000


def test_a_reader_who_has_seen_enough_is_no_fault(house: Server) -> None:
    """`timebase watch … | head -1`: the first event after that finds nobody."""
    typed = [sys.executable, "-m", "timebase", "watch", "DEMO-CRYPTO", "--json", "--trades", "--from", "-2h"]
    environ = house.environ | {"TIMEBASE_SERVER": house.url}
    with subprocess.Popen(typed, env=environ, cwd=house.home, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as watch:
        assert watch.stdout is not None
        assert watch.stderr is not None
        watch.stdout.readline()
        watch.stdout.close()
        assert watch.stderr.read() == b""


def test_the_printed_configuration_is_good(house: Server, tmp_path: Path) -> None:
    assert CONFIGURATIONS
    for text in CONFIGURATIONS:
        (tmp_path / "timebase.yaml").write_text(text)
        done = command("check", cwd=tmp_path, environ=house.environ)
        assert done.returncode == 0, done.stderr.decode()


def test_the_printed_manifests_are_good(house: Server, tmp_path: Path) -> None:
    """`file.py:Class` in a manifest is looked for beside it, so the file is put there."""
    assert len(MANIFESTS) >= 2
    for text in MANIFESTS:
        folder = tmp_path / yaml.safe_load(text)["slug"]
        folder.mkdir()
        (folder / "config.yaml").write_text(text)
        (folder / "provider.py").touch()
    done = command("check", cwd=tmp_path, environ=house.environ | {"TIMEBASE_MANIFESTS": str(tmp_path)})
    assert done.returncode == 0, done.stderr.decode()


def test_the_printed_scripts_are_there() -> None:
    scripts = {line.split()[0] for line in lines() if line.startswith("./")}
    assert {script for script in scripts if not (HOUSE / script).is_file()} == set()
