"""A provider that streams what is appended to `tape.jsonl`, and whose history is the bars of `truth.json`.

Both files lie in the folder that the option `folder` names. `fault.json`, if it is there, says what goes wrong with
every stream: {"raises": MESSAGE} or {"dies": true}. A line of the tape is one of
    {"trades": SYMBOL, "time": [us, …], "price": […], "size": […], "id": […], "side": […] or nothing}
    {"quotes": SYMBOL, "time": […], "bid": […], "bid_size": […], "ask": […], "ask_size": […]}
    {"pulse": us}, {"up": true}, {"down": REASON}
and is played once, by the process that finds it; what is there when a process starts, has been. `subscriptions.jsonl`
gets a line for each set of wanted feeds, an empty one at the end; `connections` a dot for each stream. The truth is
{SYMBOL: [[open_us, open, high, low, close, volume], …]} at 1m.
"""

import asyncio
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from timebase.sdk import Bars, HistoryRequest, Provider, Stream, Subscription, Unavailable

POLL_S = 0.005


class LiveStub(Provider):
    def setup(self) -> None:
        self.folder = Path(self.options["folder"])
        self.tape = self.folder / "tape.jsonl"
        self.place = self.tape.stat().st_size if self.tape.exists() else 0

    def history(self, request: HistoryRequest) -> Bars:
        with (self.folder / "questions.jsonl").open("a") as log:
            log.write(json.dumps([request.symbol, request.interval.value, request.start_us, request.end_us]) + "\n")
        truth = json.loads((self.folder / "truth.json").read_text()).get(request.symbol, [])
        return Bars.from_rows(row for row in truth if request.start_us <= row[0] < request.end_us)

    async def stream(self, stream: Stream) -> None:
        with (self.folder / "connections").open("a") as log:
            log.write(".")
        self.suffer()
        try:
            await self.follow(stream)
        finally:
            self.note([])

    def suffer(self) -> None:
        fault = self.folder / "fault.json"
        wrong = json.loads(fault.read_text()) if fault.exists() else {}
        if wrong.get("dies"):
            os._exit(1)
        if "raises" in wrong:
            raise Unavailable(wrong["raises"])

    def note(self, wanted: Iterable[Subscription]) -> None:
        with (self.folder / "subscriptions.jsonl").open("a") as log:
            log.write(json.dumps([[feed.kind, feed.symbol] for feed in wanted]) + "\n")

    async def follow(self, stream: Stream) -> None:
        known: tuple[Subscription, ...] = ()
        while True:
            if stream.wanted != known:
                new = [feed for feed in stream.wanted if feed not in known]
                known = stream.wanted
                self.note(known)
                if new:
                    await stream.up(*new)
            for line in self.new_lines():
                await self.play(stream, line)
            await asyncio.sleep(POLL_S)

    def new_lines(self) -> list[dict[str, Any]]:
        if not self.tape.exists():
            return []
        with self.tape.open("rb") as tape:
            tape.seek(self.place)
            whole = tape.read().rpartition(b"\n")[0]
        self.place += len(whole) + bool(whole)
        return [json.loads(line) for line in whole.splitlines()]

    async def play(self, stream: Stream, line: dict[str, Any]) -> None:
        if "pulse" in line:
            await stream.pulse(line["pulse"])
        elif "up" in line:
            await stream.up()
        elif "down" in line:
            await stream.down(line["down"])
        for feed in stream.wanted:
            if line.get("trades") == feed.symbol and feed.kind == "trades":
                await stream.trades(feed, line["time"], line["price"], line["size"], line.get("side"), line["id"])
            if line.get("quotes") == feed.symbol and feed.kind == "quotes":
                columns = (line[name] for name in ("time", "bid", "bid_size", "ask", "ask_size"))
                await stream.quotes(feed, *columns)
