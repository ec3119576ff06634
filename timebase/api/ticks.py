"""GET /trades/{symbol}, GET /quotes/{symbol}: what was recorded live, and when. GET /trades/{symbol}/bars: made of it.

Nobody is asked for what was not recorded.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import quote

import msgpack
import numpy as np
import orjson
import trio
from numpy.typing import NDArray

from timebase.api import tick_render
from timebase.api.data import HEADER_BYTES, INLINE_BARS, ascii_json
from timebase.api.exchange import Asked, Desk, Reply, dumps
from timebase.api.negotiate import Form
from timebase.api.symbols import find_instrument
from timebase.api.tape_question import TapeQuestion, parse_tape_bars
from timebase.api.tick_question import QUERY, TickQuestion, after_page, make_cursor, parse_ticks
from timebase.clock import now_us
from timebase.errors import BadParameter
from timebase.history.tape_bars import tape_bars
from timebase.model.cut import By
from timebase.model.receipt import Attempt
from timebase.model.series import TickSeries
from timebase.model.ticks import Quotes, Trades
from timebase.model.timerange import SECOND_US, Ranges

__all__ = ["QUERY", "get_quotes", "get_tape_bars", "get_trades"]

_NOTHING = Ranges()


@dataclass(frozen=True, slots=True)
class _Found:
    """What is recorded of a question: one page of one provider's tape, and what is said about it."""

    question: TickQuestion
    ticks: tick_render.Ticks
    provider: str | None = None
    recorded: Ranges = _NOTHING
    others: Sequence[str] = ()
    next: str | None = None
    bars: TapeQuestion | None = None  # what the bars that were made of the trades are

    @property
    def warnings(self) -> Sequence[str]:
        if self.provider is not None:
            return ()
        question = self.question
        return (f"nothing was recorded in that range; whoever follows {question.kind}:{question.symbol} records it",)


async def get_trades(desk: Desk, asked: Asked, _: list[Attempt]) -> Reply:
    return await _get(desk, asked, "trades")


async def get_quotes(desk: Desk, asked: Asked, _: list[Attempt]) -> Reply:
    return await _get(desk, asked, "quotes")


async def get_tape_bars(desk: Desk, asked: Asked, _: list[Attempt]) -> Reply:
    """Raises: RequestError, StoreUnavailable."""
    question, form = parse_tape_bars(asked, now_us())
    found = await _find(desk, question.tape)
    made = await trio.to_thread.run_sync(_made, found, question, limiter=desk.render_threads)
    return await _reply(desk, asked, made, form)


def _made(found: _Found, question: TapeQuestion) -> _Found:
    assert isinstance(found.ticks, Trades)
    bars = tape_bars(
        found.ticks, question.cut, limit=question.limit, until_us=question.until_us, is_whole=found.next is None
    )
    if found.next is not None and not len(bars):
        raise BadParameter("every", f"{len(found.ticks):,} trades do not fill a bar; ask for smaller ones")
    next_ = None if bars.next_us is None else str(tick_render.instant(bars.next_us, "iso"))
    return replace(found, ticks=bars, next=next_, bars=question)


async def _get(desk: Desk, asked: Asked, kind: str) -> Reply:
    """Raises: RequestError, StoreUnavailable."""
    question, form = parse_ticks(asked, kind, now_us())
    return await _reply(desk, asked, await _find(desk, question), form)


async def _reply(desk: Desk, asked: Asked, found: _Found, form: Form) -> Reply:
    headers = [("cache-control", "private, no-cache"), ("vary", "accept")]
    if found.next is not None and found.bars is None:
        headers.append(("link", _link(asked, found.next, form)))
    if form.format.name not in {"json", "rows", "msgpack"}:
        headers.append(("timebase-meta", _header(found, form.times or "iso")))
    return Reply(200, await _body(desk, found, form), form.format.media, tuple(headers), form.format.is_text)


def _link(asked: Asked, cursor: str, form: Form) -> str:
    more = f"&format={form.format.name}" + (f"&times={form.times}" if form.times else "")
    return f'<{quote(asked.path)}?cursor={cursor}{more}>; rel="next"'


async def _find(desk: Desk, question: TickQuestion) -> _Found:
    instrument = await find_instrument(desk, question.symbol)
    nothing: Trades | Quotes = Trades.empty() if question.kind == "trades" else Quotes.empty()
    known = await desk.services.store.tick_series_of(instrument.id, question.kind) if instrument.id else ()
    newest = {series: await desk.services.store.newest_tick_us(series, question.range) for series in known}
    with_some = {series: at_us for series, at_us in newest.items() if at_us is not None}
    wanted = [series for series in with_some if question.provider in (None, series.provider)]
    if not wanted:
        return _Found(question, nothing, others=_slugs(with_some))
    series = max(wanted, key=lambda each: with_some[each])
    return await _page(desk, question, series, [slug for slug in _slugs(with_some) if slug != series.provider])


def _slugs(series: Mapping[TickSeries, int]) -> list[str]:
    return sorted(each.provider for each in series)


async def _page(desk: Desk, question: TickQuestion, series: TickSeries, others: Sequence[str]) -> _Found:
    """One row more than the limit is read, which tells whether there are more."""
    store, limit = desk.services.store, question.limit
    more = {"limit": limit + 1, "newest_first": question.is_newest, "after": question.after}
    ticks: Trades | Quotes
    if question.kind == "trades":
        ticks, commit_ids = await store.read_trades(series, question.range, **more)  # type: ignore[arg-type]
    else:
        ticks, commit_ids = await store.read_quotes(series, question.range, **more)  # type: ignore[arg-type]
    next_ = None
    if len(ticks) > limit:
        kept = slice(1, None) if question.is_newest else slice(limit)
        ticks, commit_ids = ticks.pick(kept), commit_ids[kept]
        next_ = None if question.is_newest else _cursor(question, series, ticks.time, commit_ids)
    recorded = await store.recorded(series, question.range)
    return _Found(question, ticks, series.provider, recorded, others, next_)


def _cursor(question: TickQuestion, series: TickSeries, time: NDArray[np.int64], commit_ids: NDArray[np.int64]) -> str:
    is_alike = (time == time[-1]) & (commit_ids == commit_ids[-1])
    place = after_page(question, int(time[-1]), int(commit_ids[-1]), int(is_alike.sum()))
    return make_cursor(question, series.provider, place)


async def _body(desk: Desk, found: _Found, form: Form) -> bytes:
    if len(found.ticks) <= INLINE_BARS:
        return _rendered(found, form)
    return await trio.to_thread.run_sync(_rendered, found, form, limiter=desk.render_threads)


def _rendered(found: _Found, form: Form) -> bytes:
    kind = found.question.kind if found.bars is None else "bars"
    names = {"symbol": found.question.symbol, "provider": found.provider}
    body = tick_render.render(found.ticks, form, {"timebase": dumps(names).decode()})
    said = {"meta": _meta(found, form.times or "ms"), "warnings": found.warnings, _onward(found): found.next}
    if form.format.name == "msgpack":
        tail = orjson.loads(dumps({"dtypes": tick_render.dtypes(found.ticks), **said}))
        opening = msgpack.Packer().pack_map_header(len(names) + 1 + len(tail))
        return b"".join((opening, *_packed(names), msgpack.packb(kind), body, *_packed(tail)))
    if form.format.name in {"json", "rows"}:
        return b"".join((dumps(names)[:-1], b',"%s":' % kind.encode(), body, b",", dumps(said)[1:]))
    return body


def _packed(content: Mapping[str, object]) -> list[bytes]:
    return [msgpack.packb(piece) for pair in content.items() for piece in pair]


def _meta(found: _Found, times: str) -> dict[str, object]:
    recorded = [[tick_render.instant(at_us, times) for at_us in (r.start_us, r.end_us)] for r in found.recorded.parts]
    meta: dict[str, object] = {"source": "recorded", "recorded": recorded, "others": found.others}
    if found.bars is not None:
        cut = found.bars.cut
        meta |= {"by": cut.by, "every": cut.every / SECOND_US if cut.by is By.TIME else cut.every}
    return meta


def _onward(found: _Found) -> str:
    """Ticks go on by cursor; bars from an instant, which is as good a beginning as the first."""
    return "next" if found.bars is None else "next_start"


def _header(found: _Found, times: str) -> str:
    """For formats without a place for it, as ASCII JSON of bounded size."""
    content = {
        "symbol": found.question.symbol, "provider": found.provider, "meta": _meta(found, times),
        "warnings": found.warnings, _onward(found): found.next,
    }  # fmt: skip
    header = ascii_json(content)
    if len(header) > HEADER_BYTES:
        warnings = ["there is more to say than a header holds; ask with format=json"]
        header = ascii_json({**content, "meta": {"source": "recorded"}, "warnings": warnings})
    return header
