"""`timebase coverage SYMBOL`: what is stored, and what is known to be missing."""

import argparse

from rich.console import Console
from rich.table import Table

from timebase.cli.connection import ask, open_client


def run(args: argparse.Namespace) -> int:
    with open_client(args.config) as client:
        reply = ask(client, f"/api/v1/coverage/{args.symbol}", {"times": "iso"}).json()
    table = Table(title=f"coverage of {reply['symbol']}")
    for name in ("provider", "interval", "outcome", "from", "to"):
        table.add_column(name)
    for series in reply["series"]:
        for outcome, ranges in series["coverage"].items():
            for start, end in ranges:
                table.add_row(series["provider"], series["interval"], outcome, str(start), str(end))
    Console().print(table)
    return 0
