"""What a plugin is: one class that answers history, and perhaps knows symbols or streams."""

import inspect
import logging
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from timebase.model.instrument import AssetClass, CorporateAction, Instrument, classify
from timebase.model.interval import Interval
from timebase.model.timerange import to_datetime, to_us
from timebase.sdk.bars import Bars
from timebase.sdk.stream import Stream
from timebase.sdk.threads import in_loop

Part = Bars | CorporateAction | Iterable[CorporateAction]
Answered = Part | Iterable[Part] | AsyncIterable[Part] | None


@dataclass(frozen=True, slots=True)
class HistoryRequest:
    """Units: [start_us, end_us) half-open, µs UTC, by the bars' opening instants. `symbol` is TimeBase's spelling.

    `timezone` is that of the dates which days, weeks and months are made of; "" is UTC.
    """

    symbol: str
    asset_class: AssetClass
    interval: Interval
    start_us: int
    end_us: int
    timezone: str = ""
    warnings: list[str] = field(default_factory=list, compare=False)

    @classmethod
    def of(cls, symbol: str, interval: str, start: str, end: str, asset_class: AssetClass | None = None) -> Self:
        """A request written by hand, for trying and testing; `start` and `end` are ISO 8601, UTC unless they say more.

        Example: HistoryRequest.of("AAPL", "1d", "2024-01-01", "2024-02-01")
        """
        return cls(symbol, asset_class or classify(symbol), Interval(interval), _us(start), _us(end))

    @property
    def start(self) -> datetime:
        return to_datetime(self.start_us)

    @property
    def end(self) -> datetime:
        return to_datetime(self.end_us)

    def warn(self, text: str) -> None:
        """Tell the one who asked something that is no error; it travels with the answer."""
        self.warnings.append(text)


class Provider:
    """Base class of a plugin. Every method may be `def` (run in a worker thread, several at once) or `async def`.

    A method that cannot answer raises one of the SDK's errors: SymbolNotFound, Unsupported, RateLimited,
    AuthFailed, Empty, Malformed, Upstream, UpstreamTimeout. Any other exception counts as Upstream.

    Example:
        class Ticks(Provider):
            def history(self, request):
                return Bars.from_rows(fetch(request.symbol, request.start, request.end))
    """

    backend: ClassVar[Literal["asyncio", "trio"]] = "asyncio"

    def __init__(
        self,
        *,
        options: Mapping[str, Any] | None = None,
        secrets: Mapping[str, str] | None = None,
        cache_dir: Path | str = ".",
        log: logging.Logger | None = None,
        ask_to_spend: Callable[[int], Awaitable[None]] | None = None,
    ) -> None:
        self.options = dict(options or {})
        self.secrets = dict(secrets or {})
        self.cache_dir = Path(cache_dir)
        self.log = log or logging.getLogger(f"timebase.plugin.{type(self).__name__}")
        self._ask_to_spend = ask_to_spend

    def setup(self) -> Awaitable[None] | None:
        """Once, before the first question: check options, log in, open clients."""

    def close(self) -> Awaitable[None] | None:
        """Once, when the plugin is asked to leave; not after a kill."""

    def history(self, request: HistoryRequest) -> Answered | Awaitable[Answered]:
        """The bars of one symbol in a range: one Bars, or a generator of pages, oldest first, and corporate actions.

        Returning or yielding nothing says: confirmed, there is nothing in that range.
        """
        raise NotImplementedError

    def symbols(self, query: str, limit: int) -> Iterable[Instrument] | Awaitable[Iterable[Instrument]]:
        """Symbols that match `query`, the best first. Optional."""
        raise NotImplementedError

    def stream(self, stream: Stream) -> Awaitable[None] | None:
        """Follow `stream.wanted` and put what the vendor says, for as long as anything is wanted. Optional.

        It runs from the first subscription on and is cancelled after the last; it is not expected to return. What it
        raises is told to every feed that is wanted, and it runs again when one is next asked for, after a pause that
        grows from failure to failure up to a minute: who cannot reach the vendor may simply raise.
        """
        raise NotImplementedError

    async def spend(self, n: int = 1) -> None:
        """Ask for `n` more upstream requests than the one that every history question includes, and wait for them.

        Raises: RateLimited when the budget will not allow them soon.
        """
        if self._ask_to_spend is not None:
            await self._ask_to_spend(n)

    def spend_sync(self, n: int = 1) -> None:
        """The same from a method that is plain `def`."""
        if self._ask_to_spend is not None:
            in_loop(self.spend, n)

    @classmethod
    def methods(cls) -> tuple[str, ...]:
        """Which of the optional questions this class answers."""
        return tuple(
            name for name in ("history", "symbols", "stream") if getattr(cls, name) is not getattr(Provider, name)
        )


def _us(iso: str) -> int:
    at = datetime.fromisoformat(iso)
    return to_us(at if at.tzinfo else at.replace(tzinfo=UTC))


def is_async(method: Callable[..., object]) -> bool:
    return inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method)
