"""Everything that can be asked, as one table: Quart's rules, the shortcut, near paths and OpenAPI are made from it.

Start here to see what the API does.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from timebase.api import (
    backfill,
    collect,
    coverage,
    data,
    explain,
    feeds,
    health,
    metrics,
    pages,
    providers,
    replay,
    symbols,
    ticks,
)
from timebase.api import parameters as p
from timebase.api.exchange import JSON, Asked, Desk, Reply
from timebase.api.faults import (
    BodyTooLarge,
    BodyTooSlow,
    CrossOrigin,
    DeadlineExceeded,
    UnknownPath,
    UnsupportedMedia,
)
from timebase.api.negotiate import FORMATS
from timebase.api.parameters import Parameter
from timebase.api.parse import BACKFILL, DATA, DATA_OF_ANY
from timebase.api.tape_question import QUERY as TAPE_BARS
from timebase.errors import (
    AllProvidersFailed,
    BadBody,
    BadPackage,
    BadParameter,
    ConfigError,
    FixedProvider,
    NotSupported,
    ProviderExists,
    StoreUnavailable,
    UnknownProvider,
    UnknownSymbol,
)
from timebase.model.receipt import Attempt

Handler = Callable[[Desk, Asked, list[Attempt]], Awaitable[Reply]]

PREFIXES = ("/api/v1", "/api")
DOCUMENTED_PREFIX = PREFIXES[0]


@dataclass(frozen=True, slots=True)
class Route:
    """`replies`: media type -> name of the schema in openapi.py, of `status`. `is_top`: also without the prefix.

    `packages`: the media types of the archive that is its body.
    """

    path: str
    handler: Handler
    name: str
    summary: str
    query: Sequence[Parameter[Any]] = ()
    body: Sequence[Parameter[Any]] = ()
    replies: Mapping[str, str] = field(default_factory=dict)
    faults: Sequence[type[Exception]] = ()
    method: str = "GET"
    status: int = 200
    packages: Sequence[str] = ()
    also: Mapping[int, str] = field(default_factory=dict)
    tag: str = "data"
    is_top: bool = False
    is_open: bool = False  # asks for no token
    is_hot: bool = False  # answered by the fast front
    is_long: bool = False  # may take backfill_s

    @property
    def methods(self) -> tuple[str, ...]:
        return ("GET", "HEAD") if self.method == "GET" else (self.method,)


_ASKING = (UnknownSymbol, NotSupported, BadParameter, AllProvidersFailed, StoreUnavailable, DeadlineExceeded)
_STORED = (UnknownSymbol, BadParameter, StoreUnavailable, DeadlineExceeded)
_POSTED = (BodyTooLarge, BodyTooSlow, CrossOrigin, DeadlineExceeded)
_PACKED = (BadParameter, BadPackage, UnsupportedMedia, ConfigError, *_POSTED)
_BARS = {each.media: _schema for each, _schema in zip(
    FORMATS.values(), ("Bars", "Bars", "Lines", "Text", "Binary", "Binary", "Binary", "Binary"), strict=True
)}  # fmt: skip
_TICKS = {kind: {**_BARS, JSON: schema} for kind, schema in (("trades", "Trades"), ("quotes", "Quotes"))}
_NOT_MODIFIED = {304: "Unchanged since the ETag in If-None-Match."}

ROUTES = (
    Route(
        "/data/{symbol}", data.get_data, "getData", "Bars of a symbol from the best provider",
        query=DATA_OF_ANY, replies=_BARS, faults=(*_ASKING, UnknownProvider), also=_NOT_MODIFIED, is_hot=True,
    ),
    Route(
        "/providers/{slug}/data/{symbol}", data.get_data, "getDataOfProvider", "Bars of a symbol from one provider",
        query=DATA, replies=_BARS, faults=(*_ASKING, UnknownProvider), also=_NOT_MODIFIED, is_hot=True,
    ),
    Route(
        "/trades/{symbol}", ticks.get_trades, "getTrades", "Trades of a symbol, as they were recorded live",
        query=ticks.QUERY, replies=_TICKS["trades"], faults=_STORED,
    ),
    Route(
        "/trades/{symbol}/bars", ticks.get_tape_bars, "getTapeBars",
        "Bars made of recorded trades: by trades, volume or value, or of any length of time",
        query=TAPE_BARS, replies={**_BARS, JSON: "TapeBars"}, faults=_STORED,
    ),
    Route(
        "/quotes/{symbol}", ticks.get_quotes, "getQuotes", "Best bids and asks of a symbol, as they were recorded live",
        query=ticks.QUERY, replies=_TICKS["quotes"], faults=_STORED,
    ),
    Route(
        "/backfill", backfill.post_backfill, "postBackfill", "Fetch and store what a range lacks, without sending bars",
        method="POST", body=BACKFILL, replies={JSON: "Completion"},
        faults=(*_ASKING, UnknownProvider, *_POSTED, BadBody, UnsupportedMedia), is_long=True,
    ),
    Route(
        "/replay", replay.get_replay, "getReplay", "What is being played, how fast, and where it is",
        replies={JSON: "Replay"}, faults=(BadParameter,), tag="replay",
    ),
    Route(
        "/replay", replay.put_replay, "putReplay", "Put tapes in, play, pause, wind, or change the speed; one or all",
        method="PUT", body=replay.BODY, replies={JSON: "Replay"},
        faults=(BadParameter, *_POSTED, BadBody, UnsupportedMedia), tag="replay",
    ),
    Route(
        "/explain/{symbol}", explain.get_explain, "explain", "Who would be asked, in which order and why",
        query=explain.QUERY, replies={JSON: "Explanation"}, faults=(*_STORED, NotSupported, UnknownProvider),
    ),
    Route(
        "/coverage/{symbol}", coverage.get_coverage, "getCoverage", "What is stored of a symbol, and what is missing",
        query=coverage.QUERY, replies={JSON: "Coverage"}, faults=_STORED,
    ),
    Route(
        "/symbols", symbols.list_symbols, "listSymbols", "The symbols known here", query=symbols.LIST_QUERY,
        replies={JSON: "Symbols"}, faults=(BadParameter, StoreUnavailable, DeadlineExceeded), tag="symbols",
    ),
    Route(
        "/symbols/{symbol}", symbols.get_symbol, "getSymbol", "One symbol and the series stored of it",
        replies={JSON: "SymbolWithSeries"}, faults=_STORED, tag="symbols",
    ),
    Route(
        "/symbols/{symbol}/providers", symbols.get_symbol_providers, "getSymbolProviders",
        "The providers that claim a symbol's asset class", replies={JSON: "SymbolProviders"}, faults=_STORED,
        tag="symbols",
    ),
    Route(
        "/providers", providers.list_providers, "listProviders", "Every provider's state, and the broken manifests",
        replies={JSON: "Providers"}, faults=(BadParameter,), tag="providers",
    ),
    Route(
        "/providers/{slug}", providers.get_provider, "getProvider", "One provider: state, claims, options",
        replies={JSON: "Provider"}, faults=(UnknownProvider, BadParameter), tag="providers",
    ),
    Route(
        "/providers", providers.install, "installProvider", "Install a provider's folder, sent as a zip or tar.gz",
        method="POST", status=201, packages=providers.PACKAGES, replies={JSON: "Provider"}, tag="providers",
        faults=(ProviderExists, *_PACKED),
    ),
    Route(
        "/providers/{slug}", providers.remove, "removeProvider", "End a provider and take its folder away",
        method="DELETE", replies={JSON: "Removed"}, tag="providers",
        faults=(UnknownProvider, FixedProvider, BadParameter, *_POSTED),
    ),
    Route(
        "/providers/{slug}/update", providers.update, "updateProvider", "Put another version in a provider's place",
        method="POST", packages=providers.PACKAGES, replies={JSON: "Provider"}, tag="providers",
        faults=(UnknownProvider, FixedProvider, *_PACKED),
    ),
    *(
        Route(
            f"/providers/{{slug}}/{verb}", providers.ACTIONS[verb], f"{verb}Provider", summary, method="POST",
            replies={JSON: "Provider"}, tag="providers",
            faults=(UnknownProvider, BadParameter, ConfigError, *_POSTED),
        )
        for verb, summary in (
            ("enable", "Start a provider, also one that failed to authenticate"),
            ("disable", "Stop a provider"),
            ("restart", "Stop a provider's process and start it again"),
        )
    ),
    Route(
        "/feeds", feeds.list_feeds, "listFeeds", "Every live feed: its state, its rhythm, and why",
        replies={JSON: "Feeds"}, faults=(BadParameter,), tag="live",
    ),
    Route(
        "/collect", collect.list_collected, "listCollected", "What is kept up to date without anybody asking",
        replies={JSON: "CollectedList"}, faults=(BadParameter,), tag="live",
    ),
    Route(
        "/collect", collect.post_collected, "postCollected", "Keep a symbol up to date from now on", method="POST",
        body=collect.BODY, replies={JSON: "CollectedList"}, tag="live",
        faults=(BadParameter, UnknownProvider, StoreUnavailable, *_POSTED, BadBody, UnsupportedMedia),
    ),
    Route(
        "/collect/{symbol}", collect.delete_collected, "deleteCollected", "Do not keep a symbol up to date any more",
        method="DELETE", query=collect.WHICH, replies={JSON: "CollectedList"}, tag="live",
        faults=(BadParameter, UnknownPath, StoreUnavailable, CrossOrigin, DeadlineExceeded),
    ),
    Route(
        "/health", health.get_health, "getHealth", "200 only when the database answers and is migrated",
        replies={JSON: "Health"}, also={503: "The same, when something essential is down."}, tag="server", is_top=True,
        faults=(BadParameter,), is_open=True,
    ),
    Route(
        "/metrics", metrics.get_metrics, "getMetrics", "Prometheus metrics", replies={"text/plain": "Text"},
        faults=(BadParameter,), tag="server", is_top=True,
    ),
    Route(
        "/openapi.json", pages.get_openapi, "getOpenapi", "This description", replies={JSON: "Anything"},
        faults=(BadParameter,), tag="server", is_top=True,
    ),
    Route(
        "/docs", pages.get_docs, "getDocs", "This description, for people", replies={"text/html": "Text"},
        faults=(BadParameter,), tag="server", is_top=True,
    ),
)  # fmt: skip

# For people who type the address alone; no part of the API.
ROOT = Route("/", pages.go_to_docs, "goToDocs", "To the description, for people", is_top=True)

IN_PATH = {p.SYMBOL.name: p.SYMBOL, p.SLUG.name: p.SLUG}


def paths(route: Route) -> Sequence[str]:
    """Everywhere the route can be found; the first is the one that is documented."""
    documented = [f"{prefix}{route.path}" for prefix in PREFIXES]
    return [route.path, *documented] if route.is_top else documented
