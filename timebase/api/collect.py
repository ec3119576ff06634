"""GET and POST /collect, DELETE /collect/{symbol}: what is kept up to date without anybody asking."""

from timebase.api import parameters as p
from timebase.api.exchange import JSON, Asked, Desk, Reply, json_reply
from timebase.api.faults import UnsupportedMedia
from timebase.api.parse import parse_body, parse_query
from timebase.errors import BadParameter, UnknownProvider
from timebase.model.collected import Collected
from timebase.model.interval import Interval
from timebase.model.receipt import Attempt

BODY = (p.SYMBOL, p.COLLECT_INTERVAL, p.PROVIDER)
WHICH = (p.ANY_INTERVAL, p.PROVIDER)


async def list_collected(desk: Desk, asked: Asked, _: list[Attempt]) -> Reply:
    parse_query(asked.query, ())
    return _listed(desk)


async def post_collected(desk: Desk, asked: Asked, _: list[Attempt]) -> Reply:
    """Adding what is there already changes nothing."""
    parse_query(asked.query, ())
    media = asked.headers.get("content-type", JSON).partition(";")[0].strip().lower()
    if media != JSON:
        raise UnsupportedMedia(f"{media or 'nothing'} is not {JSON}")
    given = parse_body(asked.body, BODY)
    symbol, provider = given.get(p.SYMBOL), given.get(p.PROVIDER)
    if symbol is None:
        raise BadParameter("symbol", "is missing")
    slugs = [state.slug for state in desk.services.roster.all()]
    if provider is not None and provider not in slugs:
        raise UnknownProvider(provider, slugs)
    await desk.services.collector.add(Collected(symbol, given.get(p.COLLECT_INTERVAL) or Interval.M1, provider))
    return _listed(desk)


async def delete_collected(desk: Desk, asked: Asked, _: list[Attempt]) -> Reply:
    """Every line of the symbol that the query fits. What is stored stays."""
    symbol = p.SYMBOL.read(asked.in_path["symbol"])
    given = parse_query(asked.query, WHICH)
    interval, provider = given.get(p.ANY_INTERVAL), given.get(p.PROVIDER)
    collector = desk.services.collector
    for line in collector.all():
        if line.symbol == symbol and interval in (None, line.interval) and provider in (None, line.provider):
            await collector.remove(line)
    return _listed(desk)


def _listed(desk: Desk) -> Reply:
    return json_reply({"collected": desk.services.collector.facts()})
