"""The shapes of the replies, for the OpenAPI description. What a test asks of every reply stands here."""

from collections.abc import Mapping, Sequence
from typing import Any

from timebase.api.parameters import Schema
from timebase.model.bars import COLUMNS
from timebase.model.cut import By
from timebase.model.feed import FeedKind, FeedState
from timebase.model.instrument import AssetClass
from timebase.model.interval import Interval


def _object(properties: Mapping[str, Any], optional: Sequence[str] = (), description: str = "") -> Schema:
    required = [name for name in properties if name not in optional]
    made: dict[str, Any] = {"type": "object", "properties": dict(properties), "required": required}
    return made | ({"description": description} if description else {})


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _nullable(kind: str) -> Schema:
    return {"type": [kind, "null"]}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


_TEXT: Schema = {"type": "string"}
_TEXTS = _list(_TEXT)
_WHOLE: Schema = {"type": "integer"}
_NUMBER: Schema = {"type": "number"}
_YES: Schema = {"type": "boolean"}
_TIME: Schema = {"type": ["integer", "string"], "description": "As `times` says: epoch ms, epoch s or ISO 8601."}
_TIME_OR_NULL: Schema = {"type": ["integer", "string", "null"]}
_INTERVAL: Schema = {"type": "string", "enum": [i.value for i in Interval]}
_RANGES = _list({"type": "array", "items": _TIME, "minItems": 2, "maxItems": 2})
_MISSING = _list({"type": "array", "items": _TIME, "minItems": 3, "maxItems": 3, "description": "from, to, why"})
_COVERED = _object({"complete": _YES, "missing": _MISSING})
_INSTRUMENT = {
    "symbol": _TEXT,
    "asset_class": {"type": "string", "enum": [a.value for a in AssetClass]},
    "name": _TEXT,
    "currency": _TEXT,
    "exchange": _TEXT,
    "timezone": _TEXT,
}
_TYPES = {"time": _TIME, "flags": _WHOLE}
_COLUMNS = _object({name: _list(_TYPES.get(name, _NUMBER)) for name in COLUMNS}, description="json: columns")
_ROWS = _list(_object({name: _TYPES.get(name, _NUMBER) for name in COLUMNS}))
_OUTCOMES = ("complete", "empty", "refused", "partial", "failed")
_PROVIDER = {
    "slug": _TEXT, "name": _TEXT, "version": _TEXT, "description": _TEXT, "state": _TEXT, "reason": _TEXT,
    "since": _TEXT, "pid": _nullable("integer"), "restarts": _WHOLE, "next_retry": _nullable("string"),
    "memory_bytes": _WHOLE, "in_flight": _WHOLE, "last_error": _TEXT, "capabilities": _TEXTS,
    "asset_classes": _TEXTS, "intervals": _TEXTS, "symbols": _TEXTS, "cost": _NUMBER, "priority": _WHOLE,
    "rate_limits": _list(_object({"requests": _WHOLE, "seconds": _NUMBER})), "options": {"type": "object"},
    "routing": {"type": "object", "description": "What the router has learnt: circuit, budget left, reliability …"},
}  # fmt: skip

_TICK_TIME: Schema = {"type": ["number", "string"], "description": "As `times` says, to the microsecond."}


_NEXT: Mapping[str, Schema] = {
    "next": {"type": ["string", "null"], "description": "Ask with cursor=… for the next page; null on the last."}
}


def _ticks(
    kind: str,
    columns: Mapping[str, Schema],
    meta: Mapping[str, Schema] | None = None,
    onward: Mapping[str, Schema] = _NEXT,
) -> Schema:
    of_columns = _object({name: _list(each) for name, each in columns.items()}, description="json: columns")
    return _object({
        "symbol": _TEXT,
        "provider": {"type": ["string", "null"], "description": "null: nothing was recorded in that range."},
        kind: {"oneOf": [of_columns, _list(_object(columns))]},
        "meta": _object({
            "source": {"type": "string", "enum": ["recorded"]},
            "recorded": _list({
                "type": "array", "items": _TICK_TIME, "minItems": 2, "maxItems": 2,
                "description": "from, to: when the feed was up.",
            }),
            "others": {**_TEXTS, "description": "Providers that were recorded in that range too."},
            **(meta or {}),
        }),
        "warnings": _TEXTS,
        **onward,
    })  # fmt: skip


SCHEMAS: Mapping[str, Schema] = {
    "Replay": _object({
        "state": {
            "type": "string", "enum": ["empty", "waiting", "playing", "paused", "ended", "failed"],
            "description": "waiting: the order has not been taken up yet, since nobody follows what is on the tapes.",
        },
        "tapes": _list(_object({"symbol": _TEXT, "path": _TEXT})),
        "speed": _NUMBER,
        "position": {"type": ["integer", "null"], "description": "Where it is, in tape time; epoch ms."},
        "begin": {"type": ["integer", "null"], "description": "The first trade; epoch ms."},
        "end": {"type": ["integer", "null"], "description": "The last trade; epoch ms."},
        "trades": _WHOLE,
        "error": _TEXT,
    }),
    "Bars": _object({
        "symbol": _TEXT,
        "interval": _INTERVAL,
        "provider": _TEXT,
        "bars": {"oneOf": [_COLUMNS, _ROWS], "description": "Columns; with format=rows a list of objects."},
        "meta": _object({
            "source": {"type": "string", "enum": ["cache", "store", "fetched"]},
            "resampled_from": {"type": ["string", "null"], "description": "Interval of the bars these are made of."},
            "attempts": _list(_ref("Attempt")),
            "coverage": _COVERED,
            "freshness": _object({"checked_at": _TIME_OR_NULL, "fresh_until": _TIME_OR_NULL, "is_stale": _YES}),
            "adjustment": {"type": "object", "description": "The mode, and every corporate action that was applied."},
        }),
        "warnings": _TEXTS,
        "next": {"type": ["string", "null"], "description": "Ask with cursor=… for the next page; null on the last."},
    }),
    "Trades": _ticks("trades", {
        "time": _TICK_TIME, "price": _NUMBER, "size": _NUMBER,
        "side": {"type": "integer", "description": "Who crossed the spread: 1 the buyer, -1 the seller, 0 unknown."},
        "id": {"type": "integer", "description": "The vendor's number; 0: it gives none."},
        "flags": {"type": "integer", "description": "0 a trade; 1 takes back, 2 replaces the trade with that id."},
    }),
    "Quotes": _ticks("quotes", {
        "time": _TICK_TIME, "bid": _NUMBER, "bid_size": _NUMBER, "ask": _NUMBER, "ask_size": _NUMBER,
    }),
    "TapeBars": _ticks("bars", {
        "time": _TICK_TIME, **dict.fromkeys(("open", "high", "low", "close", "volume"), _NUMBER), "trades": _WHOLE,
        "vwap": {"type": ["number", "null"], "description": "null: without volume."},
    }, {
        "by": {"type": "string", "enum": list(By)},
        "every": {"type": "number", "description": "Of that; by time: seconds."},
    }, {
        "next_start": {"type": ["string", "null"], "description": "Ask with start=… for the bars that follow."},
    }),
    "Attempt": _object(
        {"provider": _TEXT, "outcome": _TEXT, "reason": _TEXT, "ms": _WHOLE},
        description="A provider considered or asked. outcome: ok, skipped, or the code of its error.",
    ),
    "Lines": {"type": "string", "description": "One JSON object per line; the rest of the reply is in TimeBase-Meta."},
    "Text": {"type": "string"},
    "Binary": {"description": "Arrow and Parquet: time is timestamp[us, UTC]; the rest is in TimeBase-Meta."},
    "Anything": {"type": "object"},
    "Completion": _object({
        "symbol": _TEXT,
        "interval": _INTERVAL,
        "provider": _TEXT,
        "fetched": {"type": "integer", "description": "Bars that are new or changed."},
        "coverage": _COVERED,
        "attempts": _list(_ref("Attempt")),
        "warnings": _TEXTS,
    }),
    "Explanation": _object({
        "symbol": _TEXT,
        "asset_class": _TEXT,
        "interval": _INTERVAL,
        "resampled_from": {"type": ["string", "null"], "description": "The interval that is asked for instead."},
        "rule": {"type": ["string", "null"], "description": "The operator's rule that decided the order, if one did."},
        "candidates": _list({"type": "object", "required": ["provider", "place", "score", "factors"]}),
        "refused": _list(_object({"provider": _TEXT, "reason": _TEXT})),
        "stored": _list({"type": "object", "required": ["provider", "complete", "would_ask_for"]}),
    }),
    "Coverage": _object({
        "symbol": _TEXT,
        "series": _list(_object({
            "provider": _TEXT,
            "interval": _INTERVAL,
            "coverage": _object(dict.fromkeys(_OUTCOMES, _RANGES)),
        })),
    }),
    "Symbols": _object({"symbols": _list(_object(_INSTRUMENT)), "next": _nullable("string")}),
    "SymbolWithSeries": _object({
        **_INSTRUMENT, "series": _list(_object({"provider": _TEXT, "interval": _INTERVAL})),
    }),
    "SymbolProviders": _object({
        "symbol": _TEXT,
        "providers": _list(_object({
            "slug": _TEXT, "name": _TEXT, "state": _TEXT, "reason": _TEXT, "intervals": _TEXTS,
        })),
    }),
    "Provider": _object(_PROVIDER),
    "Removed": _object({"slug": _TEXT, "kept": {"type": "string", "description": "Where its folder lies now."}}),
    "Providers": _object({
        "providers": _list(_ref("Provider")),
        "broken": _list(_object({"folder": _TEXT, "faults": _TEXTS})),
    }),
    "Feeds": _object({"feeds": _list(_object({
        "kind": {"type": "string", "enum": [kind.value for kind in FeedKind]}, "symbol": _TEXT,
        "interval": _nullable("string"), "provider": _nullable("string"), "channels": _TEXTS,
        "state": {"type": "string", "enum": [state.value for state in FeedState]}, "since": _nullable("integer"),
        "reason": _TEXT, "attempts": {"type": "integer", "description": "Failures in a row."},
        "made": {"type": "integer", "description": "How often it was subscribed."},
        "retry_in_s": _NUMBER, "last_event": _nullable("integer"), "last_received": _nullable("integer"),
        "usual_pause_s": {"type": ["number", "null"], "description": "The 99th percentile of its pauses."},
        "followers": _WHOLE, "is_collected": _YES,
        "healing": _list(_object({"interval": _TEXT, "owed": _RANGES, "tries": _WHOLE, "reason": _TEXT})),
    }))}),
    "CollectedList": _object({"collected": _list(_object({
        "symbol": _TEXT, "interval": _INTERVAL, "provider": _nullable("string"),
        "by": {"type": "string", "enum": ["stream", "history"]}, "asked": _nullable("integer"), "reason": _TEXT,
    }))}),
    "Health": _object({
        "status": {"type": "string", "enum": ["ok", "degraded", "down"]},
        "version": _TEXT,
        "started": _TEXT,
        "uptime_s": _WHOLE,
        "database": {"type": "object", "properties": {"is_up": _YES, "reason": _TEXT}, "required": ["is_up"]},
        "spool": _object(
            {
                "waiting": _WHOLE, "bytes": _WHOLE, "limit_bytes": _WHOLE, "is_refusing": _YES, "reason": _TEXT,
                "lost": {"type": "integer", "description": "Batches it could not take since the start."},
                "stuck": {"type": "integer", "description": "Files that are stored and cannot be deleted."},
            },
            optional=("reason",),
            description="Where batches wait on disk while the database is away; `waiting` counts files.",
        ),
        "actors": {"type": "object", "additionalProperties": _TEXT},
        "providers": _list(_object({"slug": _TEXT, "state": _TEXT, "reason": _TEXT})),
        "broken": _TEXTS,
    }),
    "Problem": _object(
        {
            "type": _TEXT, "title": _TEXT, "status": _WHOLE, "detail": _TEXT, "code": _TEXT, "suggestions": _TEXTS,
            "attempts": _list(_ref("Attempt")), "request_id": _TEXT, "parameter": _TEXT, "allowed": _TEXTS,
            "faults": _TEXTS,
        },
        optional=("parameter", "allowed", "faults"),
        description="RFC 9457. `code` never changes its meaning; `suggestions` say what to try.",
    ),
}  # fmt: skip
