"""`timebase coverage SYMBOL`: what is stored, and what is known to be missing."""

import argparse

from rich.console import Console
from rich.table import Table

from timebase.cli.connection import ask, open_client, symbol_path


def run(args: argparse.Namespace) -> int:
    with open_client(args.config) as client:
        reply = ask(client, symbol_path("coverage", args.symbol), {"times": "iso"}).json()
    table = Table(title=f"coverage of {reply['symbol']}")
    for name in ("provider", "interval", "outcome", "from (UTC)", "to (UTC)"):
        table.add_column(name, no_wrap=True)
    for series in reply["series"]:
        for outcome, ranges in series["coverage"].items():
            for start, end in ranges:
                table.add_row(series["provider"], series["interval"], outcome, _minute(start), _minute(end))
    Console().print(table)
    return 0


def _minute(iso: str) -> str:
    """2024-01-31 09:30, which fits into a terminal's width; seconds only where there are any."""
    day, _, clock = iso.removesuffix("Z").partition("T")
    hours, minutes, seconds = clock.split(":")
    return f"{day} {hours}:{minutes}" + ("" if float(seconds) == 0 else f":{seconds[:2]}")
