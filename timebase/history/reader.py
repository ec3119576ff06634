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
    """What a question reads from one series. Equal versions have equal bars."""

    version: Hashable
    bars: Bars
    next_start_us: int | None
    adjustment: Mapping[str, object]
    warnings: tuple[str, ...]


class Reader:
    def __init__(self, store: Store, cache: ByteLru[Hashable, Bars]) -> None:
        self._store = store
        self._cache = cache

    async def read(self, question: Question, series: Series) -> Reading:
        """Raises: StoreUnavailable."""
        version = (
            series.id,
            self._store.generation(series.id),
            question.range,
            question.limit,
            question.keep,
            question.adjust,
            question.as_of_us,
        )
        raw = await self._raw(version, question, series)
        limit = min(question.limit or MAX_BARS, MAX_BARS)
        is_cut = len(raw) > limit
        kept = raw.pick(slice(len(raw) - limit, None) if question.keep == "newest" else slice(limit)) if is_cut else raw
        next_start_us = int(raw.time[limit]) if is_cut and question.keep == "oldest" else None
        factors, warnings = await self._factors(question, series, kept)
        return Reading(version, adjust(kept, factors), next_start_us, _fact(question.adjust, factors), warnings)

    def missing(
        self, question: Question, series: Series, coverage: Coverage, head: Head | None, now_us: int
    ) -> list[Missing]:
        """What the ledger says the answer lacks, oldest first. The head was asked for: it is young, not missing."""
        whole = align(question.range, series.interval, head.from_us if head and head.from_us else now_us)
        if whole is None:
            return []
        asked = Ranges((whole,))
        found = [Missing(r, "the validator refused its bars; see quarantine") for r in (coverage.refused & asked).parts]
        for part in (asked - coverage.settled).parts:
            one = Ranges((part,))
            why = "failed" if coverage.failed & one else "partial" if coverage.partial & one else "not fetched"
            found.append(Missing(part, why))
        return sorted(found, key=lambda m: m.range)

    async def _raw(self, version: Hashable, question: Question, series: Series) -> Bars:
        """One bar more than the limit, which tells whether there are more."""
        raw = self._cache.get(version)
        if raw is None:
            limit = min(question.limit or MAX_BARS, MAX_BARS) + 1
            raw = await self._store.read(
                series, question.range, limit=limit, newest_first=question.keep == "newest", as_of_us=question.as_of_us
            )
            self._cache.put(version, raw, raw.nbytes)
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


def _fact(which: str, factors: Sequence[Factor]) -> Mapping[str, object]:
    return {"mode": which, "applied": [each.as_fact() for each in factors]}
