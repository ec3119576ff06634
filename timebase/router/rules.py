"""The operator's routing rules: which providers to prefer for what."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from timebase.errors import ConfigError
from timebase.model.instrument import AssetClass, canonical_symbol
from timebase.model.interval import Interval, parse_interval


@dataclass(frozen=True, slots=True)
class RoutingRule:
    """Prefer `providers`, in that order, for what matches; None matches everything.

    `symbol` is a pattern of canonical symbols as the shell knows them: `BTC-*`. Providers that the rule does not name
    come after those it names.
    """

    providers: tuple[str, ...]
    asset_class: AssetClass | None = None
    interval: Interval | None = None
    symbol: str | None = None

    def __str__(self) -> str:
        parts = [str(part) for part in (self.asset_class, self.interval, self.symbol) if part is not None]
        return f"{' '.join(parts) or 'everything'} → {', '.join(self.providers)}"

    def matches(self, symbol: str, asset_class: AssetClass, interval: Interval) -> bool:
        return (
            self.asset_class in (None, asset_class)
            and self.interval in (None, interval)
            and (self.symbol is None or fnmatchcase(symbol, self.symbol))
        )

    def place(self, slug: str) -> int:
        return self.providers.index(slug) if slug in self.providers else len(self.providers)


def first_match(
    rules: Sequence[RoutingRule], symbol: str, asset_class: AssetClass, interval: Interval
) -> RoutingRule | None:
    return next((rule for rule in rules if rule.matches(symbol, asset_class, interval)), None)


def parse_rules(raw: Sequence[Mapping[str, object]]) -> tuple[RoutingRule, ...]:
    """The rules of the configuration's `routing` list.

    Raises: ConfigError with all faults.
    """
    faults: list[str] = []
    rules = tuple(_parse(f"routing, rule {at}", rule, faults) for at, rule in enumerate(raw, start=1))
    if faults:
        raise ConfigError(faults)
    return rules


def _parse(where: str, raw: Mapping[str, object], faults: list[str]) -> RoutingRule:
    providers = raw.get("providers")
    if not isinstance(providers, list) or not providers:
        faults.append(f"{where}: name the providers to prefer, as in `providers: [binance]`")
        providers = []
    asset_class = raw.get("asset_class")
    if asset_class is not None and asset_class not in list(AssetClass):
        faults.append(f"{where}: asset_class is one of {', '.join(AssetClass)}, not {asset_class}")
        asset_class = None
    interval = raw.get("interval")
    known = None if interval is None else parse_interval(str(interval))
    if interval is not None and known is None:
        faults.append(f"{where}: interval is one of {', '.join(Interval)}, not {interval}")
    symbol = raw.get("symbol")
    return RoutingRule(
        providers=tuple(str(slug) for slug in providers),
        asset_class=None if asset_class is None else AssetClass(str(asset_class)),
        interval=known,
        symbol=None if symbol is None else canonical_symbol(str(symbol)),
    )
