"""GET /data/{symbol} and GET /providers/{slug}/data/{symbol}: bars, and everything said about them."""

import re
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from hashlib import blake2b
from urllib.parse import quote

import msgpack
import orjson
import trio

from timebase.api import render
from timebase.api.exchange import Asked, Desk, Pieces, Reply, dumps
from timebase.api.negotiate import Form
from timebase.api.parse import make_cursor, parse_data
from timebase.clock import now_us
from timebase.history.answer import Answer
from timebase.model.bars import Bars
from timebase.model.receipt import Attempt

HEADER_BYTES = 4_096  # of TimeBase-Meta; proxies and clients refuse more than 8 or 16 KiB of headers in all
INLINE_BARS = 8_192  # more than so many are rendered in a thread where that takes milliseconds
_IN_THREADS = frozenset({"rows", "ndjson", "csv", "parquet"})
_NOT_PLAIN = re.compile("[^ -~]")  # what a header may not hold, and JSON leaves as it is
_ENVELOPED = frozenset({"json", "rows", "msgpack"})


async def get_data(desk: Desk, asked: Asked, attempts: list[Attempt]) -> Reply:
    """Raises: RequestError, AllProvidersFailed, StoreUnavailable."""
    wanted = parse_data(asked, now_us=now_us(), max_bars=desk.settings.max_bars)
    answer = await desk.services.answer(wanted.question, attempts)
    page = _Page(answer, wanted.form)
    etag = await page.etag(desk)
    headers = [("etag", etag), ("cache-control", "private, no-cache"), ("vary", "accept"), *page.links(asked)]
    if _matches(asked.headers.get("if-none-match", ""), etag):
        return Reply(304, headers=tuple(headers))
    if wanted.form.format.name not in _ENVELOPED:
        headers.append(("timebase-meta", page.meta_header()))
    form = wanted.form.format
    return Reply(200, await page.body(desk), form.media, tuple(headers), form.is_text)


class _Page:
    """One answer on its way into one form."""

    def __init__(self, answer: Answer, form: Form) -> None:
        self._answer = answer
        self._form = form
        self._loaded: Bars | None = None
        self._times = form.times or "ms"
        has_more = answer.next_start_us is not None
        self._next = make_cursor(answer.question, answer.next_start_us) if has_more else None  # type: ignore[arg-type]

    async def etag(self, desk: Desk) -> str:
        """Of what the client would act on: bars, their receipt, not how we came by them."""
        key = (self._answer.version, "fingerprint")
        print_ = desk.render_cache.get(key)
        if print_ is None:
            print_ = render.fingerprint(await self._bars())
            desk.render_cache.put(key, print_, 256)
        said = (
            self._form.format.name, self._form.times, self._answer.series.provider, self._next, self._coverage(),
            self._answer.adjustment, self._answer.warnings, self._answer.freshness.is_stale,
            self._answer.resampled_from,
        )  # fmt: skip
        return f'W/"{blake2b(print_ + dumps(said), digest_size=12).hexdigest()}"'

    def links(self, asked: Asked) -> Sequence[tuple[str, str]]:
        if self._next is None:
            return ()
        form = f"&format={self._form.format.name}" + (f"&times={self._form.times}" if self._form.times else "")
        return (("link", f'<{quote(asked.path)}?cursor={self._next}{form}>; rel="next"'),)

    async def body(self, desk: Desk) -> bytes | Pieces:
        """Whole, from the cache if it is there; as pieces when it is too long to be kept."""
        key = (self._answer.version, self._form.format.name, self._form.times)
        kept = desk.render_cache.get(key)
        if kept is None:
            bars = await self._bars()
            if len(bars) > render.PIECE and self._form.format.name != "parquet":
                return self._long_body(desk, bars)
            kept = await self._render(desk, bars)
            if len(bars) <= render.PIECE:
                desk.render_cache.put(key, kept, len(kept))
        head, tail = self._head(), self._tail()
        return b"".join((head, kept, tail)) if head or tail else kept

    async def _bars(self) -> Bars:
        """Loaded once: they may be too many to be kept anywhere."""
        if self._loaded is None:
            self._loaded = await self._answer.load()
        return self._loaded

    async def _render(self, desk: Desk, bars: Bars) -> bytes:
        parts = render.pieces(bars, self._form, self._receipt())
        if len(bars) > INLINE_BARS and self._form.format.name in _IN_THREADS:
            return await trio.to_thread.run_sync(b"".join, parts, limiter=desk.render_threads)
        return b"".join(parts)

    def _long_body(self, desk: Desk, bars: Bars) -> Pieces:
        head, tail = self._head(), self._tail()

        async def make() -> AsyncGenerator[bytes | memoryview]:
            parts = render.pieces(bars, self._form, self._receipt())
            if head:
                yield head
            while (part := await self._next_part(desk, parts)) is not None:
                yield part
            if tail:
                yield tail

        return Pieces(make, self._known_length(bars, len(head) + len(tail)))

    async def _next_part(self, desk: Desk, parts: Iterator[bytes | memoryview]) -> bytes | memoryview | None:
        if self._form.format.name in _IN_THREADS:
            return await trio.to_thread.run_sync(next, parts, None, limiter=desk.render_threads)
        return next(parts, None)

    def _known_length(self, bars: Bars, around: int) -> int | None:
        """Of formats that are rendered by pointing at memory, so that asking for the length costs nothing."""
        if self._form.format.name in {"arrow", "arrow-stream", "msgpack"}:
            return around + sum(len(part) for part in render.pieces(bars, self._form, self._receipt()))
        return None

    # --- what is said around the bars ---

    def meta_header(self) -> str:
        """For formats without a place for it: the reply without its bars, as ASCII JSON of bounded size."""
        content = {**self._names(), "meta": self._meta(), "warnings": self._answer.warnings, "next": self._next}
        header = ascii_json(content)
        if len(header) > HEADER_BYTES:
            meta = {**self._meta(), "attempts": [], "adjustment": {"mode": self._answer.question.adjust}}
            meta["coverage"] = {"complete": self._answer.is_complete, "missing": []}
            warnings = ["there is more to say than a header holds; ask with format=json"]
            header = ascii_json({**content, "meta": meta, "warnings": warnings})
        return header

    def _head(self) -> bytes:
        if self._form.format.name == "msgpack":
            opening = b"\x88"  # a map of eight
            return opening + b"".join(map(_pack, _flat(self._names()))) + _pack("bars")
        if self._form.format.name in _ENVELOPED:
            return dumps(self._names())[:-1] + b',"bars":'
        return b""

    def _tail(self) -> bytes:
        said = {"meta": self._meta(), "warnings": self._answer.warnings, "next": self._next}
        if self._form.format.name == "msgpack":
            plain = orjson.loads(dumps(said))
            return b"".join(map(_pack, _flat({"dtypes": render.DTYPES, **plain})))
        return b"," + dumps(said)[1:] if self._form.format.name in _ENVELOPED else b""

    def _names(self) -> dict[str, object]:
        series, interval = self._answer.series, self._answer.question.interval
        return {"symbol": series.symbol, "interval": interval.value, "provider": series.provider}

    def _meta(self) -> dict[str, object]:
        answer = self._answer
        return {
            "source": answer.source,
            "resampled_from": answer.resampled_from,
            "attempts": answer.attempts,
            "coverage": self._coverage(),
            "freshness": {
                "checked_at": self._instant(answer.freshness.checked_us),
                "fresh_until": self._instant(answer.freshness.fresh_until_us),
                "is_stale": answer.freshness.is_stale,
            },
            "adjustment": answer.adjustment,
        }

    def _coverage(self) -> dict[str, object]:
        missing = [
            [self._instant(each.range.start_us), self._instant(each.range.end_us), each.why]
            for each in self._answer.missing
        ]
        return {"complete": self._answer.is_complete, "missing": missing}

    def _receipt(self) -> Mapping[str, str]:
        """What is true of the bars whenever they are read, for the files that can carry it."""
        answer = self._answer
        said = {**self._names(), "adjustment": answer.adjustment, "resampled_from": answer.resampled_from}
        return {"timebase": dumps(said).decode()}

    def _instant(self, at_us: int | None) -> int | str | None:
        return None if at_us is None else render.instant(at_us, self._times)


def _matches(if_none_match: str, etag: str) -> bool:
    """Weakly, as RFC 9110 (13.1.2) has it for If-None-Match."""
    if not if_none_match:
        return False
    opaque = etag.removeprefix("W/")
    return any(each.strip().removeprefix("W/") in {opaque, "*"} for each in if_none_match.split(","))


def ascii_json(content: object) -> str:
    return _NOT_PLAIN.sub(_escaped, dumps(content).decode())


def _escaped(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def _flat(content: Mapping[str, object]) -> list[object]:
    return [piece for pair in content.items() for piece in pair]


def _pack(value: object) -> bytes:
    packed = msgpack.packb(value)
    assert isinstance(packed, bytes)
    return packed
