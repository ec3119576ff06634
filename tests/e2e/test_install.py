"""Providers are installed, updated and removed while the server runs; and whatever is sent, it runs on."""

import io
import os
import tarfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
import trio
import yaml
from e2e.asked import ask, get, problem_of, span
from e2e.conftest import ServerMaker
from e2e.running import Server, asking, is_ready, states, until
from e2e.stubs import CODE

from timebase.supervisor.install import INCOMING, REMOVED, REPLACED

DAY = span("2024-01-01", "2024-01-02")
GZIP = {"Content-Type": "application/gzip"}


@pytest.fixture(scope="module")
def server(new_home: Callable[[], Path], serving: ServerMaker) -> Iterator[Server]:
    with serving(new_home()) as running:
        yield running


@pytest.fixture
async def client(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with server.client() as asker:
        yield asker


def plugin(server: Server, slug: str, *, version: str = "1.0.0", **more: object) -> dict[str, bytes]:
    """The files of a stub provider."""
    folder = server.home / "stubs" / slug
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "script.json").write_text("{}")
    content = {
        "name": f"Stub {slug}",
        "slug": slug,
        "version": version,
        "entrypoint": "provider.py:Stub",
        "data_types": ["crypto"],
        "intervals": ["1h"],
        "options": {"folder": {"type": "str", "default": str(folder)}},
        **more,
    }
    return {"config.yaml": yaml.safe_dump(content, sort_keys=False).encode(), "provider.py": CODE.read_bytes()}


def packed(files: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


async def install(client: httpx.AsyncClient, archive: bytes) -> httpx.Response:
    return await client.post("/api/v1/providers", content=archive, headers=GZIP)


async def update(client: httpx.AsyncClient, slug: str, archive: bytes) -> httpx.Response:
    return await client.post(f"/api/v1/providers/{slug}/update", content=archive, headers=GZIP)


def manifests(server: Server) -> Path:
    return server.home / "manifests"


def left_overs(server: Server) -> list[str]:
    return [each.name for each in manifests(server).iterdir() if each.name.startswith((INCOMING, REPLACED))]


async def test_a_provider_is_installed_answers_is_updated_and_removed(
    server: Server, client: httpx.AsyncClient
) -> None:
    installed = await install(client, packed(plugin(server, "guest")))
    assert installed.status_code == 201, installed.text
    assert (installed.json()["slug"], installed.json()["version"]) == ("guest", "1.0.0")
    assert (await client.get(installed.headers["location"])).status_code == 200
    await until(lambda: is_ready(client, "guest"))
    assert (await ask(client, "GUEST-USD", DAY))["provider"] == "guest"

    updated = await update(client, "guest", packed(plugin(server, "guest", version="2.0.0")))
    assert (updated.status_code, updated.json()["version"]) == (200, "2.0.0")
    await until(lambda: is_ready(client, "guest"))
    assert (await ask(client, "GUESTS-USD", DAY))["provider"] == "guest"
    assert left_overs(server) == []

    removed = await client.delete("/api/v1/providers/guest")
    assert removed.status_code == 200, removed.text
    assert "guest" not in await states(client)
    assert removed.json()["kept"] == str(manifests(server) / f"{REMOVED}guest")
    assert problem_of(await get(client, "ANY-USD", DAY, provider="guest"), 404)["code"] == "unknown_provider"
    # What it had brought is still there.
    assert (await ask(client, "GUEST-USD", DAY))["provider"] == "guest"


async def test_what_was_switched_off_and_removed_comes_back_switched_on(
    server: Server, client: httpx.AsyncClient
) -> None:
    archive = packed(plugin(server, "again"))
    await install(client, archive)
    await client.post("/api/v1/providers/again/disable")
    assert (await client.delete("/api/v1/providers/again")).status_code == 200
    assert (await install(client, archive)).status_code == 201
    await until(lambda: is_ready(client, "again"))
    await client.delete("/api/v1/providers/again")


async def test_a_slug_that_is_taken_is_a_conflict(server: Server, client: httpx.AsyncClient) -> None:
    archive = packed(plugin(server, "taken"))
    assert (await install(client, archive)).status_code == 201
    problem = problem_of(await install(client, archive), 409)
    assert problem["code"] == "provider_exists"
    assert "POST /api/v1/providers/taken/update puts another version in its place" in problem["suggestions"]
    await client.delete("/api/v1/providers/taken")


async def test_of_two_installations_at_once_one_wins(server: Server, client: httpx.AsyncClient) -> None:
    archive = packed(plugin(server, "twin"))
    replies: list[int] = []

    async def one() -> None:
        replies.append((await install(client, archive)).status_code)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one)
        nursery.start_soon(one)
    assert sorted(replies) == [201, 409]
    assert left_overs(server) == []
    await client.delete("/api/v1/providers/twin")


async def test_every_fault_of_a_manifest_is_named_with_its_line_and_nothing_is_installed(
    server: Server, client: httpx.AsyncClient
) -> None:
    broken = plugin(server, "broken", intervals=["2h"], entrypoint="nowhere.py:Stub")
    problem = problem_of(await install(client, packed(broken)), 422)
    assert problem["code"] == "bad_package"
    assert len(problem["faults"]) == 2
    assert all(fault.startswith("config.yaml:") for fault in problem["faults"])
    assert "the archive" in " ".join(problem["faults"])
    assert "broken" not in await states(client)
    assert not (manifests(server) / "broken").exists()
    assert left_overs(server) == []


async def test_a_broken_update_leaves_the_old_one_running(server: Server, client: httpx.AsyncClient) -> None:
    await install(client, packed(plugin(server, "steady")))
    await until(lambda: is_ready(client, "steady"))
    pid = (await states(client))["steady"]["pid"]
    for files in (plugin(server, "steady", intervals=["2h"]), plugin(server, "other"), {"provider.py": b""}):
        assert problem_of(await update(client, "steady", packed(files)), 422)["code"] == "bad_package"
    state = (await states(client))["steady"]
    assert (state["pid"], state["state"], state["version"]) == (pid, "ready", "1.0.0")
    assert (await ask(client, "STEADY-USD", DAY))["provider"] == "steady"
    await client.delete("/api/v1/providers/steady")


@pytest.mark.parametrize(
    "archive",
    [b"", b"garbage", os.urandom(4096), packed({"../config.yaml": b""}), packed({"config.yaml": bytes(40 << 20)})],
    ids=["nothing", "words", "noise", "slip", "bomb"],
)
async def test_what_is_no_plugin_is_refused(server: Server, client: httpx.AsyncClient, archive: bytes) -> None:
    assert problem_of(await install(client, archive), 422)["code"] == "bad_package"
    assert left_overs(server) == []
    assert not (server.home / "config.yaml").exists()


async def test_a_provider_that_is_not_there_is_neither_updated_nor_removed(
    server: Server, client: httpx.AsyncClient
) -> None:
    assert problem_of(await update(client, "nobody", packed(plugin(server, "nobody"))), 404)
    assert problem_of(await client.delete("/api/v1/providers/nobody"), 404)["code"] == "unknown_provider"


async def test_bundled_providers_can_only_be_disabled(home: Path, serving: ServerMaker) -> None:
    bundled = Path(__file__).parents[2] / "manifests"
    with serving(home, manifests=[bundled, home / "manifests"]) as server:
        async with server.client() as client:
            problem = problem_of(await client.delete("/api/v1/providers/demo"), 409)
            assert problem["code"] == "fixed_provider"
            assert "disable it instead" in problem["detail"]
            assert problem_of(await update(client, "demo", packed(plugin(server, "demo"))), 409)
            assert (await install(client, packed(plugin(server, "guest")))).status_code == 201
    assert (bundled / "demo/config.yaml").is_file()
    assert (home / "manifests/guest/config.yaml").is_file()


async def test_where_nothing_may_be_written_nothing_is_installed(home: Path, serving: ServerMaker) -> None:
    bundled = Path(__file__).parents[2] / "manifests"
    with serving(home, manifests=[bundled]) as server:
        async with server.client() as client:
            problem = problem_of(await install(client, packed(plugin(server, "guest"))), 409)
    assert problem["code"] == "config"
    assert "TIMEBASE_MANIFESTS" in problem["detail"]


async def test_a_kill_in_the_middle_leaves_no_half_folder(home: Path, serving: ServerMaker) -> None:
    """Killed at many instants of many installations and updates: what is there afterwards is whole."""
    with serving(home) as server:
        more = {f"data/{n}.bin": os.urandom(4096) for n in range(900)}
        first = packed(plugin(server, "kept", version="1.0.0") | more)
        second = packed(plugin(server, "kept", version="2.0.0") | more)
        for pause_s in (0.05, 0.15, 0.3):
            _kill_during(server, "/api/v1/providers", packed(plugin(server, "new") | more), pause_s)
            async with server.client() as client:
                known = await states(client)
                assert "new" not in known or len(list((manifests(server) / "new/data").iterdir())) == 900
                await client.delete("/api/v1/providers/new")
                await install(client, first)
            _kill_during(server, "/api/v1/providers/kept/update", second, pause_s)
            async with asking(server) as client:
                assert (await states(client))["kept"]["version"] in {"1.0.0", "2.0.0"}
                assert len(list((manifests(server) / "kept/data").iterdir())) == 900
                assert left_overs(server) == []
                await client.delete("/api/v1/providers/kept")


def _kill_during(server: Server, path: str, archive: bytes, pause_s: float) -> None:
    def post() -> None:
        with suppress(httpx.HTTPError):  # that is what a kill looks like
            httpx.post(server.url + path, content=archive, headers=GZIP, trust_env=False, timeout=30)

    poster = threading.Thread(target=post)
    poster.start()
    poster.join(pause_s)
    server.kill()
    poster.join()
    server.start()


def test_the_commands_install_update_and_remove(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "by-command"
    folder.mkdir()
    for name, content in plugin(server, "by-command").items():
        (folder / name).write_bytes(content)
    (folder / "__pycache__").mkdir()
    archive = tmp_path / "newer.tar.gz"
    archive.write_bytes(packed(plugin(server, "by-command", version="2.0.0")))

    installed = server.run("plugin", "install", str(folder))
    assert installed.returncode == 0, installed.stderr.decode()
    assert installed.stdout.startswith(b"by-command 1.0.0 is ")
    again = server.run("plugin", "install", str(folder))
    assert again.returncode == 1
    assert b"there is a provider by-command already" in again.stderr
    updated = server.run("plugin", "update", "by-command", str(archive))
    assert updated.stdout.startswith(b"by-command 2.0.0 is "), updated.stderr.decode()
    removed = server.run("plugin", "remove", "by-command")
    assert removed.returncode == 0, removed.stderr.decode()
    assert not (manifests(server) / "by-command").exists()


def test_what_cannot_be_sent_is_said_before_it_is(server: Server, tmp_path: Path) -> None:
    nothing = server.run("plugin", "install", str(tmp_path / "nothing"))
    assert (nothing.returncode, b"cannot be read" in nothing.stderr) == (1, True)
    empty = server.run("plugin", "install", str(tmp_path))
    assert (empty.returncode, b"no config.yaml" in empty.stderr) == (1, True)
