"""Many tapes on one clock.

    order -> tapes -> clock -> every 50 ms: what was traded since, symbol by symbol -> pulse with the tape's time

The tape's clock stands where everything has been handed on: when the server is busy, the tape waits for it, however
fast it is meant to play. A period that the tape is wound over is missing, as with a feed that was down; wound back, or
exchanged, every feed ends and begins anew, since what comes then is older than what was told.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import anyio
from anyio.to_thread import run_sync
from papers import Papers
from tape_clock import TapeClock
from tapes import Trades, load

from timebase.model.replay import ReplayOrder, ReplayState, TapeState
from timebase.sdk import FeedKind, ProviderError, Stream, Subscription, Unsupported, Upstream

TICK_S = 0.05
WRITE_S = 0.25
IDLE_PULSE_S = 1.0
ROWS_AT_ONCE = 32_768  # of all symbols; the clock stops where they end, and goes on from there
RUN_OUT_US = 120_000_000  # the clock goes on behind the last trade, so that its minute ends


@dataclass(frozen=True, slots=True)
class Deck:
    """The tapes that are in, by symbol, and from when to when they go. Units: µs UTC."""

    tapes: Mapping[str, Trades]

    @property
    def begin_us(self) -> int:
        return min(int(tape.time[0]) for tape in self.tapes.values())

    @property
    def end_us(self) -> int:
        return max(int(tape.time[-1]) for tape in self.tapes.values())

    @property
    def trades(self) -> int:
        return sum(map(len, self.tapes.values()))

    def reached_us(self, from_us: int, until_us: int) -> int:
        """`until_us`, or the instant before, up to which there are not too many trades to hand on at once."""
        for _ in range(64):
            rows = sum(_length(tape.between(from_us, until_us)) for tape in self.tapes.values())
            if rows <= ROWS_AT_ONCE or until_us - from_us <= 1:
                break
            until_us = from_us + (until_us - from_us) // 2
        return until_us


class Player:
    """Plays what the order says to the feeds that are wanted, until cancelled."""

    def __init__(self, stream: Stream, papers: Papers, log: logging.Logger) -> None:
        self._stream = stream
        self._papers = papers
        self._log = log
        self._order = ReplayOrder(serial=-1)
        self._deck = Deck({})
        self._clock = TapeClock(0, 1.0, False, anyio.current_time())
        self._played_us = 0  # what is being handed on included: the server may have it before we have handed on all
        self._error = ""
        self._fed: set[Subscription] = set()  # the feeds that have been told they are up
        self._spent: set[Subscription] = set()  # those that were, with a tape that has been taken out
        self._waiting: set[Subscription] = set()  # those that have been told that there is no tape for them
        self._written: ReplayState | None = None
        self._written_s = self._pulsed_s = 0.0

    async def run(self) -> None:
        try:
            while True:
                await self._obey()
                await self._greet(self._stream.wanted)
                await self._play()
                self._write()
                with anyio.move_on_after(TICK_S):
                    await self._stream.changed()
        finally:
            self._write(is_last=True)

    def played_us(self, order: ReplayOrder) -> int | None:
        """Up to where the tape has been played; None while the order has not been obeyed."""
        return self._played_us if order == self._order and self._deck.tapes else None

    # --- orders ---

    async def _obey(self) -> None:
        try:
            order = self._papers.order()
        except ProviderError as error:
            self._error = str(error)
            return
        before = self._order
        if order == before:
            return
        if order.tapes != before.tapes:
            await self._change_tapes(order)
        elif order.position_us is not None:
            await self._wind(order.position_us)
        self._clock.turn(order.speed, order.is_playing, anyio.current_time())
        self._order = order  # only now: who is stopped before has not obeyed it, and must not say so
        self._waiting.clear()  # they shall hear what it means for them

    async def _change_tapes(self, order: ReplayOrder) -> None:
        deck, problem = Deck({}), ""
        try:
            if order.tapes:
                deck = Deck(await run_sync(partial(load, order.tapes)))
        except ProviderError as error:
            problem = str(error)
            self._log.warning("%s", error)
        self._deck, self._error = deck, problem
        if self._deck.tapes:
            await self._end_all("another tape was put in")
        elif self._fed:
            await self._stream.down("the tape was taken out", *self._fed)
            self._spent, self._fed = self._spent | self._fed, set()
        before_us = self._deck.begin_us - 1 if self._deck.tapes else 0
        start_us = max(before_us, self._papers.start_us(order))
        self._clock = TapeClock(start_us, order.speed, order.is_playing, anyio.current_time())
        self._played_us = max(start_us, self._papers.played_us(order))

    async def _wind(self, position_us: int) -> None:
        now_s = anyio.current_time()
        if position_us < self._clock.now_us(now_s):
            await self._end_all("the tape was wound back")
        elif self._fed:
            await self._stream.down("the tape was wound forward", *self._fed)
            self._fed.clear()
        self._clock = TapeClock(position_us, self._clock.speed, self._clock.is_running, now_s)
        self._played_us = position_us

    async def _end_all(self, reason: str) -> None:
        ended, self._fed, self._spent = self._fed | self._spent, set(), set()
        for feed in ended:
            await self._stream.refuse(feed, Upstream(reason))

    # --- feeds ---

    async def _greet(self, wanted: Iterable[Subscription]) -> None:
        """A feed without a tape waits for one: it may be on the next that is put in."""
        for known in (self._fed, self._spent, self._waiting):
            known.intersection_update(wanted)
        for feed in set(wanted) - self._fed - self._spent:
            if feed.kind is not FeedKind.TRADES:
                await self._stream.refuse(feed, Unsupported("a tape holds trades; bars are built from them"))
            elif feed.symbol in self._deck.tapes:
                self._waiting.discard(feed)
                self._fed.add(feed)
                await self._stream.up(feed)
            elif feed not in self._waiting:
                self._waiting.add(feed)
                lacking = f"there is no tape of {feed.symbol} in the replay"
                await self._stream.down(self._error or lacking, feed)

    async def _play(self) -> None:
        if not self._deck.tapes or not self._fed:
            self._clock.arrive(self._clock.position_us, anyio.current_time())  # a tape waits for its audience
            return
        now_s = anyio.current_time()
        from_us = self._clock.position_us
        stop_us = self._deck.end_us + RUN_OUT_US
        if from_us >= stop_us or not self._clock.is_running:
            await self._pulse(from_us, now_s, IDLE_PULSE_S)
            return
        until_us = self._deck.reached_us(from_us, min(self._clock.now_us(now_s), stop_us))
        self._played_us = max(self._played_us, until_us)
        for feed in self._fed:
            tape = self._deck.tapes[feed.symbol]
            rows = tape.between(from_us, until_us)
            if _length(rows):
                columns = (tape.time, tape.price, tape.size, tape.side, tape.id)
                await self._stream.trades(feed, *(column[rows] for column in columns))
        self._clock.arrive(until_us, now_s)
        await self._pulse(until_us, now_s, TICK_S)

    async def _pulse(self, at_us: int, now_s: float, gap_s: float) -> None:
        if now_s - self._pulsed_s >= gap_s:
            self._pulsed_s = now_s
            await self._stream.pulse(at_us, *self._fed)

    # --- what is told ---

    def _write(self, *, is_last: bool = False) -> None:
        if self._order.serial < 0:
            return
        state, now_s = self._state(), anyio.current_time()
        is_news = self._written is None or (state.serial, state.state) != (self._written.serial, self._written.state)
        if state != self._written and (is_news or is_last or now_s - self._written_s >= WRITE_S):
            self._papers.write(state)
            self._written, self._written_s = state, now_s

    def _state(self) -> ReplayState:
        if self._error or not self._deck.tapes:
            kind = TapeState.FAILED if self._error else TapeState.EMPTY
            return ReplayState(self._order.serial, kind, error=self._error)
        position_us = self._clock.position_us
        is_over = position_us >= self._deck.end_us + RUN_OUT_US
        kind = TapeState.ENDED if is_over else TapeState.PLAYING if self._clock.is_running else TapeState.PAUSED
        return ReplayState(
            serial=self._order.serial,
            state=kind,
            position_us=position_us,
            resume_us=self._clock.resume_us,
            begin_us=self._deck.begin_us,
            end_us=self._deck.end_us,
            speed=self._clock.speed,
            symbols=tuple(sorted(self._deck.tapes)),
            trades=self._deck.trades,
        )


def _length(rows: slice) -> int:
    return int(rows.stop - rows.start)
