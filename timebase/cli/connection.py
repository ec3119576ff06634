"""How a command reaches the server: the running one, or one of its own for as long as the command takes."""

import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
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
    given = {k: v for k, v in (params or {}).items() if v is not None}
    return checked(request(client, "GET", path, params=given))


def request(client: httpx.Client, method: str, path: str, **more: Any) -> httpx.Response:  # noqa: ANN401 - httpx's own
    """Whatever the server answers. Raises: CommandFailed when it does not."""
    try:
        return client.request(method, path, **more)
    except httpx.HTTPError as exc:
        raise CommandFailed(f"the server at {client.base_url} does not answer: {exc}") from exc


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
    lines += [
        f"  {each['provider']}: {each['outcome']} {each['reason']}"
        for each in problem.get("attempts", ())
        if each["reason"] not in lines[0]
    ]
    lines += [f"  try: {suggestion}" for suggestion in problem.get("suggestions", ())]
    return "\n".join(lines)


def _answers(url: str) -> bool:
    try:
        return "timebase" in httpx.get(f"{url}/health", timeout=2.0).headers.get("server", "").lower()
    except httpx.HTTPError:
        return False


@contextmanager
def _own_server(settings: Settings) -> Iterator[str]:
    """A server of our own on a free port of loopback, in a thread. Ctrl-C stops it in order, also while it starts."""
    print("no server is running; starting one for this command …", file=sys.stderr)  # noqa: T201
    set_up_logs("text", "ERROR")
    server = _OwnServer(replace(settings, host="127.0.0.1", port=0))
    thread = threading.Thread(target=server.run, name="timebase-server", daemon=True)
    thread.start()
    try:
        yield server.url()
    finally:
        server.stop()
        thread.join()


class _OwnServer:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._has_begun = threading.Event()
        self._is_up = threading.Event()
        self._port: int | None = None
        self._error: BaseException | None = None
        self._stop: Callable[[], None] = _nothing

    def run(self) -> None:
        """The thread's life."""
        try:
            trio.run(self._serve)
        except BaseException as exc:  # noqa: ASYNC103, BLE001 - told in the command's own thread
            self._error = sole(exc)
        finally:
            self._has_begun.set()
            self._is_up.set()

    async def _serve(self) -> None:
        from timebase.app import run as run_server  # who finds a running server waits for no import of another

        stop, token = trio.Event(), trio.lowlevel.current_trio_token()
        self._stop = lambda: token.run_sync_soon(stop.set)
        self._has_begun.set()
        await run_server(self._settings, stop, self._started)

    def _started(self, port: int) -> None:
        self._port = port
        self._is_up.set()

    def url(self) -> str:
        """Where it listens, once it does. Raises: CommandFailed when it cannot."""
        self._is_up.wait()
        if self._port is None:
            raise CommandFailed(f"the server does not start: {self._error}")
        return f"http://127.0.0.1:{self._port}"

    def stop(self) -> None:
        self._has_begun.wait()
        with suppress(trio.RunFinishedError):
            self._stop()


def _nothing() -> None:
    """What stops a server that has not begun."""
