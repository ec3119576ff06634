"""batches: where every bar came from. And the lock that makes one writer of a series at a time."""

from collections.abc import Sequence
from dataclasses import dataclass

from timebase.model.bars import Batch, Outcome
from timebase.model.timerange import Ranges, TimeRange, to_datetime, to_us
from timebase.storage.annex import Connection
from timebase.storage.queries.query import Query
from timebase.storage.text import clean

_LOCKS = 0x7453  # the advisory locks' first key: ours, whatever else lives in the database

# The second key 0 is of no series: all who write to one share it, and who needs all series at once has it alone.
_LOCK = """
SELECT pg_advisory_xact_lock_shared($1, 0) WHERE cardinality($2::integer[]) > 0
 UNION ALL
SELECT pg_advisory_xact_lock($1, id) FROM unnest($2::integer[]) AS id
"""
_LOCK_ALL = "SELECT pg_advisory_xact_lock($1, 0)"

_INSERT = """
INSERT INTO batches (series_id, covers, outcome, reason, fetched_at, bars, why, warnings)
SELECT series_id, tstzrange(first, last), outcome, reason, fetched_at, bars, why, string_to_array(warnings, E'\\n')
  FROM unnest($1::integer[], $2::timestamptz[], $3::timestamptz[], $4::text[], $5::text[], $6::timestamptz[],
              $7::integer[], $8::text[], $9::text[])
       WITH ORDINALITY AS b (series_id, first, last, outcome, reason, fetched_at, bars, why, warnings, at)
 ORDER BY at
RETURNING id
"""

_RECENT = """
SELECT id, lower(covers) AS first, upper(covers) AS last, outcome, reason, fetched_at, bars, why, warnings
  FROM batches
 WHERE series_id = $1 AND covers && tstzrange($2, $3)
 ORDER BY id DESC
 LIMIT $4
"""


_SETTLED_BY = """
SELECT lower(part) AS first, upper(part) AS last
  FROM (SELECT range_agg(covers * tstzrange(NULL, fetched_at)) AS parts
          FROM batches
         WHERE series_id = $1 AND covers && tstzrange($2, $3) AND fetched_at <= $4
           AND outcome IN ('complete', 'empty')) b, unnest(parts) AS part
 ORDER BY first
"""


@dataclass(frozen=True, slots=True)
class Provenance:
    """One stored batch, as a receipt shows it."""

    batch_id: int
    covers: TimeRange
    outcome: Outcome
    reason: str
    fetched_us: int
    bars: int
    why: str
    warnings: tuple[str, ...]


async def lock_series(conn: Connection, series_ids: Sequence[int]) -> None:
    """Until the transaction ends, nobody else writes to these series."""
    await conn.fetch(_LOCK, *lock_args(series_ids))


def lock_args(series_ids: Sequence[int]) -> tuple[int, list[int]]:
    """The locks' first key, and the second ones: ascending, so that nobody waits in a ring."""
    return _LOCKS, sorted(set(series_ids))


async def lock_all_series(conn: Connection) -> None:
    """Until the transaction ends, nobody else writes to any series."""
    await conn.execute(_LOCK_ALL, _LOCKS)


def batches_insert(batches: Sequence[Batch]) -> Query[list[int]]:
    """The new ids, in the order of `batches`."""
    columns = (
        [b.series.id for b in batches],
        [to_datetime(b.covers.start_us) for b in batches],
        [to_datetime(b.covers.end_us) for b in batches],
        [b.outcome.value for b in batches],
        [b.reason for b in batches],
        [to_datetime(b.fetched_us) for b in batches],
        [len(b.bars) for b in batches],
        [clean(b.why) for b in batches],
        ["\n".join(clean(w).replace("\n", " ") for w in b.warnings) for b in batches],
    )
    # Numbers are given in the order of insertion, whatever order RETURNING reports them in.
    return Query(_INSERT, columns, lambda rows: sorted(id_ for (id_,) in rows))


async def select_provenance(conn: Connection, series_id: int, within: TimeRange, limit: int) -> tuple[Provenance, ...]:
    """Order: newest first."""
    rows = await conn.fetch(_RECENT, series_id, to_datetime(within.start_us), to_datetime(within.end_us), limit)
    return tuple(
        Provenance(
            row["id"], TimeRange(to_us(row["first"]), to_us(row["last"])), Outcome(row["outcome"]), row["reason"],
            to_us(row["fetched_at"]), row["bars"], row["why"], tuple(row["warnings"]),
        )
        for row in rows
    )  # fmt: skip


async def select_settled_by(conn: Connection, series_id: int, within: TimeRange, at_us: int) -> Ranges:
    """What the batches that had been fetched at that instant had settled, each up to its own."""
    first, last = to_datetime(within.start_us), to_datetime(within.end_us)
    rows = await conn.fetch(_SETTLED_BY, series_id, first, last, to_datetime(at_us))
    return Ranges(tuple(TimeRange(to_us(row["first"]), to_us(row["last"])) for row in rows))
