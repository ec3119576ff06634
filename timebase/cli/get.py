"""`timebase get SYMBOL`: bars as a table, or in any of the server's formats."""

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from timebase.cli.connection import CommandFailed, ask, open_client, symbol_path
from timebase.errors import BadParameter

TABLE_ROWS = 40  # a longer table shows its head and tail; -o and --format print everything
BINARY = ("arrow", "parquet")
ENDINGS = {
    "csv": "csv", "json": "json", "ndjson": "ndjson", "jsonl": "ndjson", "arrow": "arrow", "feather": "arrow",
    "parquet": "parquet",
}  # fmt: skip


def run(args: argparse.Namespace) -> int:
    wanted = _format(args.format, args.output)
    params = {name: getattr(args, name) for name in ("interval", "start", "end", "limit", "adjust", "provider")}
    params["format"] = "json" if wanted == "table" else wanted
    with open_client(args.config) as client:
        response = ask(client, symbol_path("data", args.symbol), params)
    if wanted == "table":
        _print_table(response.json())
    elif args.output:
        _write(Path(args.output), response.content)
    elif wanted in BINARY and sys.stdout.isatty():
        print(f"{wanted} is not for a terminal; write it to a file with -o FILE", file=sys.stderr)  # noqa: T201
        return 1
    else:
        sys.stdout.buffer.write(response.content)
        sys.stdout.buffer.write(b"\n" if wanted == "json" else b"")
        sys.stdout.buffer.flush()
    return 0


def _format(named: str | None, output: str | None) -> str:
    """Raises: BadParameter when neither the format nor the file's ending says what to write."""
    if output is None:
        return named or "table"
    wanted = named or ENDINGS.get(Path(output).suffix.lstrip(".").lower(), "")
    if wanted not in ENDINGS.values():
        raise BadParameter("-o", f"{output}: name the format with --format, or by the ending", tuple(ENDINGS))
    return wanted


def _write(file: Path, content: bytes) -> None:
    try:
        file.write_bytes(content)
    except OSError as exc:
        raise CommandFailed(f"{file} cannot be written: {exc.strerror}") from exc
    print(f"{file}: {len(content):,} bytes", file=sys.stderr)  # noqa: T201


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
