"""A query string -> a question for recorded ticks, and the cursor that carries it on. Pure."""

import base64
import binascii
from dataclasses import dataclass, replace

import orjson

from timebase.api import parameters as p
from timebase.api.exchange import Asked
from timebase.api.negotiate import Form, choose_form
from timebase.api.parse import Given, parse_query
from timebase.api.times import EARLIEST_US, LATEST_US
from timebase.errors import BadParameter
from timebase.model.ticks import TickPlace
from timebase.model.timerange import TimeRange

QUERY = (p.TICKS_START, p.END, p.TICKS_LIMIT, p.RECORDED_FROM, p.FORMAT, p.TICK_TIMES, p.CURSOR)
_CURSOR_VERSION = 1
_NOT_OURS = "is not a cursor of ours; take `next` of the page before as it is"


@dataclass(frozen=True, slots=True)
class TickQuestion:
    """`after`: where the page before ended. `is_newest`: `limit` keeps the newest ones."""

    kind: str
    symbol: str
    range: TimeRange
    limit: int
    provider: str | None = None
    is_newest: bool = False
    after: TickPlace | None = None


def parse_ticks(asked: Asked, kind: str, now_us: int) -> tuple[TickQuestion, Form]:
    """Raises: BadParameter."""
    symbol = p.SYMBOL.read(asked.in_path["symbol"])
    given = parse_query(asked.query, QUERY)
    form = choose_form(given.get(p.FORMAT), given.get(p.TICK_TIMES), asked.headers.get("accept", ""))
    cursor, provider = given.get(p.CURSOR), given.get(p.RECORDED_FROM)
    if cursor is not None:
        return _from_cursor(cursor, kind, symbol, provider), form
    start_us = given.time_us(p.TICKS_START, now_us)
    question = TickQuestion(
        kind=kind,
        symbol=symbol,
        range=_range(given, start_us, now_us),
        limit=given.get(p.TICKS_LIMIT) or p.USUAL_TICKS,
        provider=provider,
        is_newest=start_us is None,
    )
    return question, form


def _range(given: Given, start_us: int | None, now_us: int) -> TimeRange:
    end_us = given.time_us(p.END, now_us)
    # What is recorded at this moment has been heard of; a vendor's clock may be ahead of ours.
    end_us = LATEST_US if end_us is None else end_us
    start_us = EARLIEST_US if start_us is None else start_us
    if start_us >= end_us:
        raise BadParameter("start", "start must lie before end")
    return TimeRange(start_us, end_us)


def make_cursor(question: TickQuestion, provider: str, place: TickPlace) -> str:
    """The question of the next page, of that provider. Not secret; not trusted when it returns."""
    content = [
        _CURSOR_VERSION, question.kind, question.symbol, provider, question.range.start_us, question.range.end_us,
        question.limit, place.time_us, place.commit_id, place.given,
    ]  # fmt: skip
    return base64.urlsafe_b64encode(orjson.dumps(content)).rstrip(b"=").decode()


def _from_cursor(text: str, kind: str, symbol: str, provider: str | None) -> TickQuestion:
    try:
        if len(text) > p.MAX_CURSOR:
            raise BadParameter("cursor", _NOT_OURS)
        padded = text.encode("ascii") + b"=" * (-len(text) % 4)
        version, own_kind, own_symbol, own_provider, *numbers = orjson.loads(
            base64.b64decode(padded, altchars=b"-_", validate=True)
        )
        start_us, end_us, limit, time_us, commit_id, given = map(_whole, numbers)
        if version != _CURSOR_VERSION or own_kind != kind:
            raise BadParameter("cursor", _NOT_OURS)
        question = TickQuestion(
            kind=kind,
            symbol=p.SYMBOL.read(own_symbol),
            range=TimeRange(_instant(start_us), _instant(end_us)),
            limit=p.TICKS_LIMIT.read(str(limit)),
            provider=p.RECORDED_FROM.read(own_provider),
            after=TickPlace(_instant(time_us), commit_id, given),
        )
    except (ValueError, TypeError, BadParameter, binascii.Error) as exc:
        raise BadParameter("cursor", _NOT_OURS) from exc
    if question.symbol != symbol or provider not in (None, question.provider):
        raise BadParameter("cursor", f"belongs to another question, about {question.symbol}")
    return question


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not -(2**62) < value < 2**62:
        raise ValueError(value)
    return value


def _instant(at_us: int) -> int:
    if not EARLIEST_US <= at_us <= LATEST_US:
        raise ValueError(at_us)
    return at_us


def after_page(question: TickQuestion, time_us: int, commit_id: int, alike: int) -> TickPlace:
    """Where a page ended whose last `alike` rows are of that instant and commit."""
    before = question.after
    is_same = before is not None and (before.time_us, before.commit_id) == (time_us, commit_id)
    place = TickPlace(time_us, commit_id, alike)
    return replace(place, given=before.given + alike) if is_same and before is not None else place
