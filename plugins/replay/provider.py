"""Recorded days, played as if they happened now: trades of files, many symbols on one clock, at any speed.

    order.json -> tapes -> clock -> trades, pulses -> the same road as of any live feed
    question -> bars rebuilt from the tape, up to where it has been played

It is asked only by name (`provider=replay`, `@replay`): what it says now is old, and must not pass for news. The order
is a file that the server writes (model/replay.py); the tape goes on where it was after any restart, or a little before,
which the trades' numbers make harmless. numpy and polars are loaded with the first tape.
"""

from collections.abc import Iterator
from threading import Lock
from typing import Any

from papers import Papers

from timebase.model.replay import ReplayOrder, Tape
from timebase.model.timerange import to_datetime
from timebase.sdk import Bars, HistoryRequest, Provider, Stream, SymbolNotFound, Unsupported


class Replay(Provider):
    def setup(self) -> None:
        self._papers = Papers(self.cache_dir)
        self._player: Any = None  # its type is loaded with numpy
        self._kept: dict[Tape, Any] = {}  # the tapes that questions were about
        self._lock = Lock()

    async def stream(self, stream: Stream) -> None:
        from player import Player

        self._player = Player(stream, self._papers, self.log)
        try:
            await self._player.run()
        finally:
            self._player = None

    def history(self, request: HistoryRequest) -> Iterator[Bars]:
        """Raises: SymbolNotFound without a tape; Unsupported behind the bars, for what has not been played yet."""
        order = self._papers.order()
        tape = next((tape for tape in order.tapes if tape.symbol == request.symbol), None)
        if tape is None:
            raise SymbolNotFound(f"there is no tape of {request.symbol} in the replay")
        from rebuilt import rebuilt

        from timebase.model.calendar import Calendar

        trades, played_us, calendar = self._trades(tape), self._played_us(order), Calendar(request.timezone)
        begin_us = request.interval.end_us(calendar.stamp_at(request.interval, int(trades.time[0])))
        if request.start_us < begin_us:
            request.warn(f"the tape of {request.symbol} begins at {to_datetime(int(trades.time[0])).isoformat()}")
        yield rebuilt(trades, request.interval, request.start_us, request.end_us, played_us, calendar)
        if request.end_us > calendar.stamp_at(request.interval, played_us):
            raise Unsupported(f"the tape has been played up to {to_datetime(played_us).isoformat()} only")

    def _played_us(self, order: ReplayOrder) -> int:
        """The player knows best; what it has written is a quarter of a second old."""
        player = self._player
        told_us = None if player is None else player.played_us(order)
        return self._papers.played_us(order) if told_us is None else told_us

    def _trades(self, tape: Tape) -> Any:  # noqa: ANN401 - its type is loaded with numpy
        from tapes import load_tape

        with self._lock:
            if tape not in self._kept:
                self._kept = {tape: load_tape(tape)}
            return self._kept[tape]
