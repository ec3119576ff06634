"""GET /metrics: everything counted, for Prometheus."""

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from timebase.api.exchange import Asked, Desk, Reply
from timebase.api.parse import parse_query
from timebase.model.receipt import Attempt


async def get_metrics(desk: Desk, asked: Asked, _: list[Attempt]) -> Reply:
    parse_query(asked.query, ())
    return Reply(200, generate_latest(desk.services.registry), CONTENT_TYPE_PLAIN_0_0_4)
