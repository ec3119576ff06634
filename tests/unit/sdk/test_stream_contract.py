"""Each check of the contract of streams finds the provider that breaks it, and nothing else does."""

from math import nan

import anyio
import pytest

from timebase.errors import AuthFailed, SymbolNotFound, Unsupported
from timebase.sdk import Bars, Provider, Stream, Subscription
from timebase.sdk.contract import check_stream


class Good(Provider):
    """A row every hundredth of a second, for every feed."""

    async def stream(self, stream: Stream) -> None:
        self.told: set[Subscription] = set()
        self.at = 0
        while True:
            self.at += 1
            for feed in self.feeds(stream):
                if feed not in self.told:
                    self.told.add(feed)
                    await self.begin(stream, feed)
                else:
                    await self.put(stream, feed, self.at * 10_000)
            await anyio.sleep(0.01)

    def feeds(self, stream: Stream) -> tuple[Subscription, ...]:
        return stream.wanted

    async def begin(self, stream: Stream, feed: Subscription) -> None:
        if feed.symbol != "GOOD":
            await stream.refuse(feed, SymbolNotFound(feed.symbol))
        else:
            await stream.up(feed)

    async def put(self, stream: Stream, feed: Subscription, at_us: int) -> None:
        await stream.trades(feed, at_us, 10.0, 1.0)
        await stream.pulse(at_us, feed)


class Silent(Good):
    async def put(self, stream: Stream, feed: Subscription, at_us: int) -> None:
        await stream.pulse(at_us, feed)


class NeverUp(Good):
    async def begin(self, stream: Stream, feed: Subscription) -> None:
        if feed.symbol != "GOOD":
            await stream.refuse(feed, SymbolNotFound(feed.symbol))


class Backwards(Good):
    async def put(self, stream: Stream, feed: Subscription, at_us: int) -> None:
        await stream.trades(feed, 10**12 - 3_000 * at_us, 10.0, 1.0)


class Free(Good):
    async def put(self, stream: Stream, feed: Subscription, at_us: int) -> None:
        await stream.trades(feed, at_us, 0.0, 1.0)


class NaN(Good):
    async def put(self, stream: Stream, feed: Subscription, at_us: int) -> None:
        await stream.trades(feed, at_us, 1.0, nan)


class Hasty(Good):
    """Its pulse runs ahead of its data."""

    async def put(self, stream: Stream, feed: Subscription, at_us: int) -> None:
        await stream.pulse(at_us + 10**9, feed)
        await anyio.sleep(0.02)
        await stream.trades(feed, at_us, 1.0, 1.0)


class Deaf(Good):
    """Goes on with what is not wanted any more."""

    def feeds(self, stream: Stream) -> tuple[Subscription, ...]:
        self.all = {**getattr(self, "all", {}), **dict.fromkeys(stream.wanted)}
        return tuple(self.all)


class First(Good):
    """Knows one feed of a symbol only."""

    def feeds(self, stream: Stream) -> tuple[Subscription, ...]:
        return tuple({feed.symbol: feed for feed in reversed(stream.wanted)}.values())


class Inventive(Good):
    async def begin(self, stream: Stream, feed: Subscription) -> None:
        await stream.up(feed)


class Confused(Good):
    async def begin(self, stream: Stream, feed: Subscription) -> None:
        if feed.symbol != "GOOD":
            await stream.refuse(feed, Unsupported("what?"))
        else:
            await stream.up(feed)


class Indifferent(Good):
    async def begin(self, stream: Stream, feed: Subscription) -> None:
        await stream.up(feed)

    async def put(self, stream: Stream, feed: Subscription, at_us: int) -> None:
        if feed.symbol == "GOOD":
            await super().put(stream, feed, at_us)


class Clinging(Good):
    async def stream(self, stream: Stream) -> None:
        try:
            await super().stream(stream)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.6)


@pytest.mark.parametrize(
    ("provider", "broken"),
    [
        (Good, []),
        (Silent, ["S1"]),
        (NeverUp, ["S2"]),
        (Backwards, ["S3"]),
        (Free, ["S4"]),
        (NaN, ["S4"]),
        (Hasty, ["S5"]),
        (Deaf, ["S6"]),
        (First, ["S6"]),
        (Inventive, ["S7"]),
        (Confused, ["S7"]),
        (Indifferent, ["S7"]),
        (Clinging, ["S8"]),
    ],
)
def test_each_check_finds_its_fault(provider: type[Provider], broken: list[str]) -> None:
    within_s = 1.5 if broken in (["S1"], ["S6"], ["S7"]) else 20.0
    faults = check_stream(provider(), "GOOD", rows=20, within_s=within_s, settle_s=0.3)
    assert [fault.split()[0] for fault in faults] == broken


def test_quotes_and_bars_are_checked_too() -> None:
    class Quotes(Good):
        async def put(self, stream: Stream, feed: Subscription, at_us: int) -> None:
            await stream.quotes(feed, at_us, -1.0, 1.0, 1.0, 1.0)

    class Candles(Good):
        async def put(self, stream: Stream, feed: Subscription, at_us: int) -> None:
            await stream.bars(feed, Bars([at_us], [1.0], [2.0], [1.5], [1.0], [1.0]), is_closed=False)

    assert [fault.split()[0] for fault in check_stream(Quotes(), "GOOD", "quotes")] == ["S4"]
    assert [fault.split()[0] for fault in check_stream(Candles(), "GOOD", "bars", "1m")] == ["S4"]


def test_a_provider_that_refuses_the_sample_raises() -> None:
    class Locked(Provider):
        async def stream(self, stream: Stream) -> None:
            raise AuthFailed("no key")

    with pytest.raises(AuthFailed):
        check_stream(Locked(), "GOOD")
