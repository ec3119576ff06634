"""All a plugin may import: the provider's base class, its data, and the errors it may raise.

No DataFrame library is loaded here, so a plugin that needs none stays small.
"""

from timebase.errors import (
    AuthFailed,
    Empty,
    Malformed,
    ProviderError,
    RateLimited,
    SymbolNotFound,
    Unavailable,
    Unsupported,
    Upstream,
    UpstreamTimeout,
)  # fmt: skip
from timebase.model.feed import FeedKind
from timebase.model.instrument import AssetClass, CorporateAction, Instrument
from timebase.model.interval import Interval
from timebase.sdk.bars import Bars
from timebase.sdk.provider import HistoryRequest, Provider
from timebase.sdk.stream import BUY, CANCEL, CORRECTION, SELL, Stream, Subscription
from timebase.sdk.waits import Waits

__all__ = [
    "BUY",
    "CANCEL",
    "CORRECTION",
    "SELL",
    "AssetClass",
    "AuthFailed",
    "Bars",
    "CorporateAction",
    "Empty",
    "FeedKind",
    "HistoryRequest",
    "Instrument",
    "Interval",
    "Malformed",
    "Provider",
    "ProviderError",
    "RateLimited",
    "Stream",
    "Subscription",
    "SymbolNotFound",
    "Unavailable",
    "Unsupported",
    "Upstream",
    "UpstreamTimeout",
    "Waits",
]
