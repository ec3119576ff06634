"""`timebase migrate`: the database at the schema of this version; `serve` does it too."""

import argparse
from pathlib import Path

import trio

from timebase.app import store_of
from timebase.config import Settings, load_settings


def run(args: argparse.Namespace) -> int:
    applied = trio.run(_migrate, load_settings(file=Path(args.config) if args.config else None))
    for name in applied:
        print(f"applied {name}")  # noqa: T201
    print("the database is up to date")  # noqa: T201
    return 0


async def _migrate(settings: Settings) -> tuple[str, ...]:
    async with store_of(settings) as store:
        return store.applied_migrations
