"""A plugin's folder is dropped in, changed, broken and removed while the server runs."""

from pathlib import Path

import httpx
from e2e.asked import ask, get, problem_of, span
from e2e.conftest import Hall
from e2e.running import is_ready, states, until
from e2e.stubs import Stub

DAY = span("2024-01-01", "2024-01-02")


async def test_a_dropped_folder_is_live_and_gone_when_removed(hall: Hall, client: httpx.AsyncClient) -> None:
    dropped = Stub("dropped", hall.a.home.parent, hall.a.folder.parent, priority=90)
    try:
        await until(lambda: is_ready(client, "dropped"))
        assert (await ask(client, "DROPPED-USD", DAY))["provider"] == "dropped"
    finally:
        dropped.remove()
    await until(lambda: _is_gone(client, "dropped"))
    assert (await ask(client, "AFTERWARDS-USD", DAY))["provider"] == "stub-a"
    assert problem_of(await get(client, "ANY-USD", DAY, provider="dropped"), 404)["code"] == "unknown_provider"
    # What it had brought is still there.
    assert (await ask(client, "DROPPED-USD", DAY))["provider"] == "dropped"


async def test_a_changed_manifest_is_heeded(hall: Hall, client: httpx.AsyncClient) -> None:
    stub = Stub("changing", hall.a.home.parent, hall.a.folder.parent, priority=1)
    config = stub.home / "config.yaml"
    try:
        await until(lambda: is_ready(client, "changing"))
        config.write_text(config.read_text().replace("priority: 1", "priority: 95"))
        await until(lambda: _has_priority(client, "changing", 95))
        assert (await ask(client, "CHANGED-USD", DAY))["provider"] == "changing"
    finally:
        stub.remove()
    await until(lambda: _is_gone(client, "changing"))


async def test_a_broken_manifest_is_named_with_file_and_line_and_everything_else_runs_on(
    hall: Hall, client: httpx.AsyncClient
) -> None:
    stub = Stub("breaking", hall.a.home.parent, hall.a.folder.parent, priority=1)
    config = stub.home / "config.yaml"
    try:
        await until(lambda: is_ready(client, "breaking"))
        good = config.read_text()
        line = good.splitlines().index("slug: breaking") + 1

        config.write_text(good.replace("slug: breaking", "slug: Not A Slug"))
        (fault,) = await until(lambda: _faults(client, stub.home))
        assert fault.startswith(f"{config}:{line}: ")
        assert "write" in fault

        config.write_text(good.replace("slug: breaking", "slug: [breaking"))
        await until(lambda: _has_other_faults(client, stub.home, (fault,)))
        (fault,) = await _faults(client, stub.home)
        assert fault.startswith(f"{config}:")
        assert fault.removeprefix(f"{config}:").split(":")[0].isdigit()

        assert (await ask(client, "MEANWHILE-USD", DAY))["provider"] == "stub-a"
        assert (await client.get("/health")).json()["status"] == "degraded"

        config.write_text(good)
        await until(lambda: _is_mended(client, stub.home))
        await until(lambda: is_ready(client, "breaking"))
    finally:
        stub.remove()
    await until(lambda: _is_gone(client, "breaking"))


async def _is_gone(client: httpx.AsyncClient, slug: str) -> bool:
    return slug not in await states(client)


async def _has_priority(client: httpx.AsyncClient, slug: str, priority: int) -> bool:
    state = (await states(client))[slug]
    return (state["priority"], state["state"]) == (priority, "ready")


async def _faults(client: httpx.AsyncClient, folder: Path) -> tuple[str, ...]:
    broken = (await client.get("/api/v1/providers")).json()["broken"]
    return tuple(fault for each in broken if each["folder"] == str(folder) for fault in each["faults"])


async def _has_other_faults(client: httpx.AsyncClient, folder: Path, than: tuple[str, ...]) -> bool:
    return await _faults(client, folder) not in ((), than)


async def _is_mended(client: httpx.AsyncClient, folder: Path) -> bool:
    return not await _faults(client, folder)
