"""The one transaction that makes batches durable: bars, provenance, coverage, quarantine and actions, or none of them.

Measured (docs/decisions): reading what is stored and deciding with numpy, then a straight COPY of what is new, is three
times as fast as a staged upsert of everything, and more than that when nothing changed.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from timebase.clock import now_us
from timebase.model.bars import Bars, Batch, Durable, Flag
from timebase.model.interval import Interval
from timebase.model.series import Series
from timebase.model.timerange import DAY_US, HOUR_US, Ranges, TimeRange
from timebase.storage.annex import Connection
from timebase.storage.binary_copy import CHUNK_ROWS
from timebase.storage.coverage import Claim, Ledger, claims, opening_span
from timebase.storage.merge import difference
from timebase.storage.queries.bars import (
    FEW,
    Rows,
    bars_query,
    copy_bars,
    replace_bars,
    select_bars,
    select_bars_at,
)
from timebase.storage.queries.batches import batches_insert, lock_series
from timebase.storage.queries.corporate_actions import upsert_actions
from timebase.storage.queries.coverage import replace_ledgers, select_ledgers
from timebase.storage.queries.quarantine import put_quarantine
from timebase.storage.queries.query import ask
from timebase.storage.queries.stale_hours import note_hours

ROWS_AT_ONCE = 131_072  # 8 MB of columns, and as much again stored and packed
WEEK_US = 7 * DAY_US
SPARSE = 200_000  # stored rows that an answer may skip over before they are looked up one by one


@dataclass(frozen=True, slots=True)
class Stored:
    """What a put did. `ledgers` are those of the series it touched, as they are now."""

    durables: tuple[Durable, ...]
    ledgers: dict[int, Ledger]


@dataclass(frozen=True, slots=True)
class _Run:
    """Batches of one series whose bars together are ascending, as one piece of work."""

    series: Series
    bars: Bars
    place_of_row: NDArray[np.intp]  # in the put's batches


async def put_batches(conn: Connection, batches: Sequence[Batch], *, has_rollup: bool = False) -> Stored:
    """Make `batches` durable. Repeating it changes nothing but provenance.

    `has_rollup`: hours are kept rolled up, so those that change are noted.
    """
    series_ids = sorted({batch.series.id for batch in batches})
    async with conn.transaction():
        await lock_series(conn, series_ids)
        (ids,) = await ask(conn, batches_insert(batches))
        counts = await put_bars(conn, batches, ids, has_rollup=has_rollup)
        await put_quarantine(conn, zip(batches, ids, strict=True))
        await upsert_actions(conn, batches)
        said: defaultdict[int, list[Claim]] = defaultdict(list)
        for batch in batches:
            said[batch.series.id] += claims(batch)
        ledgers = await note_claims(conn, said)
    durables = (
        Durable(batch, new=int(new), revised=int(revised))
        for batch, (new, revised) in zip(batches, counts, strict=True)
    )
    return Stored(tuple(durables), ledgers)


async def put_bars(
    conn: Connection,
    batches: Sequence[Batch],
    ids: Sequence[int],
    standing: Mapping[int, Bars] | None = None,
    *,
    has_rollup: bool,
) -> NDArray[np.int64]:
    """The bars of `batches`, whose numbers are `ids`; the caller has the transaction and the locks.

    `standing`: what is stored at the times of the series that bring a few bars only (`times_of_few`), where that is
    known already.
    Returns: for each batch how many were new, and how many revised.
    """
    counts = np.zeros((len(batches), 2), np.int64)
    hours: dict[int, Ranges] | None = {} if has_rollup else None
    for runs in _rounds(batches):
        few = await _stored_of_few(conn, runs) if standing is None else standing
        await _put_runs(conn, runs, np.asarray(ids), few, counts, hours)
        standing = None  # the next round may tell again of what this one has changed
    if hours:
        await note_hours(conn, hours)
    return counts


async def _put_runs(
    conn: Connection,
    runs: Sequence[_Run],
    ids: NDArray[np.int64],
    few: Mapping[int, Bars],
    counts: NDArray[np.int64],
    hours: dict[int, Ranges] | None,
) -> None:
    new: list[Rows] = []
    for run in runs:
        stored = few.get(run.series.id)
        what = difference(await _stored_rows(conn, run) if stored is None else stored, run.bars)
        batch_ids = ids[run.place_of_row]
        if what.new.all():
            new.append(Rows(run.bars, run.series.id, batch_ids))
        elif what.new.any():
            new.append(Rows(run.bars.pick(what.new), run.series.id, batch_ids[what.new]))
        if what.changed.any():
            flags = run.bars.flags | np.where(what.revised, Flag.REVISED, 0).astype(np.int16)
            changed = replace(run.bars, flags=flags).pick(what.changed)
            await replace_bars(conn, Rows(changed, run.series.id, batch_ids[what.changed]))
        touched = what.new | what.changed
        if hours is not None and run.series.interval is Interval.M1 and touched.any():
            hours[run.series.id] = hours.get(run.series.id, Ranges()) | _hours_of(run.bars.time[touched])
        np.add.at(counts[:, 0], run.place_of_row[what.new], 1)
        np.add.at(counts[:, 1], run.place_of_row[what.revised], 1)
    if new:
        await copy_bars(conn, new)


def _hours_of(times: NDArray[np.int64]) -> Ranges:
    """The hours of those instants (one at least), with what lies between them when that is less than a week."""
    hours = np.unique(times // HOUR_US) * HOUR_US
    pieces = np.split(hours, np.flatnonzero(np.diff(hours) > WEEK_US) + 1)
    return Ranges(tuple(TimeRange(int(piece[0]), int(piece[-1]) + HOUR_US) for piece in pieces))


async def _stored_of_few(conn: Connection, runs: Sequence[_Run]) -> dict[int, Bars]:
    """By series, of those that have a few bars only."""
    times = times_of_few((run.series, run.bars) for run in runs)
    (found,) = await ask(conn, bars_query(times)) if times else ({},)
    return found


def times_of_few(given: Iterable[tuple[Series, Bars]]) -> dict[int, NDArray[np.int64]]:
    """Series id -> the times of its bars, of those series that have a few only, as live ones do."""
    times: defaultdict[int, list[NDArray[np.int64]]] = defaultdict(list)
    for series, bars in given:
        times[series.id].append(bars.time)
    return {id_: np.unique(np.concatenate(each)) for id_, each in times.items() if 0 < sum(map(len, each)) <= FEW}


async def _stored_rows(conn: Connection, run: _Run) -> Bars:
    """The stored bars that `run` may change, and no more of the others than a dense answer passes over."""
    span = opening_span(run.bars)
    if span is None:
        return Bars.empty()
    if span.length_us // run.series.interval.us <= 4 * len(run.bars) + SPARSE:
        return await select_bars(conn, run.series.id, span)
    times = run.bars.time
    pieces = [times[first : first + CHUNK_ROWS] for first in range(0, len(times), CHUNK_ROWS)]
    return Bars.concat([await select_bars_at(conn, run.series.id, piece) for piece in pieces])


async def note_claims(conn: Connection, said: Mapping[int, Sequence[Claim]]) -> dict[int, Ledger]:
    """Series id -> what is claimed of it, oldest first. Returns: the ledgers as they are now."""
    before = await select_ledgers(conn, sorted(said))
    after = claimed(before, said)
    await replace_ledgers(conn, before, after)
    return after


def claimed(before: Mapping[int, Ledger], said: Mapping[int, Sequence[Claim]]) -> dict[int, Ledger]:
    """The ledgers as they are after that."""
    return {series_id: ledger.after(said[series_id], now_us()) for series_id, ledger in before.items()}


def _rounds(batches: Sequence[Batch]) -> Iterator[list[_Run]]:
    """Groups of runs, each small enough to hold in memory and with one run per series; in order for every series."""
    waiting: dict[int, list[int]] = {}
    rows = 0
    for place, batch in enumerate(batches):
        if len(batch.bars) == 0:
            continue
        before = waiting.get(batch.series.id)
        is_later = before is None or batches[before[-1]].bars.time[-1] < batch.bars.time[0]
        if not is_later or (rows and rows + len(batch.bars) > ROWS_AT_ONCE):
            yield _runs(batches, waiting.values())
            waiting, rows = {}, 0
        waiting.setdefault(batch.series.id, []).append(place)
        rows += len(batch.bars)
    if waiting:
        yield _runs(batches, waiting.values())


def _runs(batches: Sequence[Batch], groups: Iterable[list[int]]) -> list[_Run]:
    return [
        _Run(
            batches[places[0]].series,
            batches[places[0]].bars if len(places) == 1 else Bars.concat(batches[place].bars for place in places),
            np.repeat(places, [len(batches[place].bars) for place in places]),
        )
        for places in groups
    ]
