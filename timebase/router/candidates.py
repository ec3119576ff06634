"""Which providers can answer a question at all, and why the others cannot. Pure."""

from dataclasses import dataclass
from typing import Protocol

from timebase.manifest.manifest import HISTORICAL_DATA, REAL_TIME_STREAMING, Manifest
from timebase.model.demand import Question
from timebase.model.feed import Channel, FeedKind
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
    if question.provider is None and provider.manifest.only_by_name:
        return _unnamed(provider)
    return _off(provider) or _cannot(provider.manifest, question, instrument, now_us)


def stream_refusal(channel: Channel, instrument: Instrument, provider: Provider) -> str:
    """Why this provider cannot supply the channel live; "" when it can."""
    if channel.provider not in (None, provider.slug):
        return f"the channel is pinned to {channel.provider}"
    if channel.provider is None and provider.manifest.only_by_name:
        return _unnamed(provider)
    return _off(provider) or _cannot_stream(provider.manifest, channel, instrument)


def streamed_kind(manifest: Manifest, channel: Channel) -> FeedKind | None:
    """The kind of feed from which a provider supplies the channel: bars are built from trades where it streams those.

    None: it streams nothing of use.
    """
    if channel.kind is not FeedKind.BARS:
        return channel.kind if channel.kind in manifest.streams else None
    if FeedKind.TRADES in manifest.streams:
        return FeedKind.TRADES
    has_them = FeedKind.BARS in manifest.streams and channel.interval in manifest.intervals
    return FeedKind.BARS if has_them else None


def _unnamed(provider: Provider) -> str:
    return f"is asked only by who names it: provider={provider.slug}"


def _off(provider: Provider) -> str:
    if provider.state in SWITCHED_OFF:
        return ": ".join(part for part in (provider.state, provider.reason) if part)
    return ""


def _cannot_stream(manifest: Manifest, channel: Channel, instrument: Instrument) -> str:
    if REAL_TIME_STREAMING not in manifest.capabilities:
        return f"has no {REAL_TIME_STREAMING}"
    if streamed_kind(manifest, channel) is None:
        what = f"{channel.interval} bars" if channel.interval else channel.kind.value
        return f"streams no {what}, only {_some(sorted(manifest.streams))}"
    return _serves_not(manifest, instrument)


def _cannot(manifest: Manifest, question: Question, instrument: Instrument, now_us: int) -> str:
    if HISTORICAL_DATA not in manifest.capabilities:
        return f"has no {HISTORICAL_DATA}"
    if why := _serves_not(manifest, instrument):
        return why
    if question.interval not in manifest.intervals:
        return f"has no {question.interval} bars, only {_some([i for i in Interval if i in manifest.intervals])}"
    if reach(manifest, question.interval, question.range, now_us) is None:
        earliest_us = manifest.earliest_us(question.interval, now_us) or 0
        return f"its {question.interval} bars go back to {to_datetime(earliest_us):%Y-%m-%d} only"
    return ""


def _serves_not(manifest: Manifest, instrument: Instrument) -> str:
    listed = [each.symbol for each in manifest.symbols]
    if listed and instrument.symbol not in listed:
        return f"serves only {_some(listed)}"
    if not listed and not _serves(manifest, instrument.asset_class):
        return f"does not serve the asset class {instrument.asset_class}, only {_some(sorted(manifest.asset_classes))}"
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


def _some(names: list[str] | list[Interval] | list[AssetClass] | list[FeedKind]) -> str:
    shown = ", ".join(names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown or "nothing"
