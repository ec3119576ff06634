"""store -> [reader] -> bars as the client wants them: cut to the limit, adjusted, with their version."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from timebase.history.adjust import Factor, adjust, applicable, factor
from timebase.history.answer import Missing
from timebase.history.cover import Head, align
from timebase.model.bars import Bars
from timebase.model.demand import Question
from timebase.model.instrument import CorporateAction
from timebase.model.lru import ByteLru
from timebase.model.series import Series
from timebase.model.timerange import DAY_US, Ranges, TimeRange
from timebase.storage.coverage import Coverage
from timebase.storage.store import Store

MAX_BARS = 1_000_000  # a range is answered whole up to this many bars, beyond by cursor
BEFORE_EX_DATE_US = 14 * DAY_US  # the last close before an ex-date is looked for this far back: the longest closures


@dataclass(frozen=True, slots=True)
class Reading:
    """What a question reads from one series, and the way to read it again. Equal versions have equal bars."""

    version: Hashable
    raw_key: Hashable
    factors: Sequence[Factor]
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

    async def read(self, question: Question, series: Series) -> Reading:
        """Raises: StoreUnavailable."""
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
        factors, warnings = await self._factors(question, series, kept)
        return Reading(
            version=(raw_key, question.adjust, generation),
            raw_key=raw_key,
            factors=factors,
            bars=adjust(kept, factors),
            next_start_us=next_start_us,
            adjustment=_fact(question.adjust, factors),
            warnings=warnings,
        )

    async def reread(self, raw_key: Hashable, factors: Sequence[Factor], question: Question, series: Series) -> Bars:
        """The bars of an earlier reading: from memory while they are there, also when the database is away."""
        return adjust(_cut(await self._raw(raw_key, question, series), question), factors)

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

    async def _factors(self, question: Question, series: Series, bars: Bars) -> tuple[list[Factor], tuple[str, ...]]:
        if question.adjust == "raw" or not len(bars):
            return [], ()
        first_us = int(bars.time[0])
        known = await self._store.actions(series.instrument_id, series.provider)
        factors: list[Factor] = []
        skipped: list[CorporateAction] = []
        for action in applicable(known, question.adjust):
            if action.ex_date_us > first_us:
                made = factor(action, await self._close_before(action, series))
                factors += [made] if made else []
                skipped += [] if made else [action]
        warnings = (f"{len(skipped)} dividends are not applied: no close before their ex-date",) if skipped else ()
        return factors, warnings

    async def _close_before(self, action: CorporateAction, series: Series) -> float | None:
        if action.kind != "dividend":
            return None
        before = TimeRange(action.ex_date_us - BEFORE_EX_DATE_US, action.ex_date_us)
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
