"""`timebase get SYMBOL`: bars as a table, or in any of the server's formats."""

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from timebase.cli.connection import ask, open_client

TABLE_ROWS = 40  # a longer table shows its head and tail; -o and --format print everything
BINARY = ("arrow", "parquet")


def run(args: argparse.Namespace) -> int:
    wanted = args.format or _format_of(args.output)
    params = {name: getattr(args, name) for name in ("interval", "start", "end", "limit", "adjust", "provider")}
    params["format"] = "json" if wanted == "table" else wanted
    with open_client(args.config) as client:
        response = ask(client, f"/api/v1/data/{args.symbol}", params)
    if wanted == "table":
        _print_table(response.json())
    elif args.output:
        Path(args.output).write_bytes(response.content)
        print(f"{args.output}: {len(response.content):,} bytes", file=sys.stderr)  # noqa: T201
    elif wanted in BINARY and sys.stdout.isatty():
        print(f"{wanted} is not for a terminal; write it to a file with -o FILE", file=sys.stderr)  # noqa: T201
        return 1
    else:
        sys.stdout.buffer.write(response.content)
        sys.stdout.buffer.flush()
    return 0


def _format_of(output: str | None) -> str:
    if output is None:
        return "table"
    ending = Path(output).suffix.lstrip(".").lower()
    return {"csv": "csv", "ndjson": "ndjson", "arrow": "arrow", "feather": "arrow", "parquet": "parquet"}.get(
        ending, "json"
    )


def _print_table(reply: dict[str, Any]) -> None:
    bars, meta = reply["bars"], reply["meta"]
    count = len(bars["time"])
    table = Table(title=f"{reply['symbol']} {reply['interval']} from {reply['provider']} ({meta['source']})")
    for name in ("time (UTC)", "open", "high", "low", "close", "volume"):
        table.add_column(name, justify="right", no_wrap=True)
    shown = range(count)
    if count > TABLE_ROWS:
        shown = [*range(TABLE_ROWS // 2), -1, *range(count - TABLE_ROWS // 2, count)]  # type: ignore[assignment]
    for at in shown:
        if at < 0:
            table.add_row(*("…" for _ in range(6)))
            continue
        when = datetime.fromtimestamp(bars["time"][at] / 1000, UTC).strftime("%Y-%m-%d %H:%M")
        prices = (f"{bars[name][at]:,.6g}" for name in ("open", "high", "low", "close"))
        table.add_row(when, *prices, f"{bars['volume'][at]:,.0f}")
    Console().print(table)
    complete = "complete" if meta["coverage"]["complete"] else "INCOMPLETE"
    print(f"{count:,} bars, {complete}", file=sys.stderr)  # noqa: T201
    for warning in reply["warnings"]:
        print(f"warning: {warning}", file=sys.stderr)  # noqa: T201
