"""Questions as a client writes them, and answers as it reads them."""

from datetime import UTC, datetime
from typing import Any

import httpx
import numpy as np

from timebase.model.bars import Bars
from timebase.model.timerange import TimeRange, to_datetime, to_us

PROBLEM = "application/problem+json"


def day(text: str) -> int:
    """µs of 00:00 UTC."""
    return to_us(datetime.fromisoformat(text).replace(tzinfo=UTC))


def span(start: str, end: str) -> TimeRange:
    return TimeRange(day(start), day(end))


def iso(at_us: int) -> str:
    return to_datetime(at_us).isoformat()


async def get(
    client: httpx.AsyncClient, symbol: str, within: TimeRange | None, interval: str = "1h", **more: Any
) -> httpx.Response:
    times = {} if within is None else {"start": iso(within.start_us), "end": iso(within.end_us)}
    return await client.get(f"/api/v1/data/{symbol}", params={"interval": interval, **times, **more})


async def ask(
    client: httpx.AsyncClient, symbol: str, within: TimeRange | None, interval: str = "1h", **more: Any
) -> dict[str, Any]:
    """The answer, which has to be a 200."""
    reply = await get(client, symbol, within, interval, **more)
    assert reply.status_code == 200, reply.text
    content: dict[str, Any] = reply.json()
    return content


async def backfill(
    client: httpx.AsyncClient, symbol: str, within: TimeRange, interval: str = "1m", **more: Any
) -> httpx.Response:
    body = {"symbol": symbol, "interval": interval, "start": iso(within.start_us), "end": iso(within.end_us), **more}
    return await client.post("/api/v1/backfill", json=body, timeout=120.0)


def bars_of(answer: dict[str, Any]) -> Bars:
    """The bars of an answer, whose times are epoch ms."""
    bars = answer["bars"]
    times = np.asarray(bars["time"], np.int64) * 1000
    return Bars.of(times, bars["open"], bars["high"], bars["low"], bars["close"], bars["volume"], bars["flags"])


def problem_of(reply: httpx.Response, status: int) -> dict[str, Any]:
    """What an error says; it has to be a problem of that status."""
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == PROBLEM
    content: dict[str, Any] = reply.json()
    assert content["status"] == status
    assert {"title", "code", "detail", "suggestions", "request_id"} <= content.keys()
    return content


async def settled_us(client: httpx.AsyncClient, symbol: str) -> int:
    """How much of a symbol is settled by the server's own word, over all its series."""
    reply = await client.get(f"/api/v1/coverage/{symbol}")
    if reply.status_code != 200:
        return 0
    ledgers = [series["coverage"] for series in reply.json()["series"]]
    return 1000 * sum(last - first for ledger in ledgers for first, last in (*ledger["complete"], *ledger["empty"]))
