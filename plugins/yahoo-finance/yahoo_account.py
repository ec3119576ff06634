"""What one question costs: every request that yfinance sends for it, cookie and crumb included."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(slots=True)
class Asking:
    """One question's account: its first request is paid for, `spend` pays for each further one."""

    spend: Callable[[], None]
    requests: int = 0
    is_refused: bool = False  # Yahoo has refused the session once; yfinance is fetching another

    def count(self) -> None:
        if self.requests:
            self.spend()
        self.requests += 1


_asking: ContextVar[Asking] = ContextVar("_asking")


@contextmanager
def asked_by(asking: Asking) -> Iterator[None]:
    """Requests that this thread sends inside the block are on the account of `asking`."""
    token = _asking.set(asking)
    try:
        yield
    finally:
        _asking.reset(token)


def who_asks() -> Asking:
    return _asking.get()
