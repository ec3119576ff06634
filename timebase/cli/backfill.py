"""`timebase backfill SYMBOL …`: fetch and store, with progress; interrupted, the same command goes on where it stopped.

The ledger in the database is the only state: a range that is complete there is skipped at once.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

import httpx
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from timebase.api.times import parse_time
from timebase.cli.connection import CommandFailed, open_client, problem_text
from timebase.clock import now_us
from timebase.errors import BadParameter
from timebase.model.interval import Interval, parse_interval
from timebase.model.timerange import DAY_US, TimeRange, to_datetime

BARS_PER_PIECE = 50_000  # a few seconds of work: fine-grained progress, and little is asked twice after a crash
MAX_WAIT_S = 60.0
RETRY_S = (1, 2, 4, 8, 16, 30, 30, 30)  # for a server or database that is away for a while


@dataclass(slots=True)
class Tally:
    new: int = 0
    failed: int = 0


class BarsPerSecond(ProgressColumn):
    def render(self, task: Task) -> Text:
        elapsed = task.finished_time or task.elapsed or 0.0
        rate = task.fields["bars"] / elapsed if elapsed else 0.0
        return Text(f"{task.fields['bars']:,} bars, {rate:,.0f}/s")


def run(args: argparse.Namespace) -> int:
    interval = parse_interval(args.interval)
    if interval is None:
        raise BadParameter("interval", f"{args.interval!r} is not an interval", [i.value for i in Interval])
    whole = _range(args)
    pieces = list(_pieces(whole, interval))
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        BarsPerSecond(),
        TimeRemainingColumn(),
    )
    tally = Tally()
    console = Console(stderr=True)
    with open_client(args.config) as client, Progress(*columns, console=console) as progress:
        total = progress.add_task("backfill", total=len(pieces) * len(args.symbols), bars=0)
        pool = ThreadPoolExecutor(max(1, args.jobs))
        try:
            for outcome in pool.map(
                lambda symbol: _backfill_one(client, symbol, interval, pieces, args.provider, progress, total, tally),
                args.symbols,
            ):
                if outcome:
                    console.print(outcome, style="red")
        except KeyboardInterrupt:
            console.print("interrupted; what is stored stays, the same command goes on from here")
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    print(f"{tally.new:,} new bars, {tally.failed} of {len(args.symbols)} symbols failed", file=sys.stderr)  # noqa: T201
    return 1 if tally.failed else 0


def _range(args: argparse.Namespace) -> TimeRange:
    at_us = now_us()
    start_us = _time("start", args.start, at_us) if args.start else at_us - 365 * DAY_US
    end_us = _time("end", args.end, at_us) if args.end else at_us
    if start_us >= end_us:
        raise BadParameter("start", f"{to_datetime(start_us):%Y-%m-%d} is not before the end")
    return TimeRange(start_us, end_us)


def _time(parameter: str, text: str, at_us: int) -> int:
    try:
        return parse_time(text, at_us)
    except ValueError as exc:
        raise BadParameter(parameter, str(exc)) from exc


def _pieces(whole: TimeRange, interval: Interval) -> Iterator[TimeRange]:
    """Oldest first, cut on multiples of the piece, so that the next run cuts alike."""
    step_us = interval.us * BARS_PER_PIECE
    start_us = whole.start_us
    while start_us < whole.end_us:
        end_us = min((start_us // step_us + 1) * step_us, whole.end_us)
        yield TimeRange(start_us, end_us)
        start_us = end_us


def _backfill_one(
    client: httpx.Client,
    symbol: str,
    interval: Interval,
    pieces: list[TimeRange],
    provider: str | None,
    progress: Progress,
    total: TaskID,
    tally: Tally,
) -> str | None:
    """The error that stopped this symbol, or None."""
    for done, piece in enumerate(pieces):
        body = {"symbol": symbol, "interval": interval.value, "provider": provider}
        body |= {"start": _iso(piece.start_us), "end": _iso(piece.end_us)}
        try:
            fetched = _post(client, {name: value for name, value in body.items() if value is not None})
        except CommandFailed as exc:
            tally.failed += 1
            progress.advance(total, len(pieces) - done)
            return f"{symbol}: {exc}"
        tally.new += fetched
        progress.update(total, advance=1, bars=tally.new)
    return None


def _post(client: httpx.Client, body: dict[str, str]) -> int:
    """New bars stored. Waits out a busy or restarting server, a database that is away and a rate limit."""
    said = ""
    for pause_s in RETRY_S:
        wait_s = float(pause_s)
        try:
            response = client.post("/api/v1/backfill", json=body)
        except httpx.HTTPError as exc:
            said = f"the server does not answer: {exc}"
        else:
            if response.status_code not in (429, 502, 503, 504):
                if response.is_error:
                    raise CommandFailed(problem_text(response))
                return int(response.json()["fetched"])
            said = problem_text(response)
            wait_s = min(float(response.headers.get("Retry-After", wait_s)), MAX_WAIT_S)
        time.sleep(wait_s)
    raise CommandFailed(said)


def _iso(at_us: int) -> str:
    at: datetime = to_datetime(at_us)
    return at.isoformat()
