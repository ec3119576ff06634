"""`timebase providers`: states and reasons."""

import argparse

from rich.console import Console
from rich.table import Table

from timebase.cli.connection import ask, open_client


def run(args: argparse.Namespace) -> int:
    with open_client(args.config) as client:
        reply = ask(client, "/api/v1/providers").json()
    table = Table(title="providers")
    for name in ("slug", "state", "reason", "version", "restarts", "memory"):
        table.add_column(name)
    for each in reply["providers"]:
        memory = f"{each['memory_bytes'] / 2**20:.0f} MB" if each.get("memory_bytes") else ""
        table.add_row(each["slug"], each["state"], each["reason"], each["version"], str(each["restarts"]), memory)
    console = Console()
    console.print(table)
    for broken in reply.get("broken", ()):
        for fault in broken["faults"]:
            console.print(f"broken: {fault}", style="red")
    return 0
