"""store -> [reader] -> bars as the client wants them: adjusted, resampled, cut to the limit, with their version."""

from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import trio

from timebase.history.adjust import Factor, adjust, applicable, begins_us, factor
from timebase.history.answer import Missing
from timebase.history.cover import Head, align
from timebase.history.resample import periods, pieces, resample
from timebase.model.bars import Bars
from timebase.model.demand import MAX_BARS, Question
from timebase.model.instrument import CorporateAction
from timebase.model.lru import ByteLru
from timebase.model.series import Series
from timebase.model.timerange import DAY_US, Ranges, TimeRange, to_datetime
from timebase.storage.coverage import Coverage
from timebase.storage.store import Store

INLINE_BARS = 16_384  # 1 ms of resampling; more is done in a thread
BEFORE_EX_DATE_US = 14 * DAY_US  # the last close before an ex-date is looked for this far back: the longest closures


@dataclass(frozen=True, slots=True)
class Reading:
    """What a question reads from one series, and the way to read it again. Equal versions have equal bars.

    `reload`: from memory while they are there, also when the database is away.
    """

    version: Hashable
    reload: Callable[[], Awaitable[Bars]]
    bars: Bars
    next_start_us: int | None
    adjustment: Mapping[str, object]
    warnings: tuple[str, ...]


class Reader:
    def __init__(self, store: Store, cache: ByteLru[Hashable, Bars]) -> None:
        self._store = store
        self._cache = cache

    def generation(self, question: Question, series: Series) -> Hashable:
        """Equal ones: neither the bars have changed since, nor what they are adjusted by."""
        actions = 0 if question.adjust == "raw" else self._store.actions_generation(series.instrument_id)
        return (self._store.generation(series.id), actions)

    async def read(self, question: Question, series: Series, *, timezone: str, known_us: int) -> Reading:
        """From a series of a finer interval its bars are made: see resample.py.

        `timezone` is the instrument's, where it is known; `known_us`: when the bars were known.
        Raises: StoreUnavailable.
        """
        if series.interval is not question.interval:
            return await self._read_finer(question, series, timezone, known_us)
        generation = self.generation(question, series)
        raw_key = (
            series.id,
            self._store.generation(series.id),
            question.range,
            question.limit,
            question.keep,
            question.as_of_us,
        )
        raw = await self._raw(raw_key, question, series)
        kept = _cut(raw, question)
        is_cut = len(kept) < len(raw)
        next_start_us = int(raw.time[len(kept)]) if is_cut and question.keep == "oldest" else None
        factors, warnings = await self._factors(question, series, timezone, int(kept.time[0]) if len(kept) else None)
        return Reading(
            version=(raw_key, question.adjust, timezone, generation),
            reload=partial(self._reread, raw_key, factors, question, series),
            bars=adjust(kept, factors),
            next_start_us=next_start_us,
            adjustment=_fact(question.adjust, factors),
            warnings=warnings,
        )

    async def _reread(self, raw_key: Hashable, factors: Sequence[Factor], question: Question, series: Series) -> Bars:
        return adjust(_cut(await self._raw(raw_key, question, series), question), factors)

    async def _read_finer(self, question: Question, series: Series, timezone: str, known_us: int) -> Reading:
        whole = periods(question.range, question.interval)
        forming_us = min(question.interval.floor_us(known_us), whole.end_us)
        generation = self.generation(question, series)
        key = (
            series.id,
            self._store.generation(series.id),
            question.interval,
            forming_us,
            question.range,
            question.limit,
            question.keep,
            question.as_of_us,
            question.adjust,
            timezone,
            generation,
        )
        factors, warnings = await self._factors(question, series, timezone, whole.start_us)
        made = await self._resampled(key, factors, question, series, forming_us)
        kept = _cut(made, question)
        is_cut = len(kept) < len(made)
        felt = [each for each in factors if len(kept) and each.from_us > kept.time[0]]
        return Reading(
            version=key,
            reload=partial(self._remake, key, factors, question, series, forming_us),
            bars=kept,
            next_start_us=int(made.time[len(kept)]) if is_cut and question.keep == "oldest" else None,
            adjustment=_fact(question.adjust, felt),
            warnings=(*warnings, *await self._split_bars(question, series, timezone, kept)),
        )

    async def _remake(
        self, key: Hashable, factors: Sequence[Factor], question: Question, series: Series, forming_us: int
    ) -> Bars:
        return _cut(await self._resampled(key, factors, question, series, forming_us), question)

    async def _resampled(
        self, key: Hashable, factors: Sequence[Factor], question: Question, series: Series, forming_us: int
    ) -> Bars:
        """One bar more than the limit, at least, where there are more.

        Order: adjusted first. A split inside a period would otherwise leave prices of both sides in one bar.
        """
        made = self._cache.get(key)
        if made is not None:
            return made
        to, newest_first = question.interval, question.keep == "newest"
        parts: list[Bars] = []
        whole = periods(question.range, to)

        def make(raw: Bars) -> Bars:
            return resample(adjust(raw, factors), to, forming_us).within(question.range.start_us, question.range.end_us)

        for piece in pieces(whole, to, series.interval, newest_first=newest_first):
            raw = await self._store.read(series, piece, as_of_us=question.as_of_us)
            parts.append(await trio.to_thread.run_sync(make, raw) if len(raw) > INLINE_BARS else make(raw))
            if sum(map(len, parts)) > _limit(question):
                break
        made = Bars.concat(reversed(parts) if newest_first else parts)
        self._cache.put(key, made, made.nbytes)
        return made

    async def _split_bars(self, question: Question, series: Series, timezone: str, bars: Bars) -> Sequence[str]:
        """Warnings of bars whose raw prices are of both sides of a split."""
        if question.adjust in ("splits", "all") or not len(bars):
            return ()
        found = []
        for action in applicable(await self._store.actions(series.instrument_id, series.provider), "splits"):
            from_us = begins_us(action, series.interval, timezone)
            open_us = question.interval.floor_us(from_us)
            if open_us < from_us and open_us in bars.time:
                day, opens = to_datetime(action.ex_date_us).date(), to_datetime(open_us).isoformat()
                found.append(f"a split on {day} is inside the bar of {opens}: ask with adjust=splits")
        return found

    def missing(
        self,
        question: Question,
        series: Series,
        coverage: Coverage,
        nameless: Ranges,
        head: Head | None,
        now_us: int,
    ) -> list[Missing]:
        """What the ledger says the answer lacks, oldest first. What was asked for just now is young, not missing."""
        whole = align(question.range, series.interval, now_us)
        if whole is None:
            return []
        asked = Ranges((whole,))
        found = [Missing(r, "the validator refused its bars; see quarantine") for r in (coverage.refused & asked).parts]
        found += [Missing(part, _nameless(series)) for part in (nameless & asked).parts]
        for part in (asked - coverage.settled - nameless - (head.rested(now_us) if head else Ranges())).parts:
            one = Ranges((part,))
            why = "failed" if coverage.failed & one else "partial" if coverage.partial & one else "not fetched"
            found.append(Missing(part, why))
        return sorted(found, key=lambda m: m.range)

    async def _raw(self, key: Hashable, question: Question, series: Series) -> Bars:
        """One bar more than the limit, which tells whether there are more."""
        raw = self._cache.get(key)
        if raw is None:
            raw = await self._store.read(
                series,
                question.range,
                limit=_limit(question) + 1,
                newest_first=question.keep == "newest",
                as_of_us=question.as_of_us,
            )
            self._cache.put(key, raw, raw.nbytes)
        return raw

    async def _factors(
        self, question: Question, series: Series, timezone: str, first_us: int | None
    ) -> tuple[list[Factor], tuple[str, ...]]:
        """For bars from `first_us` on; None: there are none."""
        if question.adjust == "raw" or first_us is None:
            return [], ()
        known = await self._store.actions(series.instrument_id, series.provider)
        factors: list[Factor] = []
        skipped: list[CorporateAction] = []
        for action in applicable(known, question.adjust):
            from_us = begins_us(action, series.interval, timezone)
            if from_us > first_us:
                made = factor(action, await self._close_before(action, series, from_us), from_us)
                factors += [made] if made else []
                skipped += [] if made else [action]
        warnings = (f"{len(skipped)} dividends are not applied: no close before their ex-date",) if skipped else ()
        return factors, warnings

    async def _close_before(self, action: CorporateAction, series: Series, from_us: int) -> float | None:
        if action.kind != "dividend":
            return None
        before = TimeRange(from_us - BEFORE_EX_DATE_US, from_us)
        last = await self._store.read(series, before, limit=1, newest_first=True)
        return float(last.close[-1]) if len(last) else None


def _nameless(series: Series) -> str:
    return f"no symbol of {series.provider} means this {series.symbol} then; see `aliases` in the configuration"


def _limit(question: Question) -> int:
    return min(question.limit or MAX_BARS, MAX_BARS)


def _cut(raw: Bars, question: Question) -> Bars:
    limit = _limit(question)
    if len(raw) <= limit:
        return raw
    return raw.pick(slice(len(raw) - limit, None) if question.keep == "newest" else slice(limit))


def _fact(which: str, factors: Sequence[Factor]) -> Mapping[str, object]:
    return {"mode": which, "applied": [each.as_fact() for each in factors]}
