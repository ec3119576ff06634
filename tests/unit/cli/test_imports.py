"""What the commands load: they are typed again and again, and only ask."""

import subprocess
import sys

import pytest

HEAVY = ("numpy", "asyncpg", "quart", "prometheus_client", "timebase.app", "timebase.storage.store")


ASKING = ("backfill", "collect", "coverage", "get", "plugin", "providers", "replay", "watch")


@pytest.mark.parametrize("command", ASKING)
def test_a_command_that_only_asks_loads_nothing_of_the_server(command: str) -> None:
    code = f"import sys, timebase.cli.{command}; print([name for name in {HEAVY!r} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert loaded.stdout.strip() == "[]"
