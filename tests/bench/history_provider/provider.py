"""Minute bars without a gap, from columns made once; answers.txt in its cache folder says how long each answer took."""

import time
from array import array
from collections.abc import Iterator

from timebase.sdk import Bars, HistoryRequest, Provider

MINUTE_US = 60_000_000
PAGE = 65_536


class Bench(Provider):
    def setup(self) -> None:
        self.prices = array("d", (100 + (at * 7919 % 1000) / 100 for at in range(PAGE)))
        self.highs = array("d", (price + 0.5 for price in self.prices))
        self.lows = array("d", (price - 0.5 for price in self.prices))
        self.volumes = array("d", (1000.0 + at % 100 for at in range(PAGE)))

    def history(self, request: HistoryRequest) -> Iterator[Bars]:
        began = time.perf_counter()
        first = -(-request.start_us // MINUTE_US)
        last = -(-request.end_us // MINUTE_US)
        for page in range(first, last, PAGE):
            count = min(PAGE, last - page)
            times = array("q", range(page * MINUTE_US, (page + count) * MINUTE_US, MINUTE_US))
            prices = self.prices[:count]
            bars = Bars(times, prices, self.highs[:count], self.lows[:count], prices, self.volumes[:count])
            spent = time.perf_counter() - began
            yield bars
            began = time.perf_counter() - spent
        with (self.cache_dir / "answers.txt").open("a") as answers:
            answers.write(f"{time.perf_counter() - began:.6f}\n")
