"""How a command reaches the server: the running one, or one of its own for as long as the command takes."""

import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import trio

from timebase.config import Settings, load_settings
from timebase.errors import BadParameter, TimeBaseError, sole
from timebase.logs import set_up_logs

READ_TIMEOUT_S = 600.0  # a long range of a slow vendor


class CommandFailed(TimeBaseError):
    """The server refused; its own words."""

    code = "command_failed"


@dataclass(frozen=True, slots=True)
class Reached:
    """A server that answers."""

    url: str
    headers: Mapping[str, str] = field(repr=False)
    timeout: httpx.Timeout = field(default_factory=lambda: httpx.Timeout(5.0, read=READ_TIMEOUT_S))


@contextmanager
def reach_server(config: str | None) -> Iterator[Reached]:
    """The server at TIMEBASE_SERVER or host:port; without one there, a server of our own for the block."""
    settings = load_settings(file=Path(config) if config else None)
    headers = {"Authorization": f"Bearer {settings.token}"} if settings.token else {}
    named = os.environ.get("TIMEBASE_SERVER")
    url = named or _own_url(settings)
    if named or _answers(url):
        yield Reached(url, headers)
        return
    with _own_server(settings) as own_url:
        yield Reached(own_url, headers)


@contextmanager
def open_client(config: str | None) -> Iterator[httpx.Client]:
    """A client of the server that `reach_server` finds."""
    with (
        reach_server(config) as reached,
        httpx.Client(base_url=reached.url, headers=reached.headers, timeout=reached.timeout) as client,
    ):
        yield client


def _own_url(settings: Settings) -> str:
    """Where a server with these settings is reached from this machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 - not bound, replaced
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def ask(client: httpx.Client, path: str, params: dict[str, Any] | None = None) -> httpx.Response:
    """GET, or CommandFailed with what the server's problem says."""
    try:
        response = client.get(path, params={k: v for k, v in (params or {}).items() if v is not None})
    except httpx.HTTPError as exc:
        raise CommandFailed(f"the server at {client.base_url} does not answer: {exc}") from exc
    return checked(response)


def symbol_path(resource: str, symbol: str) -> str:
    """Whatever the symbol holds stays part of it."""
    if not symbol.strip():
        raise BadParameter("symbol", "is empty; write it like AAPL, EUR-USD or BTC-USDT")
    return f"/api/v1/{resource}/{quote(symbol, safe='')}"


def checked(response: httpx.Response) -> httpx.Response:
    if response.is_error:
        raise CommandFailed(problem_text(response))
    return response


def problem_text(response: httpx.Response) -> str:
    try:
        problem = response.json()
    except ValueError:
        return f"the server answered {response.status_code}: {response.text[:200]}"
    lines = [str(problem.get("detail") or problem.get("title") or problem)]
    lines += [f"  {a['provider']}: {a['outcome']} {a['reason']}" for a in problem.get("attempts", ())]
    lines += [f"  try: {suggestion}" for suggestion in problem.get("suggestions", ())]
    return "\n".join(lines)


def _answers(url: str) -> bool:
    try:
        return "timebase" in httpx.get(f"{url}/health", timeout=2.0).headers.get("server", "").lower()
    except httpx.HTTPError:
        return False


@contextmanager
def _own_server(settings: Settings) -> Iterator[str]:
    """A server of our own on a free port of loopback, in a thread."""
    from timebase.app import run as run_server  # who finds a running server waits for no import of another

    print("no server is running; starting one for this command …", file=sys.stderr)  # noqa: T201
    set_up_logs("text", "ERROR")
    is_up = threading.Event()
    box: dict[str, Any] = {}

    def started(port: int) -> None:
        box["port"] = port
        is_up.set()

    async def serve() -> None:
        stop = trio.Event()
        box["stop"] = (trio.lowlevel.current_trio_token(), stop)
        await run_server(replace(settings, host="127.0.0.1", port=0), stop, started)

    def main() -> None:
        try:
            trio.run(serve)
        except BaseException as exc:  # noqa: ASYNC103, BLE001 - told in the command's own thread
            box["error"] = sole(exc)
        finally:
            is_up.set()

    thread = threading.Thread(target=main, name="timebase-server", daemon=True)
    thread.start()
    is_up.wait()
    if "port" not in box:
        raise CommandFailed(f"the server does not start: {box.get('error')}")
    try:
        yield f"http://127.0.0.1:{box['port']}"
    finally:
        token, stop = box["stop"]
        token.run_sync_soon(stop.set)
        thread.join()
