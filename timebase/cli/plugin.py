"""`timebase plugin`: a working provider to start from; and providers given to the server and taken from it."""

import argparse
import io
import os
import tarfile
from pathlib import Path

from timebase.cli.connection import checked, open_client, request
from timebase.errors import BadParameter
from timebase.sdk.skeleton import new_plugin

MAX_BYTES = 64 << 20  # the server takes less: this only keeps a wrong folder from filling our memory
LEFT_BEHIND = ("__pycache__", "node_modules")  # and what is hidden


def run(args: argparse.Namespace) -> int:
    match args.plugin_command:
        case "new":
            return _new(args)
        case "install":
            return _send(args, "/api/v1/providers")
        case "update":
            return _send(args, f"/api/v1/providers/{args.slug}/update")
        case _:
            return _remove(args)


def _new(args: argparse.Namespace) -> int:
    for path in new_plugin(args.name, Path(args.folder)):
        print(path)  # noqa: T201
    return 0


def _send(args: argparse.Namespace, where: str) -> int:
    archive = packed(Path(args.path))
    with open_client(args.config) as client:
        reply = request(client, "POST", where, content=archive, headers={"Content-Type": "application/octet-stream"})
    facts = checked(reply).json()
    print(f"{facts['slug']} {facts['version']} is {facts['state']}; `timebase providers` lists it")  # noqa: T201
    return 0


def _remove(args: argparse.Namespace) -> int:
    with open_client(args.config) as client:
        reply = request(client, "DELETE", f"/api/v1/providers/{args.slug}")
    print(f"{args.slug} is gone; its folder is kept in {checked(reply).json()['kept']}")  # noqa: T201
    return 0


def packed(path: Path) -> bytes:
    """The archive at `path`, or one of the folder there. Raises: BadParameter."""
    try:
        if not path.is_dir():
            return path.read_bytes()
        if not (path / "config.yaml").is_file():
            raise BadParameter("PATH", f"there is no config.yaml in {path}; `timebase plugin new` writes one")
        return _pack(path)
    except OSError as exc:
        raise BadParameter("PATH", f"{path} cannot be read: {exc.strerror}") from exc


def _pack(folder: Path) -> bytes:
    out = io.BytesIO()
    left = MAX_BYTES

    def chosen(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
        nonlocal left
        name = os.path.basename(info.name)  # noqa: PTH119 - a name in the archive
        if info.name != "." and (name.startswith(".") or name in LEFT_BEHIND):
            return None
        left -= info.size
        if left < 0:
            raise BadParameter("PATH", f"{folder} holds more than {MAX_BYTES >> 20} MiB; keep data apart from the code")
        return info

    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        archive.add(folder, arcname=".", filter=chosen)
    return out.getvalue()
