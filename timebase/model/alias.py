"""Under which symbols an instrument goes, and when: tickers are used again, by other companies."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from timebase.model.interval import Interval
from timebase.model.timerange import EVER, Ranges, TimeRange


@dataclass(frozen=True, slots=True)
class Alias:
    """Before `until_us` the instrument of `symbol` went by `was`; None: no symbol meant it.

    `provider` None: at every provider that has no aliases of its own for the symbol.
    """

    symbol: str
    until_us: int
    was: str | None = None
    provider: str | None = None


@dataclass(frozen=True, slots=True)
class Name:
    """What an instrument goes by in `range`."""

    native: str
    range: TimeRange


@dataclass(frozen=True)
class Aliases:
    """All that the operator told. Make it with `Aliases.of`.

    Order: `known` by symbol, provider and time; those of one symbol and provider follow each other, each begins where
    the one before ends. An instrument goes by its own symbol after the last.
    """

    known: tuple[Alias, ...] = ()

    @classmethod
    def of(cls, aliases: Iterable[Alias]) -> "Aliases":
        return cls(tuple(sorted(aliases, key=lambda each: (each.symbol, each.provider or "", each.until_us))))

    @cached_property
    def by_key(self) -> dict[tuple[str, str | None], tuple[Alias, ...]]:
        found: defaultdict[tuple[str, str | None], tuple[Alias, ...]] = defaultdict(tuple)
        for alias in self.known:
            found[alias.symbol, alias.provider] += (alias,)
        return dict(found)

    def names(self, symbol: str, provider: str, interval: Interval) -> tuple[Name, ...]:
        """Oldest first; in whole periods: one in which the name changes has none."""
        names: list[Name] = []
        start_us = EVER.start_us
        for alias in self._of(symbol, provider):
            end_us = interval.floor_us(alias.until_us)
            if alias.was is not None and start_us < end_us:
                names.append(Name(alias.was, TimeRange(start_us, end_us)))
            start_us = end_us if end_us == alias.until_us else interval.end_us(end_us)
        return (*names, Name(symbol, TimeRange(start_us, EVER.end_us)))

    def nameless(self, symbol: str, provider: str, interval: Interval) -> Ranges:
        """When no symbol of the provider means the instrument."""
        if not self._of(symbol, provider):
            return Ranges()
        return Ranges((EVER,)) - Ranges.of(name.range for name in self.names(symbol, provider, interval))

    def changed(self, other: "Aliases", symbol: str, provider: str, interval: Interval) -> Ranges:
        """When the instrument goes by another name here than there."""
        here, there = (_by_name(each.names(symbol, provider, interval)) for each in (self, other))
        differing = Ranges()
        for native in here.keys() | there.keys():
            one, another = here.get(native, Ranges()), there.get(native, Ranges())
            differing |= (one - another) | (another - one)
        return differing

    def _of(self, symbol: str, provider: str) -> tuple[Alias, ...]:
        return self.by_key.get((symbol, provider)) or self.by_key.get((symbol, None), ())


def _by_name(names: Iterable[Name]) -> dict[str, Ranges]:
    found: defaultdict[str, Ranges] = defaultdict(Ranges)
    for name in names:
        found[name.native] |= Ranges((name.range,))
    return dict(found)
