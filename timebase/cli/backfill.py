"""`timebase backfill SYMBOL …`: fetch and store, with progress; interrupted, the same command goes on where it stopped.

The ledger in the database is the only state: a range that is complete there is skipped at once.
"""

import argparse
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
import trio
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
from timebase.cli.connection import CommandFailed, Reached, problem_text, reach_server
from timebase.clock import now_us
from timebase.errors import BadParameter
from timebase.model.interval import Interval, parse_interval
from timebase.model.timerange import DAY_US, TimeRange, to_datetime

BARS_PER_PIECE = 50_000  # a few seconds of work: fine-grained progress, and little is asked twice after a crash
MAX_WAIT_S = 60.0
RETRY_S = (1, 2, 4, 8, 16, 30, 30, 30)  # for a server or database that is away for a while, and for a rate limit
RETRIES_OF_A_FAILURE = 2  # when every provider failed: the server has tried each several times itself
INTERRUPTED = 130


@dataclass(slots=True)
class Job:
    """What is to be fetched, how far it is, and who shows it."""

    interval: Interval
    pieces: list[TimeRange]
    provider: str | None
    progress: Progress
    bar: TaskID
    new: int = 0
    failed: int = 0
    is_interrupted: bool = False

    def advance(self, pieces: int, new: int = 0) -> None:
        self.new += new
        self.progress.update(self.bar, advance=pieces, bars=self.new)


class BarsPerSecond(ProgressColumn):
    def render(self, task: Task) -> Text:
        elapsed = task.finished_time or task.elapsed or 0.0
        rate = task.fields["bars"] / elapsed if elapsed else 0.0
        return Text(f"{task.fields['bars']:,} bars, {rate:,.0f}/s")


def run(args: argparse.Namespace) -> int:
    interval = parse_interval(args.interval)
    if interval is None:
        raise BadParameter("interval", f"{args.interval!r} is not an interval", [i.value for i in Interval])
    pieces = list(_pieces(_range(args), interval))
    columns = (TextColumn("backfill"), BarColumn(), MofNCompleteColumn(), BarsPerSecond(), TimeRemainingColumn())
    console = Console(stderr=True)
    with reach_server(args.config) as reached, Progress(*columns, console=console) as progress:
        bar = progress.add_task("backfill", total=len(pieces) * len(args.symbols), bars=0)
        job = Job(interval, pieces, args.provider, progress, bar)
        trio.run(_fetch_all, reached, args.symbols, max(1, args.jobs), job)
    if job.is_interrupted:
        print("interrupted; what is stored stays, the same command goes on from here", file=sys.stderr)  # noqa: T201
        return INTERRUPTED
    print(f"{job.new:,} new bars, {job.failed} of {len(args.symbols)} symbols failed", file=sys.stderr)  # noqa: T201
    return 1 if job.failed else 0


async def _fetch_all(reached: Reached, symbols: list[str], at_once: int, job: Job) -> None:
    limit = trio.CapacityLimiter(at_once)
    async with (
        _until_interrupted(job),
        httpx.AsyncClient(base_url=reached.url, headers=reached.headers, timeout=reached.timeout) as client,
        trio.open_nursery() as nursery,
    ):
        for symbol in symbols:
            nursery.start_soon(_fetch_symbol, client, symbol, job, limit)


@asynccontextmanager
async def _until_interrupted(job: Job) -> AsyncIterator[None]:
    """Ctrl-C ends the block in order, and is noted."""
    with trio.open_signal_receiver(signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                async for _ in signals:
                    job.is_interrupted = True
                    nursery.cancel_scope.cancel()

            nursery.start_soon(watch)
            yield
            nursery.cancel_scope.cancel()


async def _fetch_symbol(client: httpx.AsyncClient, symbol: str, job: Job, limit: trio.CapacityLimiter) -> None:
    async with limit:
        for done, piece in enumerate(job.pieces):
            body = {"symbol": symbol, "interval": job.interval.value}
            body |= {"start": to_datetime(piece.start_us).isoformat(), "end": to_datetime(piece.end_us).isoformat()}
            body |= {"provider": job.provider} if job.provider else {}
            try:
                job.advance(1, await _post(client, body))
            except CommandFailed as exc:
                job.failed += 1
                job.advance(len(job.pieces) - done)
                job.progress.console.print(f"{symbol}: {exc}", style="red", markup=False)
                return


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


async def _post(client: httpx.AsyncClient, body: dict[str, str]) -> int:
    """New bars stored. Waits out a busy or restarting server, a database that is away and a rate limit."""
    said = ""
    for tried, pause_s in enumerate(RETRY_S):
        wait_s = float(pause_s)
        try:
            response = await client.post("/api/v1/backfill", json=body)
        except httpx.HTTPError as exc:
            said = f"the server does not answer: {exc}"
        else:
            said = _why_not(response)
            if not said:
                return int(response.json()["fetched"])
            if not _may_pass(response, tried):
                break
            wait_s = min(float(response.headers.get("Retry-After", wait_s)), MAX_WAIT_S)
        await trio.sleep(wait_s)
    raise CommandFailed(said)


def _why_not(response: httpx.Response) -> str:
    """Empty when all that can be had is stored: what nobody keeps, or the validator refused, is not waited for."""
    if response.is_error:
        return problem_text(response)
    done = response.json()
    last = done["attempts"][-1] if done["attempts"] else {"outcome": "ok"}
    if done["coverage"]["complete"] or last["outcome"] == "ok":
        return ""
    return f"{last['provider']} broke off: {last['outcome']}: {last['reason']}"


def _may_pass(response: httpx.Response, tried: int) -> bool:
    """Whether asking again can help."""
    if response.status_code == httpx.codes.BAD_GATEWAY and "Retry-After" not in response.headers:
        return tried < RETRIES_OF_A_FAILURE
    return response.is_success or response.status_code in (429, 502, 503, 504)
