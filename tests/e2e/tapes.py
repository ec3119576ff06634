"""Tapes of trades, played by the bundled replay."""

from pathlib import Path

from e2e.live_stubs import Row
from e2e.running import Server, asking

from timebase.house import MANIFESTS

REPLAY = "/api/v1/replay"


def only_replay(home: Path) -> None:
    """Make it the only provider of a home."""
    (home / "manifests" / "replay").mkdir(parents=True)
    config = (MANIFESTS / "replay" / "config.yaml").read_text()
    (home / "manifests" / "replay" / "config.yaml").write_text(config)


def write_tape(file: Path, rows: list[Row]) -> Path:
    file.write_text("\n".join(["time,price,size,id", *(",".join(map(repr, row)) for row in rows)]))
    return file


async def put_in(server: Server, **order: object) -> None:
    async with asking(server) as client:
        reply = await client.put(REPLAY, json=order)
        assert reply.status_code == 200, reply.text


async def position_us(server: Server) -> int:
    """How far the tape has been played."""
    async with server.client() as client:
        return 1000 * ((await client.get(REPLAY)).json()["position"] or 0)
