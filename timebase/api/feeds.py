"""GET /feeds: every live feed, how it is and why."""

from timebase.api.exchange import Asked, Desk, Reply, json_reply
from timebase.api.parse import parse_query
from timebase.model.receipt import Attempt


async def list_feeds(desk: Desk, asked: Asked, _: list[Attempt]) -> Reply:
    """Times are epoch ms."""
    parse_query(asked.query, ())
    return json_reply({"feeds": desk.services.feeds.facts()})
