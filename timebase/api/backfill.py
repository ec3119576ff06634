"""POST /backfill: make a range complete in the store, without reading it."""

from timebase.api.exchange import Asked, Desk, Reply, json_reply
from timebase.api.parse import parse_backfill, parse_query, require_json
from timebase.clock import now_us
from timebase.model.receipt import Attempt


async def post_backfill(desk: Desk, asked: Asked, attempts: list[Attempt]) -> Reply:
    """`fetched` counts the bars that are new or changed; times are epoch ms."""
    parse_query(asked.query, ())
    require_json(asked)
    done = await desk.services.complete(parse_backfill(asked, now_us=now_us()), attempts)
    missing = [[each.range.start_us // 1000, each.range.end_us // 1000, each.why] for each in done.missing]
    return json_reply({
        "symbol": done.series.symbol,
        "interval": done.series.interval.value,
        "provider": done.series.provider,
        "fetched": done.new + done.revised,
        "coverage": {"complete": not missing, "missing": missing},
        "attempts": done.attempts,
        "warnings": done.warnings,
    })  # fmt: skip
