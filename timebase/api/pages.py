"""GET /openapi.json and /docs: what the API says of itself."""

from pathlib import Path

from timebase.api.exchange import Asked, Desk, Reply
from timebase.api.parse import parse_query
from timebase.model.receipt import Attempt

_DOCS = Path(__file__).with_name("docs.html").read_bytes()
# The page is one file without a single address of anybody else, and the browser shall hold it to that.
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'"


async def get_openapi(desk: Desk, asked: Asked, _: list[Attempt]) -> Reply:
    parse_query(asked.query, ())
    return Reply(200, desk.openapi)


async def get_docs(desk: Desk, asked: Asked, _: list[Attempt]) -> Reply:
    parse_query(asked.query, ())
    return Reply(200, _DOCS, "text/html; charset=utf-8", (("content-security-policy", _POLICY),))


async def go_to_docs(_: Desk, asked: Asked, __: list[Attempt]) -> Reply:
    parse_query(asked.query, ())
    return Reply(307, headers=(("location", "docs"),))
