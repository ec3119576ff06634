"""The splits and dividends of the symbols that were asked for lately."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from yahoo_actions import Ledger

KEEP_S = 3_600.0
MOST = 512  # ledgers of some 100 rows each: a few MB


class Ledgers:
    """Kept for an hour, the one fetched longest ago dropped first. Threads may share it; two that miss both fetch."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: OrderedDict[str, tuple[float, Ledger]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, symbol: str, fetch: Callable[[], Ledger]) -> Ledger:
        with self._lock:
            fetched_s, ledger = self._kept.get(symbol, (None, None))
        if fetched_s is None or ledger is None or self._clock() - fetched_s >= KEEP_S:
            return self.renew(symbol, fetch)
        return ledger

    def renew(self, symbol: str, fetch: Callable[[], Ledger]) -> Ledger:
        """Raises: what `fetch` raises; what was kept stays."""
        now_s, ledger = self._clock(), fetch()
        with self._lock:
            self._kept[symbol] = (now_s, ledger)
            self._kept.move_to_end(symbol)
            while len(self._kept) > MOST:
                self._kept.popitem(last=False)
        return ledger
