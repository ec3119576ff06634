"""A provider that does what `script.json` says and writes down every question that it sees.

Both files lie in the folder that the option `folder` names. The script is read anew for each question:
{symbol (or "*"): [turn, …]}; the n-th question about a symbol takes the n-th turn, the last turn stays. A turn may have
    gate: NAME              wait until a file of that name exists in the folder, before anything else
    code, message, retry_after    fail with that typed error …
    die: true               … or kill this process …
    after: N                … once N bars have been given (0 if not said)
    page: N, pause_s: S     give the bars in pages of N, with a pause after each
    gate_after: [N, NAME]   wait for a file once N bars have been given
    holidays: [[from_us, to_us], …]   there are no bars in these ranges; `empty: true`: there are none at all
    actions: [{ex_date_us, kind, value}, …]
"""

import asyncio
import json
import os
import signal
import time
from array import array
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from timebase.errors import provider_error
from timebase.sdk import Bars, CorporateAction, HistoryRequest, Provider

PATTERN = 1_000  # bars after which the prices repeat
POLL_S = 0.005


class Stub(Provider):
    def setup(self) -> None:
        self.folder = Path(self.options["folder"])
        self.log_file = self.folder / "questions.jsonl"
        self.turns: Counter[str] = Counter()
        if self.log_file.exists():
            for line in self.log_file.read_text().splitlines():
                self.turns[json.loads(line)["symbol"]] += 1
        opens = [100 + at / 10 for at in range(PATTERN)]
        repeated = opens * 67  # room for a page of 65,536 wherever it begins
        self.open = array("d", repeated)
        self.high = array("d", (price + 1 for price in repeated))
        self.low = array("d", (price - 1 for price in repeated))
        self.close_ = array("d", (price + 0.5 for price in repeated))
        self.volume = array("d", (float(1_000 + at % PATTERN) for at in range(len(repeated))))

    async def history(self, request: HistoryRequest) -> AsyncIterator[Bars | CorporateAction]:
        turn = self.note(request)
        if "gate" in turn:
            await self.wait_for(turn["gate"])
        for action in turn.get("actions", ()):
            yield CorporateAction(action["ex_date_us"], action["kind"], action["value"])
        times = self.times(request, turn)
        is_doomed = "code" in turn or turn.get("die", False)
        if is_doomed:
            times = times[: turn.get("after", 0)]
        page = turn.get("page", 50_000)
        stop_at, gate = turn.get("gate_after", (None, ""))
        for first in range(0, len(times), page):
            yield self.bars(times[first : first + page], request.interval.us)
            if stop_at is not None and first < stop_at <= first + page:
                await self.wait_for(gate)
            await asyncio.sleep(turn.get("pause_s", 0))
        if turn.get("die"):
            await asyncio.sleep(0.1)  # what was given is on its way
            os.kill(os.getpid(), signal.SIGKILL)
        if "code" in turn:
            raise provider_error(turn["code"], turn.get("message", "as scripted"), turn.get("retry_after"))

    def note(self, request: HistoryRequest) -> dict[str, Any]:
        seen = {
            "symbol": request.symbol,
            "interval": request.interval.value,
            "start": request.start_us,
            "end": request.end_us,
            "at": time.time(),
            "pid": os.getpid(),
        }
        with self.log_file.open("a") as log:
            log.write(json.dumps(seen) + "\n")
        script = json.loads((self.folder / "script.json").read_text())
        turns = script.get(request.symbol, script.get("*", [{}]))
        turn: dict[str, Any] = turns[min(self.turns[request.symbol], len(turns) - 1)]
        self.turns[request.symbol] += 1
        return turn

    async def wait_for(self, name: str) -> None:
        while not (self.folder / name).exists():  # noqa: ASYNC110 - the gate is opened by another process
            await asyncio.sleep(POLL_S)

    def times(self, request: HistoryRequest, turn: dict[str, Any]) -> array:
        step = request.interval.us
        first = -(-request.start_us // step) * step
        times = array("q", range(first, request.end_us, step))
        if turn.get("empty"):
            return array("q")
        for start, end in turn.get("holidays", ()):
            times = array("q", (at for at in times if not start <= at < end))
        return times

    def bars(self, times: array, step: int) -> Bars:
        if len(times) and times[-1] - times[0] == (len(times) - 1) * step:
            part = slice(times[0] // step % PATTERN, times[0] // step % PATTERN + len(times))
            return Bars(times, self.open[part], self.high[part], self.low[part], self.close_[part], self.volume[part])
        at = [time // step % PATTERN for time in times]
        columns = (self.open, self.high, self.low, self.close_, self.volume)
        return Bars(times, *([column[i] for i in at] for column in columns))
