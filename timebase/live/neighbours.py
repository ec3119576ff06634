"""What the rooms of the feeds need of others, each as small as it is used here."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from timebase.errors import ProviderError
from timebase.model.feed import Channel, Feed, FeedState
from timebase.model.instrument import Instrument
from timebase.model.interval import Interval
from timebase.model.live import BarUpdate
from timebase.model.series import Series, TickSeries
from timebase.router.router import Plan


class Handle(Protocol):
    """One provider, as far as streams go; see supervisor/handle.py. Raises: ProviderError."""

    async def wait_ready(self) -> None: ...
    def subscribe(self, feed: Feed) -> None: ...
    def unsubscribe(self, feed: Feed) -> None: ...
    async def restart(self) -> None: ...


class State(Protocol):
    @property
    def slug(self) -> str: ...
    @property
    def state(self) -> str: ...


class Roster(Protocol):
    """The providers; see supervisor/roster.py."""

    on_change: list[Callable[[str], None]]
    on_feed_end: list[Callable[[Feed, ProviderError], None]]

    def all(self) -> Sequence[State]: ...
    def get(self, slug: str, /) -> Handle | None: ...
    def symbols(self) -> Sequence[Instrument]: ...


class Planner(Protocol):
    def plan_stream(self, channel: Channel, instrument: Instrument) -> Plan: ...


class Store(Protocol):
    """Raises: StoreUnavailable."""

    async def instrument(self, symbol: str) -> Instrument | None: ...
    async def upsert_instruments(self, given: Sequence[Instrument]) -> Sequence[Instrument]: ...
    async def series(self, instrument: Instrument, provider: str, interval: Interval) -> Series: ...
    async def tick_series(self, instrument: Instrument, provider: str, kind: str) -> TickSeries: ...


class Topics(Protocol):
    """Who shows it; see streaming/hub.py."""

    def bind(self, channel: Channel, provider: str | None) -> None: ...
    def tell_state(self, feed: Feed, state: FeedState, since_us: int, reason: str = "") -> None: ...
    def forget(self, feed: Feed) -> None: ...
    def refuse(self, channel: Channel, code: str, message: str) -> None: ...
    def followers(self, channel: Channel) -> int: ...


class Healing(Protocol):
    """Who fetches what a feed missed; see live/healer.py."""

    def owe(
        self,
        feed: Feed,
        interval: Interval,
        from_us: int | None,
        joined_us: int,
        *,
        traded_us: Collection[int],
        event_now_us: Callable[[], int],
    ) -> None: ...
    def owe_unkept(self, update: BarUpdate, *, event_now_us: Callable[[], int]) -> None: ...
    def facts(self, feed: Feed) -> Sequence[Mapping[str, object]]: ...
