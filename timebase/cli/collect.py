"""`timebase collect add|remove|list`: what the server keeps up to date by itself."""

import argparse

import httpx
from rich.console import Console
from rich.table import Table

from timebase.cli.connection import CommandFailed, ask, checked, open_client, symbol_path
from timebase.model.timerange import to_datetime

PATH = "/api/v1/collect"


def run(args: argparse.Namespace) -> int:
    with open_client(args.config) as client:
        if args.collect_command == "list":
            _show(ask(client, PATH))
        else:
            change = _add if args.collect_command == "add" else _remove
            for symbol in args.symbols:
                reply = change(client, symbol, args)
            _show(reply)
    return 0


def _add(client: httpx.Client, symbol: str, args: argparse.Namespace) -> httpx.Response:
    body = {"symbol": symbol, "interval": args.interval, "provider": args.provider}
    return _sent(client, "POST", PATH, json={name: value for name, value in body.items() if value is not None})


def _remove(client: httpx.Client, symbol: str, args: argparse.Namespace) -> httpx.Response:
    which = {"interval": args.interval, "provider": args.provider}
    given = {name: value for name, value in which.items() if value is not None}
    return _sent(client, "DELETE", symbol_path("collect", symbol), params=given)


def _sent(client: httpx.Client, method: str, path: str, **more: dict[str, str]) -> httpx.Response:
    try:
        return checked(client.request(method, path, **more))  # type: ignore[arg-type]
    except httpx.HTTPError as exc:
        raise CommandFailed(f"the server at {client.base_url} does not answer: {exc}") from exc


def _show(reply: httpx.Response) -> None:
    table = Table(title="collected")
    for name in ("symbol", "interval", "provider", "by", "last asked", "reason"):
        table.add_column(name)
    for line in reply.json()["collected"]:
        asked = f"{to_datetime(line['asked'] * 1000):%Y-%m-%d %H:%M:%S}" if line["asked"] else ""
        provider = line["provider"] or "the best one"
        table.add_row(line["symbol"], line["interval"], provider, line["by"], asked, line["reason"])
    Console().print(table)
