"""A store of trades and a past of bars in memory, as the seam asks for them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import trio
from numpy.typing import NDArray

from timebase.errors import TimeBaseError
from timebase.history.answer import Answer
from timebase.model.bars import Bars
from timebase.model.demand import Question
from timebase.model.instrument import AssetClass, Instrument
from timebase.model.receipt import Attempt
from timebase.model.series import Series, TickSeries
from timebase.model.ticks import Trades
from timebase.model.timerange import TimeRange


@dataclass
class FakeTape:
    """Trades as they were committed."""

    commits: list[tuple[int, Trades]] = field(default_factory=list)
    error: TimeBaseError | None = None
    kind: AssetClass = AssetClass.CRYPTO
    timezone: str = ""

    def commit(self, commit_id: int, trades: Trades) -> None:
        self.commits.append((commit_id, trades))

    async def instrument(self, symbol: str) -> Instrument | None:
        await trio.lowlevel.checkpoint()
        return Instrument(1, symbol, self.kind, timezone=self.timezone)

    async def tick_series(self, instrument: Instrument, provider: str, kind: str) -> TickSeries:
        await trio.lowlevel.checkpoint()
        return TickSeries(1, instrument.id, instrument.symbol, provider, kind)

    async def read_trades(
        self, series: TickSeries, within: TimeRange, *, limit: int | None = None, newest_first: bool = False
    ) -> tuple[Trades, NDArray[np.int64]]:
        await trio.lowlevel.checkpoint()
        if self.error is not None:
            raise self.error
        tape = Trades.concat(trades for _, trades in self.commits)
        ids = np.concatenate([np.full(len(t), c) for c, t in self.commits]) if self.commits else np.zeros(0, np.int64)
        mask = (tape.time >= within.start_us) & (tape.time < within.end_us)
        order = np.argsort(tape.time[mask], kind="stable")
        keep = slice(-limit, None) if limit and newest_first else slice(limit)
        read = tape.pick(mask).pick(order).pick(keep), ids[mask][order][keep]
        await trio.lowlevel.checkpoint()
        return read


@dataclass
class FakeClocks:
    """Feeds whose data have a time of their own."""

    now_us: int | None = None

    def event_now_us(self, symbol: str, provider: str) -> int | None:
        return self.now_us


@dataclass
class FakePast:
    """Bars by their opening instant, the newest values of each."""

    bars: dict[int, float] = field(default_factory=dict)
    error: TimeBaseError | None = None
    asked: list[Question] = field(default_factory=list)

    def put(self, times: Sequence[int], closes: Sequence[float]) -> None:
        self.bars.update(zip(times, closes, strict=True))

    async def answer(self, question: Question, attempts: list[Attempt]) -> Answer:
        self.asked.append(question)
        await trio.lowlevel.checkpoint()
        if self.error is not None:
            raise self.error
        times = sorted(t for t in self.bars if question.range.start_us <= t < question.range.end_us)
        closes = [self.bars[time] for time in times]
        bars = Bars.of(times, closes, closes, closes, closes, [1.0] * len(times))
        instrument = Instrument(1, question.symbol, AssetClass.CRYPTO)
        series = Series(10, 1, question.symbol, question.provider or "binance", question.interval)

        async def load() -> Bars:
            await trio.lowlevel.checkpoint()
            return bars

        return Answer(question, instrument, series, 0, "store", load)
