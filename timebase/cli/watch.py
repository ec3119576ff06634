"""`timebase watch SYMBOL`: what happens, as it happens.

A bad argument ends it before anything is connected, and so does a server that cannot be reached at first. A connection
that is lost later is made anew, for ever, and goes on where it stopped.
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.sync.client import ClientConnection, connect

from timebase.api.actions import parse_action
from timebase.cli.connection import CommandFailed, Reached, reach_server
from timebase.clock import now_us
from timebase.errors import RequestError

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
OPEN_S = 10.0
SCHEMES = {"http": "ws", "https": "wss"}
BAD_ARGUMENT = 2  # as argparse has it
SHOWN = frozenset({"bar", "trade", "quote"})


def run(args: argparse.Namespace) -> int:
    request = _request(args)
    try:
        parse_action(json.dumps(request).encode(), now_us())
    except RequestError as exc:
        print(f"timebase: {exc}", file=sys.stderr)  # noqa: T201
        return BAD_ARGUMENT
    with reach_server(args.config) as reached:
        show = _print_json if args.json else _Lines(sys.stdout.isatty()).print
        for event in _limited(_Watch(reached, request).events(), args.limit):
            show(event)
    return 0


def _request(args: argparse.Namespace) -> Mapping[str, Any]:
    start = getattr(args, "from")
    return {"action": "subscribe", "channels": _channels(args)} | ({} if start is None else {"from": start})


def _channels(args: argparse.Namespace) -> Sequence[str]:
    at = f"@{args.provider}" if args.provider else ""
    kinds = [kind for kind in ("trades", "quotes") if getattr(args, kind)]
    bars = [] if kinds and not args.interval else [f"bars:{args.symbol}:{args.interval or '1m'}{at}"]
    return [*bars, *(f"{kind}:{args.symbol}{at}" for kind in kinds)]


def _limited(events: Iterator[Mapping[str, Any]], limit: int | None) -> Iterator[Mapping[str, Any]]:
    """Everything, or so many bars, trades and quotes."""
    return events if limit is None else islice((event for event in events if event["type"] in SHOWN), limit)


class _Watch:
    """The stream, over as many connections as it takes."""

    def __init__(self, reached: Reached, request: Mapping[str, Any]) -> None:
        self._reached = reached
        self._request = request
        self._was_reached = False
        self._seen: dict[str, int] = {}
        self._last_us = 0
        self._pause_s = FIRST_PAUSE_S

    def events(self) -> Iterator[Mapping[str, Any]]:
        """Raises: CommandFailed when the server refuses, has no such channel, or was never there."""
        while True:
            try:
                with self._open() as socket:
                    self._was_reached = True
                    socket.send(json.dumps(self._resuming()))
                    yield from self._read(socket)
            except InvalidURI as exc:
                raise CommandFailed(f"{self._reached.url} is no address of a server: {exc}") from exc
            except (OSError, ConnectionClosed, InvalidHandshake) as exc:
                self._judge(exc)
                self._wait(exc)

    def _judge(self, why: Exception) -> None:
        """What no further try can mend. A proxy answers with 502 and the like while its server starts anew.

        Raises: CommandFailed.
        """
        if isinstance(why, InvalidStatus) and not (self._was_reached and why.response.status_code >= 500):
            raise CommandFailed(_refusal(why)) from why
        if not self._was_reached:
            raise CommandFailed(
                f"no server of TimeBase answers at {self._reached.url} ({why}); start one with `timebase serve`, "
                "or name another with TIMEBASE_SERVER=http://HOST:PORT"
            ) from why

    def _open(self) -> ClientConnection:
        address = urlsplit(self._reached.url)
        if address.scheme not in SCHEMES:
            raise CommandFailed(f"{self._reached.url} is no address of a server; write it like http://127.0.0.1:8080")
        url = urlunsplit((SCHEMES[address.scheme], address.netloc, "/api/v1/stream", "", ""))
        return connect(
            url, additional_headers=dict(self._reached.headers), compression=None, open_timeout=OPEN_S, max_size=None
        )  # fmt: skip

    def _resuming(self) -> Mapping[str, Any]:
        if not self._seen:
            return self._request
        return {**self._request, "resume": self._seen, "from": self._last_us // 1_000}

    def _read(self, socket: ClientConnection) -> Iterator[Mapping[str, Any]]:
        for frame in socket:
            for event in json.loads(frame):
                if event["type"] == "error" and event["code"].startswith("bad_"):
                    raise CommandFailed(event["message"])
                if event["type"] in SHOWN:
                    self._note(event)
                yield event

    def _note(self, event: Mapping[str, Any]) -> None:
        self._pause_s = FIRST_PAUSE_S
        self._seen[event["channel"]] = event["seq"]
        if event.get("status") != "forming":
            self._last_us = max(self._last_us, int(event["time"] * 1_000))

    def _wait(self, why: Exception) -> None:
        """Longer each time, and not all clients at once."""
        pause_s = self._pause_s * (0.5 + random.random())  # noqa: S311 - nobody's secret
        print(f"the connection is lost ({why}); trying again in {pause_s:.1f} s …", file=sys.stderr)  # noqa: T201
        time.sleep(pause_s)
        self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)


def _refusal(exc: InvalidStatus) -> str:
    try:
        return str(json.loads(exc.response.body or b"")["detail"])
    except (ValueError, KeyError):
        return f"the server refuses: HTTP {exc.response.status_code}"


def _print_json(event: Mapping[str, Any]) -> None:
    print(json.dumps(event), flush=True)  # noqa: T201


class _Lines:
    """A line per event. On a terminal, what is forming stays on one line until it is closed."""

    def __init__(self, is_terminal: bool) -> None:
        self._is_terminal = is_terminal
        self._is_open = False

    def print(self, event: Mapping[str, Any]) -> None:
        line = _line(event)
        if line is None:
            return
        is_open = event.get("status") == "forming" and self._is_terminal
        start = "\r\x1b[K" if self._is_open else ""
        print(f"{start}{line}", end="" if is_open else "\n", flush=True)  # noqa: T201
        self._is_open = is_open


def _line(event: Mapping[str, Any]) -> str | None:
    match event["type"]:
        case "bar":
            prices = " ".join(f"{name[0]} {_number(event[name])}" for name in ("open", "high", "low", "close"))
            return f"{_time(event, 'minutes')}  {event['status']:<10} {prices} v {_number(event['volume'])}"
        case "trade":
            return f"{_time(event, 'milliseconds')}  {event['side'] or '':<4} {event['price']} x {event['size']}"
        case "quote":
            prices = f"{event['bid']} x {event['bid_size']}  {event['ask']} x {event['ask_size']}"
            return f"{_time(event, 'milliseconds')}  {prices}"
        case "feed":
            why = f": {event['reason']}" if event["reason"] else ""
            return f"-- {event['channel']} is {event['state']}{why}"
        case "dropped":
            return f"-- {event['count']} events of {event['channel']} were dropped: this terminal is too slow"
        case "error" | "goodbye":
            return f"-- {event['message']}"
    return None


def _time(event: Mapping[str, Any], precision: str) -> str:
    return datetime.fromtimestamp(event["time"] / 1000, UTC).isoformat(" ", precision)[:-6]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.10g}"
