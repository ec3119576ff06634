"""The wheel brings all that the server needs beside its code: bundled providers, migrations, pages."""

import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from e2e.asked import ask, span
from e2e.running import Server, states, until

CHECKOUT = Path(__file__).parents[2]
BUNDLED = {folder.name for folder in (CHECKOUT / "manifests").iterdir() if (folder / "config.yaml").is_file()}


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    """Where nothing of the checkout is near."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=CHECKOUT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    return tmp_path / "site"


async def test_a_server_from_the_wheel_has_every_bundled_provider_and_answers(
    unpacked: Path, home: Path, new_database: Callable[[], str]
) -> None:
    server = Server(home, [], database_url=new_database())
    del server.environ["TIMEBASE_MANIFESTS"]
    server.environ["PYTHONPATH"] = str(unpacked)
    server.start()
    try:
        async with server.client() as client:
            await until(lambda: _all_stand(client))
            assert set(await states(client)) == BUNDLED
            answer = await ask(client, "DEMO-STOCK", span("2024-01-01", "2024-02-01"), "1d")
            assert (answer["provider"], len(answer["bars"]["time"])) == ("demo", 21)
            assert (await client.get("/docs")).status_code == 200
    finally:
        assert server.stop() == 0
    assert server.errors() == []


async def _all_stand(client: httpx.AsyncClient) -> bool:
    """`files` waits for a folder to be named."""
    known = await states(client)
    return {slug for slug, each in known.items() if each["state"] in {"ready", "waiting"}} >= BUNDLED
