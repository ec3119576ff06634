"""`timebase migrate`: the database at the schema of this version; `serve` does it too."""

import argparse
from pathlib import Path

import trio

from timebase.app import store_of
from timebase.config import Settings, load_settings
from timebase.storage.store import StoreFacts


def run(args: argparse.Namespace) -> int:
    facts = trio.run(_migrate, load_settings(file=Path(args.config) if args.config else None))
    print(f"{facts.database} is up to date: {', '.join(facts.migrations)}")  # noqa: T201
    return 0


async def _migrate(settings: Settings) -> StoreFacts:
    async with store_of(settings) as store:
        return store.facts()
