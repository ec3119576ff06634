"""coverage: the ledger's rows."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from timebase.model.bars import Outcome
from timebase.model.timerange import Ranges, TimeRange, to_datetime, to_us
from timebase.storage.annex import Connection
from timebase.storage.coverage import Ledger, Mark
from timebase.storage.queries.query import Query, Row, ask
from timebase.storage.text import multirange

_SELECT = """
SELECT series_id, outcome, noted_at, lower(part) AS first, upper(part) AS last
  FROM coverage, unnest(ranges) AS part
 WHERE series_id = ANY($1::integer[])
 ORDER BY series_id, outcome, noted_at, first
"""

_UPSERT = """
INSERT INTO coverage (series_id, outcome, noted_at, ranges)
SELECT series_id, outcome, noted_at, ranges::tstzmultirange
  FROM unnest($1::integer[], $2::text[], $3::timestamptz[], $4::text[]) AS c (series_id, outcome, noted_at, ranges)
    ON CONFLICT (series_id, outcome, noted_at) DO UPDATE SET ranges = excluded.ranges
"""

_DELETE = """
DELETE FROM coverage c
 USING unnest($1::integer[], $2::text[], $3::timestamptz[]) AS gone (series_id, outcome, noted_at)
 WHERE c.series_id = gone.series_id AND c.outcome = gone.outcome AND c.noted_at = gone.noted_at
"""


async def select_ledgers(conn: Connection, series_ids: Sequence[int]) -> dict[int, Ledger]:
    """A ledger for each of `series_ids`."""
    (ledgers,) = await ask(conn, ledgers_query(series_ids))
    return ledgers


def ledgers_query(series_ids: Sequence[int]) -> Query[dict[int, Ledger]]:
    """A ledger for each of `series_ids`."""

    def read(rows: Sequence[Row]) -> dict[int, Ledger]:
        marks: dict[int, dict[Mark, list[TimeRange]]] = defaultdict(lambda: defaultdict(list))
        for series_id, outcome, noted_at, first, last in rows:
            marks[series_id][Outcome(outcome), to_us(noted_at)].append(TimeRange(to_us(first), to_us(last)))
        return {
            series_id: Ledger({mark: Ranges(tuple(parts)) for mark, parts in marks[series_id].items()})
            for series_id in series_ids
        }

    return Query(_SELECT, (list(series_ids),), read)


async def replace_ledgers(conn: Connection, before: Mapping[int, Ledger], after: Mapping[int, Ledger]) -> None:
    await ask(conn, *ledger_changes(before, after))


def ledger_changes(before: Mapping[int, Ledger], after: Mapping[int, Ledger]) -> Iterator[Query[None]]:
    """Write what differs between the two."""
    kept = [
        (series_id, mark, ranges)
        for series_id, ledger in after.items()
        for mark, ranges in ledger.marks.items()
        if before[series_id].marks.get(mark) != ranges
    ]
    gone = [
        (series_id, mark)
        for series_id, ledger in before.items()
        for mark in ledger.marks
        if mark not in after[series_id].marks
    ]
    if kept:
        columns = (
            [series_id for series_id, _, _ in kept],
            [outcome.value for _, (outcome, _), _ in kept],
            [to_datetime(noted_us) for _, (_, noted_us), _ in kept],
            [multirange(ranges) for _, _, ranges in kept],
        )
        yield Query(_UPSERT, columns)
    if gone:
        keys = (
            [series_id for series_id, _ in gone],
            [outcome.value for _, (outcome, _) in gone],
            [to_datetime(noted_us) for _, (_, noted_us) in gone],
        )
        yield Query(_DELETE, keys)
