"""question -> [historian] -> answer: what is stored, what must be asked for, of whom, and what comes of it.

Every answer is of one provider: prices of two vendors are never mixed in one reply. The first in the router's order
whose stored bars answer the whole question wins without being asked; otherwise they are asked in that order, each for
exactly what its own series lacks, until one delivers. Where no provider has bars of that interval, the question is put
for the finer ones that they can be made of, which are what is fetched and stored.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from timebase.clock import now_us
from timebase.errors import (
    AllProvidersFailed,
    NotSupported,
    ProviderError,
    RateLimited,
    StoreUnavailable,
    SymbolNotFound,
    TimeBaseError,
    UnknownProvider,
    UnknownSymbol,
    Unsupported,
)
from timebase.history.answer import Answer, Completion, Freshness, Missing
from timebase.history.cover import align
from timebase.history.fetcher import Fetcher
from timebase.history.flights import Catch
from timebase.history.reader import Reader, Reading
from timebase.history.resample import finer, sources
from timebase.model.bars import Bars
from timebase.model.demand import MAX_BARS, Question
from timebase.model.instrument import Instrument, canonical_symbol, listed_or_guessed
from timebase.model.interval import Interval
from timebase.model.receipt import Attempt
from timebase.model.series import Series
from timebase.model.timerange import DAY_US, Ranges, TimeRange, to_datetime
from timebase.router.router import Plan, Router
from timebase.storage.coverage import final_before
from timebase.storage.store import Store
from timebase.supervisor.roster import Roster

SPARSE = 8  # minutes of stocks fill a fifth of the week
ANSWERS_KEPT = 4_096  # receipts without their bars: some hundred bytes each


@dataclass(frozen=True, slots=True)
class Found:
    """The series that answers a question, and what it took."""

    instrument: Instrument
    series: Series
    catch: Catch
    is_stale: bool = False


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer given before: right while its generation is unchanged and, when its end still changes, it is fresh."""

    answer: Answer
    generation: Hashable


class Historian:
    """Answers questions about the past."""

    def __init__(self, *, store: Store, router: Router, roster: Roster, fetcher: Fetcher, reader: Reader) -> None:
        self._store = store
        self._router = router
        self._roster = roster
        self._fetcher = fetcher
        self._reader = reader
        self._answers: OrderedDict[Question, Kept] = OrderedDict()

    async def answer(self, question: Question, attempts: list[Attempt]) -> Answer:
        """The answer; `attempts` is appended to on the way, for whoever has to stop waiting.

        Raises: RequestError, AllProvidersFailed, StoreUnavailable.
        """
        kept = self._recall(question)
        if kept is not None:
            return kept
        try:
            source = await self._source(question)
            part, found = await self._find_enough(question, source, attempts)
            return await self._read(question, part, found)
        except StoreUnavailable:
            stale = self._answers.get(question)
            if stale is None:
                raise
            return _as_stale(stale.answer)

    async def complete(self, question: Question, attempts: list[Attempt]) -> Completion:
        """Fetch what the question lacks without reading it. Raises as `answer` does."""
        source = await self._source(question)
        found = await self._find(finer(question, source), attempts)
        missing = await self._missing(question, found)
        catch = found.catch
        made = () if source is question.interval else (f"{question.interval} bars are made of {source} bars",)
        return Completion(
            found.series, tuple(catch.attempts), tuple(missing), catch.new, catch.revised, (*made, *catch.warnings)
        )

    async def explain(self, question: Question) -> dict[str, object]:
        """Who would be asked, in which order and why, and what is stored already. Asks nobody."""
        instrument = await self._instrument(question.symbol)
        source = await self._source(question)
        asked = finer(question, source)
        plan = self._router.plan(asked, instrument)
        stored = []
        for series in await self._stored(instrument, asked, plan):
            gaps = await self._fetcher.gaps(asked, series)
            would_ask = [[part.start_us // 1000, part.end_us // 1000] for part in gaps.parts]
            is_complete = not gaps and not self._fetcher.nameless(series) & Ranges((asked.range,))
            stored.append({"provider": series.provider, "complete": is_complete, "would_ask_for": would_ask})
        return {
            **self._router.explain(asked, instrument),
            "interval": question.interval.value,
            "resampled_from": None if source is question.interval else source.value,
            "stored": stored,
        }

    # --- what was answered before ---

    def _recall(self, question: Question) -> Answer | None:
        kept = self._answers.get(question)
        if kept is None or question.refresh:
            return None
        if not self._store.is_up:
            return _as_stale(kept.answer)
        is_unchanged = kept.generation == self._reader.generation(question, kept.answer.series)
        if is_unchanged and kept.answer.freshness.is_fresh(now_us()):
            self._answers.move_to_end(question)
            return kept.answer
        return None

    def _keep(self, answer: Answer, generation: Hashable, reload: Callable[[], Awaitable[Bars]]) -> None:
        """Only what is complete and fresh: the rest is asked for again."""
        if answer.missing or answer.freshness.is_stale:
            return
        question = replace(answer.question, refresh=False)
        kept = replace(answer, question=question, source="cache", attempts=(), load=reload)
        self._answers[question] = Kept(kept, generation)
        self._answers.move_to_end(question)
        if len(self._answers) > ANSWERS_KEPT:
            self._answers.popitem(last=False)

    # --- who answers ---

    async def _source(self, question: Question) -> Interval:
        """The interval to ask for: the question's own when somebody has it, or nobody has what it can be made of."""
        instrument = await self._instrument(question.symbol)
        for interval in (question.interval, *sources(question.interval)):
            if await self._has(finer(question, interval), instrument):
                return interval
        return question.interval

    async def _has(self, question: Question, instrument: Instrument) -> bool:
        """Whether a provider can be asked, or what is stored is enough."""
        plan = self._router.plan(question, instrument)
        if plan.candidates:
            return True
        for series in await self._stored(instrument, question, plan):
            if not await self._fetcher.gaps(question, series):
                return True
        return False

    async def _find_enough(
        self, question: Question, source: Interval, attempts: list[Attempt]
    ) -> tuple[Question, Found]:
        """Of a question for the first so many bars no more is fetched than holds them: its range grows as needed."""
        limit = min(question.limit or MAX_BARS, MAX_BARS)
        width_us = max(SPARSE * limit * question.interval.us, DAY_US)
        while True:
            part = _first_part(question, width_us)
            found = await self._find(finer(part, source), attempts)
            if part is question or await self._holds_more(part, found, limit):
                return part, found
            width_us *= SPARSE

    async def _holds_more(self, question: Question, found: Found, limit: int) -> bool:
        if found.series.interval is question.interval:
            return len(await self._store.read(found.series, question.range, limit=limit + 1)) > limit
        return (await self._reading(question, found)).next_start_us is not None

    async def _reading(self, question: Question, found: Found) -> Reading:
        known_us = await self._known_us(question, found)
        return await self._reader.read(question, found.series, timezone=found.instrument.timezone, known_us=known_us)

    async def _find(self, question: Question, attempts: list[Attempt]) -> Found:
        instrument = await self._instrument(question.symbol)
        plan = self._router.plan(question, instrument)
        stored = await self._stored(instrument, question, plan)
        if not question.refresh:
            for series in stored:
                if not await self._fetcher.gaps(question, series):
                    return Found(instrument, series, Catch())
        caught = Catch(attempts)
        errors: list[ProviderError] = []
        for candidate in plan.candidates:
            if not instrument.id:
                (instrument,) = await self._store.upsert_instruments((instrument,))
            series = await self._store.series(instrument, candidate.slug, question.interval)
            fetched = await self._fetcher.fetch(candidate, question, series, instrument)
            caught.add(fetched.catch)
            if fetched.error is None:
                return Found(instrument, series, caught)
            errors.append(fetched.error)
        best = await self._best_stored(question, plan)
        if best is not None:
            return Found(*best, caught, is_stale=True)
        raise await self._nobody(question, plan, caught.attempts, errors)

    async def _best_stored(self, question: Question, plan: Plan) -> tuple[Instrument, Series] | None:
        """Of the series with bars in the range, the one of which most is known; what failed may have left some."""
        instrument = await self._instrument(question.symbol)
        asked = Ranges((question.range,))
        known: list[tuple[int, Series]] = []
        for series in await self._stored(instrument, question, plan):
            if len(await self._store.read(series, question.range, limit=1)):
                settled = (await self._store.coverage(series.id)).settled & asked
                known.append((sum(part.length_us for part in settled.parts), series))
        return (instrument, max(known, key=lambda each: each[0])[1]) if known else None

    async def _instrument(self, symbol: str) -> Instrument:
        """What the store knows, else what a manifest lists, else a guess from the symbol's form."""
        known = await self._store.instrument(canonical_symbol(symbol))
        return known or listed_or_guessed(symbol, self._roster.symbols())

    async def _stored(self, instrument: Instrument, question: Question, plan: Plan) -> list[Series]:
        """The series there are for a question, in the plan's order; those whose provider is not in it come last."""
        if not instrument.id:
            return []
        place = {candidate.slug: at for at, candidate in enumerate(plan.candidates)}
        unnamed = {state.slug for state in self._roster.all() if state.manifest.only_by_name}
        fitting = [
            series
            for series in await self._store.series_of(instrument.id)
            if series.interval is question.interval
            and (series.provider == question.provider or (question.provider is None and series.provider not in unnamed))
        ]
        return sorted(fitting, key=lambda series: place.get(series.provider, len(place)))

    async def _nobody(
        self, question: Question, plan: Plan, attempts: Sequence[Attempt], errors: Sequence[ProviderError]
    ) -> TimeBaseError:
        """The error that says best why nobody answered."""
        symbol = canonical_symbol(question.symbol)
        slugs = tuple(state.slug for state in self._roster.all())
        if question.provider is not None and question.provider not in slugs:
            return UnknownProvider(question.provider, slugs)
        if errors and all(isinstance(error, SymbolNotFound) for error in errors):
            return UnknownSymbol(symbol, await self._store.near_symbols(symbol, 5), attempts)
        if errors and all(isinstance(error, SymbolNotFound | Unsupported) for error in errors):
            said = "; ".join(f"{attempt.provider}: {attempt.reason}" for attempt in attempts)
            return NotSupported(f"no provider can answer {question.interval} bars of {symbol} ({said})")
        if errors:
            waits = [e.retry_after_s for e in errors if isinstance(e, RateLimited) and e.retry_after_s is not None]
            return AllProvidersFailed(symbol, attempts, retry_after_s=min(waits, default=None))
        if await self._is_strange(question):
            return UnknownSymbol(symbol, await self._store.near_symbols(symbol, 5))
        reasons = "; ".join(f"{refused.slug}: {refused.reason}" for refused in plan.refused)
        return NotSupported(
            f"no provider can answer {question.interval} bars of {symbol} ({reasons or 'there is none'})"
        )

    async def _is_strange(self, question: Question) -> bool:
        """Whether the symbol is new here, and every provider that could be asked names the symbols that it has."""
        instrument = await self._instrument(question.symbol)
        asked = [
            state
            for state in self._roster.all()
            if state.slug == question.provider or (question.provider is None and not state.manifest.only_by_name)
        ]
        takes_any = [state for state in asked if not state.manifest.symbols]
        is_listed = any(each.symbol == instrument.symbol for each in self._roster.symbols())
        is_new = not instrument.id and not is_listed
        return is_new and bool(asked) and all(instrument.asset_class not in s.manifest.asset_classes for s in takes_any)

    # --- the answer ---

    async def _read(self, question: Question, part: Question, found: Found) -> Answer:
        """The answer to `question` from `part` of it, which has all the bars that are wanted."""
        series = found.series
        generation = self._reader.generation(part, series)
        reading = await self._reading(part, found)
        missing = await self._missing(part, found)

        async def load() -> Bars:
            return reading.bars

        answer = Answer(
            question=question,
            instrument=found.instrument,
            series=series,
            version=reading.version,
            source="fetched" if found.catch.attempts and not found.is_stale else "store",
            load=load,
            attempts=tuple(found.catch.attempts),
            missing=tuple(missing),
            freshness=await self._freshness(part, found),
            adjustment=reading.adjustment,
            warnings=(
                *found.catch.warnings,
                *reading.warnings,
                *_warn_of(missing),
                *_partly(part, series, missing, reading.bars),
            ),
            next_start_us=reading.next_start_us,
        )
        self._keep(answer, generation, reading.reload)
        return answer

    async def _missing(self, question: Question, found: Found) -> list[Missing]:
        if question.as_of_us is not None and question.as_of_us < now_us():
            return await self._unknown_then(finer(question, found.series.interval), found.series, question.as_of_us)
        coverage = await self._store.coverage(found.series.id)
        head = None if found.is_stale else self._fetcher.head(found.series)
        nameless, asked = self._fetcher.nameless(found.series), finer(question, found.series.interval)
        return self._reader.missing(asked, found.series, coverage, nameless, head, now_us())

    async def _unknown_then(self, question: Question, series: Series, as_of_us: int) -> list[Missing]:
        """What the answer lacks that could have been final at that instant."""
        whole = align(question.range, series.interval, final_before(series.interval, as_of_us))
        if whole is None:
            return []
        known = await self._store.settled_then(series, whole, as_of_us)
        return [Missing(part, "not known then") for part in (Ranges((whole,)) - known).parts]

    async def _known_us(self, question: Question, found: Found) -> int:
        """Until when the series says what there was: now, unless its end was asked for a moment ago."""
        head, at_us = self._fetcher.head(found.series), now_us()
        if head is not None:
            asked = Ranges((finer(question, found.series.interval).range,))
            young = asked - await self._fetcher.settled(found.series)
            at_us = min(at_us, head.asked_us) if young & head.rested(at_us) else at_us
        return at_us if question.as_of_us is None else min(at_us, question.as_of_us)

    async def _freshness(self, question: Question, found: Found) -> Freshness:
        """An answer whose range is settled is final; one that reaches into the present is fresh for `refresh_s`."""
        settled = await self._fetcher.settled(found.series)
        asked = finer(question, found.series.interval)
        whole = align(asked.range, asked.interval, now_us())
        is_final = whole is not None and not Ranges((whole,)) - settled
        return Freshness(
            checked_us=self._fetcher.checked_us(found.series),
            fresh_until_us=None if is_final else self._fetcher.fresh_until_us(found.series),
            is_stale=found.is_stale,
        )


def _first_part(question: Question, width_us: int) -> Question:
    start_us, end_us = question.range.start_us, question.range.end_us
    if question.keep == "newest" or end_us - start_us <= width_us:
        return question
    return replace(question, range=TimeRange(start_us, start_us + width_us))


def _warn_of(missing: Sequence[Missing]) -> list[str]:
    return [f"{each.range} is missing: {each.why}" for each in missing[:10]]


def _partly(question: Question, series: Series, missing: Sequence[Missing], bars: Bars) -> list[str]:
    """A warning of the bars that are made of less than there should be."""
    if series.interval is question.interval:
        return []
    is_partly = np.zeros(len(bars), np.bool_)
    for each in missing:
        first, last = np.searchsorted(bars.time, (question.interval.floor_us(each.range.start_us), each.range.end_us))
        is_partly[first:last] = True
    n = int(is_partly.sum())
    if not n:
        return []
    at = to_datetime(int(bars.time[is_partly][0])).isoformat()
    return [f"{n} {question.interval} bars are made of less than their whole period, the first of them that of {at}"]


def _as_stale(answer: Answer) -> Answer:
    return replace(
        answer,
        freshness=replace(answer.freshness, is_stale=True),
        warnings=(*answer.warnings, "the database is away: this is an answer from memory, and it may be out of date"),
    )
