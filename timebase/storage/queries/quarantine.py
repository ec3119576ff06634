"""quarantine: rows that the validator refused, and which rule did."""

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

from timebase.model.bars import Batch
from timebase.model.timerange import TimeRange, to_datetime, to_us
from timebase.storage.annex import Connection
from timebase.storage.bar_rows import QUARANTINE_COLUMNS, pack_quarantine
from timebase.storage.binary_copy import HEADER, TRAILER

# The newest answer about a range says what is refused in it; an answer that is put twice is there once.
_FORGET = "DELETE FROM quarantine WHERE series_id = $1 AND time >= $2 AND time < $3"

_SELECT = """
SELECT q.time, q.open, q.high, q.low, q.close, q.volume, q.rule, b.fetched_at
  FROM quarantine q
  JOIN batches b ON b.id = q.batch_id
 WHERE q.series_id = $1 AND q.time >= $2 AND q.time < $3
 ORDER BY q.time, q.rule
 LIMIT $4
"""


@dataclass(frozen=True, slots=True)
class Quarantined:
    """One refused row, for people to look at."""

    time_us: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    rule: str
    fetched_us: int


async def put_quarantine(conn: Connection, batches: Iterable[tuple[Batch, int]]) -> None:
    """Store what was refused of each (batch, batch id)."""
    with_refused = [(batch, batch_id) for batch, batch_id in batches if batch.refused]
    for batch, _ in with_refused:
        covers = batch.covers
        await conn.execute(_FORGET, batch.series.id, to_datetime(covers.start_us), to_datetime(covers.end_us))
    if with_refused:
        await conn.copy_to_table(
            "quarantine", source=_stream(with_refused), columns=QUARANTINE_COLUMNS, format="binary"
        )


async def _stream(batches: Iterable[tuple[Batch, int]]) -> AsyncIterator[bytes | memoryview]:
    yield HEADER
    for batch, batch_id in batches:
        for refused in batch.refused:
            for piece in pack_quarantine(refused.bars, batch_id, batch.series.id, refused.rule):
                yield piece
    yield TRAILER


async def select_quarantined(
    conn: Connection, series_id: int, within: TimeRange, limit: int
) -> tuple[Quarantined, ...]:
    rows = await conn.fetch(_SELECT, series_id, to_datetime(within.start_us), to_datetime(within.end_us), limit)
    return tuple(
        Quarantined(
            to_us(row["time"]), row["open"], row["high"], row["low"], row["close"], row["volume"], row["rule"],
            to_us(row["fetched_at"]),
        )
        for row in rows
    )  # fmt: skip
