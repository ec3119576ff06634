"""`timebase replay FILE|SYMBOL …`: play recorded trades as if they happened now, and keep a hand on the tape.

Keys in a terminal: space pauses, ← and → wind a minute, ↑ and ↓ double and halve the speed, q stops.
"""

import argparse
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
from rich.console import Console
from rich.live import Live
from rich.text import Text

from timebase.cli.connection import CommandFailed, ask, checked, open_client, symbol_path
from timebase.config import load_settings
from timebase.errors import BadParameter
from timebase.model.instrument import canonical_symbol
from timebase.model.timerange import MINUTE_US, to_datetime

PATH = "/api/v1/replay"
PROVIDER = "/api/v1/providers/replay"
AT_WORK = frozenset({"ready", "starting", "stopping"})
PATIENCE_S = 300.0  # to load a tape: ten million trades take some seconds
PAGE = 1_000_000
LOOK_S = 0.25
WIND_MS = MINUTE_US // 1_000
FASTEST, SLOWEST = 1e6, 0.125
LEFT, RIGHT, UP, DOWN = b"\x1b[D", b"\x1b[C", b"\x1b[A", b"\x1b[B"


def run(args: argparse.Namespace) -> int:
    with open_client(args.config) as client:
        if args.tapes:
            order = {"tapes": "\n".join(_tapes(args, client)), "state": "paused" if args.paused else "playing"}
        else:
            order = {}
        order |= {name: value for name in ("speed", "position") if (value := getattr(args, name)) is not None}
        state = _put(client, order) if order else ask(client, PATH).json()
        if not args.detach:
            return _follow(client, state)
        Console().print(_line(_obeyed(client, state)))
        return 0


def _tapes(args: argparse.Namespace, client: httpx.Client) -> Iterator[str]:
    """SYMBOL=PATH of each argument: a file, SYMBOL=FILE, or a symbol of which the server has stored trades."""
    for text in args.tapes:
        symbol, mark, file = text.partition("=")
        if Path(text).is_file():
            yield f"{symbol_of(Path(text))}={Path(text).absolute()}"
        elif mark and Path(file).is_file():
            yield f"{canonical_symbol(symbol)}={Path(file).absolute()}"
        elif "/" in text or Path(text).suffix:
            raise BadParameter("FILE", f"there is no file {text}")
        else:
            yield f"{canonical_symbol(text)}={_stored(args, client, canonical_symbol(text), file)}"


def symbol_of(file: Path) -> str:
    """What a file's name says: up to the first `_` or `.`.

    Example: `BTC-USDT_2024-08-09.csv.gz` -> `BTC-USDT`
    """
    return canonical_symbol(file.name.partition(".")[0].partition("_")[0])


def _stored(args: argparse.Namespace, client: httpx.Client, symbol: str, file: str) -> Path:
    """The server's own trades of a symbol, as a tape in the data directory.

    `file`: what was meant, if `=` is not part of the symbol, as it is in GC=F.
    """
    import polars as pl

    settings = load_settings(file=Path(args.config) if args.config else None)
    path = settings.data_dir.absolute() / "tapes" / f"{symbol.replace('/', '_')}.parquet"
    params = {"format": "parquet", "limit": PAGE, "start": args.start or "1970-01-01", "end": args.end}
    params["provider"] = args.provider
    pages, cursor = [], None
    while True:
        given = {"format": "parquet", "cursor": cursor} if cursor else params
        try:
            response = ask(client, symbol_path("trades", symbol), given)
        except CommandFailed as exc:
            raise CommandFailed(f"there is no file {file}, and {exc}" if file else str(exc)) from exc
        pages.append(pl.read_parquet(response.content))
        cursor = orjson.loads(response.headers["timebase-meta"])["next"]
        if cursor is None:
            break
    trades = pl.concat(pages)
    if trades.is_empty():
        raise CommandFailed(f"no trades of {symbol} are stored; whoever follows trades:{symbol} records them")
    path.parent.mkdir(parents=True, exist_ok=True)
    trades.write_parquet(path)
    return path


def _put(client: httpx.Client, order: Mapping[str, Any]) -> dict[str, Any]:
    try:
        response = client.put(PATH, json=dict(order))
    except httpx.HTTPError as exc:
        raise CommandFailed(f"the server at {client.base_url} does not answer: {exc}") from exc
    state: dict[str, Any] = checked(response).json()
    return state


def _obeyed(client: httpx.Client, state: dict[str, Any]) -> dict[str, Any]:
    """What has become of the order, once it is done; tapes that cannot be played are taken out.

    Raises: CommandFailed when it cannot be done, or there is nobody who would do it.
    """
    until_s = time.monotonic() + PATIENCE_S
    while state["state"] == "waiting":
        provider = ask(client, PROVIDER).json()
        if provider["state"] not in AT_WORK:
            raise CommandFailed(f"the provider replay is {provider['state']}: {provider['reason']}")
        if time.monotonic() > until_s:
            raise CommandFailed(
                f"the replay does not take the order up for {PATIENCE_S:g} s; the server's log says more"
            )
        time.sleep(LOOK_S)
        state = ask(client, PATH).json()
    if state["state"] == "failed":
        _put(client, {"state": "stopped"})
        raise CommandFailed(state["error"])
    return state


def _follow(client: httpx.Client, state: dict[str, Any]) -> int:
    """Until the tape has ended or the user goes; the tapes are then taken out, as they are after Ctrl-C."""
    try:
        state = _obeyed(client, state)
        with Live(_line(state), console=Console(), auto_refresh=False) as live, _keys() as keys:
            while state["state"] not in {"ended", "empty", "failed"}:
                key = _next(keys)
                if key in {b"q", b"\x03"}:
                    break
                order = order_of(key, state)
                state = _put(client, order) if order else ask(client, PATH).json()
                live.update(_line(state), refresh=True)
    finally:
        _put(client, {"state": "stopped"})
    if state["state"] == "failed":
        raise CommandFailed(state["error"])
    return 0


def order_of(key: bytes, state: Mapping[str, Any]) -> dict[str, Any]:
    """What a key orders; nothing for one that has no meaning."""
    if key == b" ":
        return {"state": "playing" if state["state"] == "paused" else "paused"}
    if key in {UP, DOWN}:
        return {"speed": min(FASTEST, max(SLOWEST, state["speed"] * (2 if key == UP else 0.5)))}
    if key in {LEFT, RIGHT} and state["position"] is not None:
        at_ms = state["position"] + (WIND_MS if key == RIGHT else -WIND_MS)
        return {"position": to_datetime(at_ms * 1_000).isoformat()}
    return {}


def _line(state: Mapping[str, Any]) -> Text:
    symbols = " ".join(tape["symbol"] for tape in state["tapes"]) or "no tape"
    if state["position"] is None or not state["end"]:
        return Text(f"{state['state']}  {symbols}  {state['error']}".rstrip())
    whole = max(1, state["end"] - state["begin"])
    part = min(1.0, max(0.0, (state["position"] - state["begin"]) / whole))
    at = to_datetime(state["position"] * 1_000).strftime("%Y-%m-%d %H:%M:%S")
    return Text(f"{state['state']:<8}{symbols}  {at} UTC  {part:4.0%}  {state['speed']:g}x")


@contextmanager
def _keys() -> Iterator[int | None]:
    """The terminal's keys as they are pressed; None when there is no terminal."""
    if not sys.stdin.isatty():
        yield None
        return
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    try:
        tty.setcbreak(fd)
        yield fd
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def _next(keys: int | None) -> bytes:
    """The next key, or nothing after a while."""
    if keys is None:
        time.sleep(LOOK_S)
        return b""
    ready, _, _ = select.select([keys], [], [], LOOK_S)
    return os.read(keys, 8) if ready else b""
