"""coverage: the ledger's rows."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from timebase.model.bars import Outcome
from timebase.model.timerange import Ranges, TimeRange, to_datetime, to_us
from timebase.storage.annex import Connection
from timebase.storage.coverage import Ledger, Mark
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
    marks: dict[int, dict[Mark, list[TimeRange]]] = defaultdict(lambda: defaultdict(list))
    for row in await conn.fetch(_SELECT, list(series_ids)):
        mark = (Outcome(row["outcome"]), to_us(row["noted_at"]))
        marks[row["series_id"]][mark].append(TimeRange(to_us(row["first"]), to_us(row["last"])))
    return {
        series_id: Ledger({mark: Ranges(tuple(parts)) for mark, parts in marks[series_id].items()})
        for series_id in series_ids
    }


async def replace_ledgers(conn: Connection, before: Mapping[int, Ledger], after: Mapping[int, Ledger]) -> None:
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
        await conn.execute(
            _UPSERT,
            [series_id for series_id, _, _ in kept],
            [outcome.value for _, (outcome, _), _ in kept],
            [to_datetime(noted_us) for _, (_, noted_us), _ in kept],
            [multirange(ranges) for _, _, ranges in kept],
        )
    if gone:
        await conn.execute(
            _DELETE,
            [series_id for series_id, _ in gone],
            [outcome.value for _, (outcome, _) in gone],
            [to_datetime(noted_us) for _, (_, noted_us) in gone],
        )
