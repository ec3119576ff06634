"""A query string or a JSON body -> a question, with an error that names the parameter for everything that is wrong."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import orjson

from timebase.api import parameters as p
from timebase.api.exchange import JSON, Asked
from timebase.api.faults import UnsupportedMedia
from timebase.api.negotiate import Form, choose_form
from timebase.api.parameters import Parameter
from timebase.api.times import EARLIEST_US, LATEST_US, enough_us, parse_time, snap, usual_us
from timebase.errors import BadBody, BadParameter
from timebase.model.demand import Question
from timebase.model.instrument import classify
from timebase.model.interval import Interval
from timebase.model.timerange import TimeRange

T = TypeVar("T")
_MAX_FIELDS = 32
_CURSOR_VERSION = 1

RANGE = (p.INTERVAL, p.START, p.END)
DATA = (*RANGE, p.LIMIT, p.ADJUST, p.AS_OF, p.REFRESH, p.FORMAT, p.TIME_UNIT, p.CURSOR)
DATA_OF_ANY = (*DATA[:4], p.PROVIDER, *DATA[4:])
BACKFILL = (p.SYMBOL, *RANGE, p.PROVIDER, p.REFRESH)


@dataclass(frozen=True, slots=True)
class DataAsked:
    question: Question
    form: Form


class Given:
    """The values that came with a request, each looked up by its parameter."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts

    def get(self, parameter: Parameter[T]) -> T | None:
        text = self._texts.get(parameter.name)
        return None if text is None else parameter.read(text)

    def time_us(self, parameter: Parameter[str], now_us: int) -> int | None:
        text = self._texts.get(parameter.name)
        try:
            return None if text is None else parse_time(text, now_us)
        except ValueError as exc:
            raise BadParameter(parameter.name, str(exc)) from exc


def parse_query(query: bytes, known: Sequence[Parameter[Any]]) -> Given:
    """Raises: BadParameter for a parameter that is not known here, given twice, or not text."""
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS)
    except ValueError as exc:
        raise BadParameter("query", f"the query string cannot be read: {exc}") from exc
    texts: dict[str, str] = {}
    names = [parameter.name for parameter in known]
    for name, text in pairs:
        if name not in names:
            raise _unknown(name, names)
        if name in texts:
            raise BadParameter(name, "is given twice")
        if "\0" in text:
            raise BadParameter(name, "holds a NUL character")
        texts[name] = text
    return Given(texts)


_TEXTS = frozenset({p.SYMBOL.name, p.PROVIDER.name, p.INTERVAL.name})  # no number is one of these by chance


def parse_body(body: bytes, known: Sequence[Parameter[Any]]) -> Given:
    """The same from a JSON object; null is as good as nothing."""
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        raise BadBody(f"the body is not JSON: {exc}") from exc
    if not isinstance(content, dict):
        raise BadBody('the body is not a JSON object; write it like {"symbol": "AAPL", "interval": "1d"}')
    names = [parameter.name for parameter in known]
    texts: dict[str, str] = {}
    for name, value in content.items():
        if name not in names:
            raise _unknown(name, names)
        if name in _TEXTS and not isinstance(value, str | None):
            raise BadParameter(name, "write a text")
        if isinstance(value, bool):
            texts[name] = "true" if value else "false"
        elif isinstance(value, str | int | float) and "\0" not in str(value):
            texts[name] = str(value)
        elif value is not None:
            raise BadParameter(name, "write a text or a number")
    return Given(texts)


def require_json(asked: Asked) -> None:
    """Raises: UnsupportedMedia for a body that says it is something else."""
    media = asked.headers.get("content-type", JSON).partition(";")[0].strip().lower()
    if media != JSON:
        raise UnsupportedMedia(f"{media or 'nothing'} is not {JSON}; send it with Content-Type: {JSON}")


def parse_data(asked: Asked, *, now_us: int, max_bars: int) -> DataAsked:
    """The question of GET …/data/{symbol}, whether the provider is in the path, in the query or left to us."""
    symbol = p.SYMBOL.read(asked.in_path["symbol"])
    slug = asked.in_path.get("slug")
    given = parse_query(asked.query, DATA_OF_ANY if slug is None else DATA)
    provider = given.get(p.PROVIDER) if slug is None else p.SLUG.read(slug)
    form = choose_form(given.get(p.FORMAT), given.get(p.TIME_UNIT), asked.headers.get("accept", ""))
    cursor = given.get(p.CURSOR)
    if cursor is not None:
        return DataAsked(_from_cursor(cursor, symbol, provider, max_bars), form)
    limit = given.get(p.LIMIT)
    is_newest = limit is not None and given.get(p.START) is None
    question = Question(
        symbol=symbol,
        interval=given.get(p.INTERVAL) or Interval.D1,
        range=_range(given, symbol, now_us, limit),
        limit=max_bars if limit is None else min(limit, max_bars),
        keep="newest" if is_newest else "oldest",
        adjust=given.get(p.ADJUST) or "raw",
        provider=provider,
        as_of_us=given.time_us(p.AS_OF, now_us),
        refresh=given.get(p.REFRESH) == "true",
    )
    return DataAsked(question, form)


def parse_range(asked: Asked, *, now_us: int, known: Sequence[Parameter[Any]]) -> Question:
    """A question about a range of a symbol in the path, for who only wants to know about it (explain)."""
    symbol = p.SYMBOL.read(asked.in_path["symbol"])
    given = parse_query(asked.query, known)
    return _question(given, symbol, now_us)


def parse_backfill(asked: Asked, *, now_us: int) -> Question:
    given = parse_body(asked.body, BACKFILL)
    symbol = given.get(p.SYMBOL)
    if symbol is None:
        raise BadParameter("symbol", "is missing")
    return replace(_question(given, symbol, now_us), refresh=given.get(p.REFRESH) == "true")


def make_cursor(question: Question, next_start_us: int) -> str:
    """The question of the next page, self-contained and opaque. Not secret; not trusted when it returns."""
    content = [
        _CURSOR_VERSION, question.symbol, question.interval.value, next_start_us, question.range.end_us, question.limit,
        question.adjust, question.provider, question.as_of_us, question.refresh,
    ]  # fmt: skip
    return base64.urlsafe_b64encode(orjson.dumps(content)).rstrip(b"=").decode()


def _question(given: Given, symbol: str, now_us: int) -> Question:
    return Question(
        symbol=symbol,
        interval=given.get(p.INTERVAL) or Interval.D1,
        range=_range(given, symbol, now_us, None),
        provider=given.get(p.PROVIDER),
    )


def _range(given: Given, symbol: str, now_us: int, limit: int | None) -> TimeRange:
    interval = given.get(p.INTERVAL) or Interval.D1
    end_us = given.time_us(p.END, now_us)
    end_us = snap(now_us if end_us is None else end_us, interval)
    start_us = given.time_us(p.START, now_us)
    if start_us is None:
        back_us = usual_us(interval)
        if limit is not None:
            back_us = max(back_us, enough_us(interval, limit, classify(symbol)))
        start_us = max(end_us - back_us, EARLIEST_US)
    start_us = snap(start_us, interval)
    if start_us >= end_us:
        raise BadParameter("start", f"no {interval.value} bar opens in [start, end): start must lie before end")
    return TimeRange(start_us, end_us)


def _from_cursor(text: str, symbol: str, provider: str | None, max_bars: int) -> Question:
    problem = "is not a cursor of ours; take `next` of the page before as it is"
    try:
        padded = text.encode("ascii") + b"=" * (-len(text) % 4)
        if len(text) > p.MAX_CURSOR:
            raise BadParameter("cursor", problem)
        version, own, interval, start_us, end_us, limit, adjust, own_provider, as_of_us, refresh = orjson.loads(
            base64.b64decode(padded, altchars=b"-_", validate=True)
        )
        if version != _CURSOR_VERSION or not isinstance(refresh, bool) or adjust not in p.ADJUST.allowed:
            raise BadParameter("cursor", problem)
        question = Question(
            symbol=p.SYMBOL.read(own),
            interval=Interval(interval),
            range=TimeRange(_instant(start_us), _instant(end_us)),
            limit=min(p.LIMIT.read(str(limit)), max_bars),
            adjust=adjust,
            provider=None if own_provider is None else p.PROVIDER.read(own_provider),
            as_of_us=None if as_of_us is None else _instant(as_of_us),
            refresh=refresh,
        )
    except (ValueError, TypeError, BadParameter, binascii.Error) as exc:
        raise BadParameter("cursor", problem) from exc
    if question.symbol != symbol or (provider is not None and question.provider != provider):
        raise BadParameter("cursor", f"belongs to another question, about {question.symbol}")
    return question


def _instant(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not EARLIEST_US <= value <= LATEST_US:
        raise ValueError(value)
    return value


def _unknown(name: str, known: Sequence[str]) -> BadParameter:
    near = get_close_matches(name, known, n=2)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return BadParameter(name[:64], f"there is no such parameter here{hint}", known)
