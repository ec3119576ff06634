"""Trades made as the clock goes; a trade's time is the instant at which it was handed to the SDK."""

import time
from array import array

import anyio

from timebase.sdk import HistoryRequest, Provider, Stream, Subscription

TURN_S = 0.005
PAGE = 65_536


class BenchLive(Provider):
    def setup(self) -> None:
        self.prices = array("d", (100 + (at * 7919 % 1000) / 100 for at in range(PAGE)))
        self.sizes = array("d", (1.0 + at % 10 for at in range(PAGE)))

    def history(self, request: HistoryRequest) -> None:
        """There is none: what was not recorded is gone."""

    async def stream(self, stream: Stream) -> None:
        tapes: dict[int, Tape] = {}
        while True:
            wanted = {each.id: each for each in stream.wanted}
            tapes = {id_: tapes.get(id_) or Tape(each) for id_, each in wanted.items()}
            began = time.perf_counter()
            for id_, tape in tapes.items():
                if tape.is_new:
                    await stream.up(wanted[id_])
                    tape.is_new = False
                n = min(tape.due(), PAGE)
                if n:
                    times = array("q", [time.time_ns() // 1_000]) * n
                    ids = array("q", range(tape.sent + 1, tape.sent + 1 + n))
                    await stream.trades(wanted[id_], times, self.prices[:n], self.sizes[:n], id=ids)
                    tape.sent += n
            await stream.pulse(time.time_ns() // 1_000)
            await anyio.sleep(max(0.0, TURN_S - (time.perf_counter() - began)))


class Tape:
    """One symbol's trades so far. Its name is anything, the trades per second, and anything that tells it apart."""

    def __init__(self, feed: Subscription) -> None:
        self.rate = float(feed.symbol.split("-")[1])
        self.began = time.perf_counter()
        self.sent = 0
        self.is_new = True

    def due(self) -> int:
        return int((time.perf_counter() - self.began) * self.rate) - self.sent
