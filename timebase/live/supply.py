"""Which feed of which provider supplies a channel. Pure."""

from collections.abc import Callable
from dataclasses import dataclass

from timebase.model.feed import Channel, FeedKind
from timebase.model.interval import Interval
from timebase.router.candidates import streamed_kind
from timebase.router.router import Candidate, Plan


@dataclass(frozen=True, slots=True)
class Supply:
    """One feed that can be had of one provider. All bars of a symbol come from its trades where those are streamed."""

    kind: FeedKind
    symbol: str
    provider: str
    interval: Interval | None = None  # of a feed of ready-made bars

    def __str__(self) -> str:
        return f"{Channel(self.kind, self.symbol, self.interval, self.provider)}"


def supply_of(channel: Channel, candidate: Candidate) -> Supply:
    kind = streamed_kind(candidate.manifest, channel)
    assert kind is not None, "the router refuses who cannot stream it"
    return Supply(kind, channel.symbol, candidate.slug, channel.interval if kind is FeedKind.BARS else None)


def choose(channel: Channel, plan: Plan, rests_s: Callable[[Supply], float]) -> Supply | None:
    """The first in the plan's order that does not rest after a failure, else the one that rests shortest."""
    supplies = [supply_of(channel, candidate) for candidate in plan.candidates]
    return min(supplies, key=lambda supply: max(0.0, rests_s(supply)), default=None)


def built_from(supply: Supply) -> tuple[Interval, ...]:
    """The intervals of the bars that come from it."""
    if supply.kind is FeedKind.TRADES:
        return tuple(Interval)
    return () if supply.interval is None else (supply.interval,)
