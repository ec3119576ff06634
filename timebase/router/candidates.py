"""Which providers can answer a question at all, and why the others cannot. Pure."""

from dataclasses import dataclass
from typing import Protocol

from timebase.manifest.manifest import HISTORICAL_DATA, Manifest
from timebase.model.demand import Question
from timebase.model.instrument import AssetClass, Instrument
from timebase.model.interval import Interval
from timebase.model.timerange import TimeRange, to_datetime

# The form of a ticker does not tell these apart, and a store that guessed `stock` for SPY still says so.
SHARES = frozenset({AssetClass.STOCK, AssetClass.ETF, AssetClass.FUND})

SWITCHED_OFF = ("disabled", "failed_auth", "waiting")  # only an operator brings them back; `waiting` is for a secret
UP = ("ready", "starting")


class Provider(Protocol):
    """One provider as the roster lists it; `state` is starting, ready, backing_off, disabled, failed_auth …

    `next_retry_us`: µs UTC at which one that backs off is started again.
    """

    @property
    def slug(self) -> str: ...
    @property
    def manifest(self) -> Manifest: ...
    @property
    def state(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def next_retry_us(self) -> int | None: ...


@dataclass(frozen=True, slots=True)
class Refusal:
    """A provider that is not asked, and why."""

    slug: str
    reason: str


def refusal(question: Question, instrument: Instrument, provider: Provider, now_us: int) -> str:
    """Why this provider cannot answer the question; "" when it can."""
    if question.provider not in (None, provider.slug):
        return f"the question asks for {question.provider} only"
    if provider.manifest.only_by_name and question.provider is None:
        return f"is asked only by who names it: provider={provider.slug}"
    if provider.state in SWITCHED_OFF:
        return ": ".join(part for part in (provider.state, provider.reason) if part)
    return _cannot(provider.manifest, question, instrument, now_us)


def _cannot(manifest: Manifest, question: Question, instrument: Instrument, now_us: int) -> str:
    if HISTORICAL_DATA not in manifest.capabilities:
        return f"has no {HISTORICAL_DATA}"
    listed = [each.symbol for each in manifest.symbols]
    if listed and instrument.symbol not in listed:
        return f"serves only {_some(listed)}"
    if not listed and not _serves(manifest, instrument.asset_class):
        return f"does not serve the asset class {instrument.asset_class}, only {_some(sorted(manifest.asset_classes))}"
    if question.interval not in manifest.intervals:
        return f"has no {question.interval} bars, only {_some([i for i in Interval if i in manifest.intervals])}"
    if reach(manifest, question.interval, question.range, now_us) is None:
        earliest_us = manifest.earliest_us(question.interval, now_us) or 0
        return f"its {question.interval} bars go back to {to_datetime(earliest_us):%Y-%m-%d} only"
    return ""


def reach(manifest: Manifest, interval: Interval, asked: TimeRange, now_us: int) -> TimeRange | None:
    """The part of `asked` that lies within what the provider keeps."""
    earliest_us = manifest.earliest_us(interval, now_us)
    if earliest_us is None or earliest_us <= asked.start_us:
        return asked
    # A period that begins before the reach is not whole.
    first_us = interval.end_us(interval.floor_us(earliest_us - 1))
    return TimeRange(first_us, asked.end_us) if first_us < asked.end_us else None


def _serves(manifest: Manifest, asset_class: AssetClass) -> bool:
    alike = SHARES if asset_class in SHARES else {asset_class}
    return bool(manifest.asset_classes & alike)


def _some(names: list[str] | list[Interval] | list[AssetClass]) -> str:
    shown = ", ".join(names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown or "nothing"
