"""GET /explain/{symbol}: who would be asked, in which order and why. Asks nobody."""

from timebase.api import parameters as p
from timebase.api.exchange import Asked, Desk, Reply, json_reply
from timebase.api.parse import RANGE, parse_range
from timebase.clock import now_us
from timebase.model.receipt import Attempt

QUERY = (*RANGE, p.PROVIDER)


async def get_explain(desk: Desk, asked: Asked, _: list[Attempt]) -> Reply:
    return json_reply(await desk.services.explain(parse_range(asked, now_us=now_us(), known=QUERY)))
