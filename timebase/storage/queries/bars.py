"""bars and bar_revisions: binary COPY both ways.

COPY takes no parameters, so its queries are built from text; every value in them is an integer formatted with `:d` or
an instant that `literal` made of one.
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from timebase.model.bars import Bars
from timebase.model.timerange import TimeRange, to_datetime, to_us
from timebase.storage.annex import Connection
from timebase.storage.bar_rows import WRITE_COLUMNS, RowReader, pack_rows
from timebase.storage.binary_copy import HEADER, TRAILER
from timebase.storage.queries.hypertable import open_compressed
from timebase.storage.queries.query import Query, Row

FEW = 16  # bars of a series that are looked up, and copied, together with those of others

_SELECT = """
SELECT time, open, high, low, close, volume, flags
  FROM bars
 WHERE series_id = {series_id:d} AND time >= {first} AND time < {last}
 ORDER BY time {order} LIMIT {limit}
"""

_SELECT_AT = """
SELECT time, open, high, low, close, volume, flags
  FROM bars
 WHERE series_id = {series_id:d} AND time IN ({times})
 ORDER BY time
"""

# The bounds spare TimescaleDB the chunks that cannot hold any of them.
_SELECT_KEYS = """
SELECT b.series_id, b.time, b.open, b.high, b.low, b.close, b.volume, b.flags
  FROM unnest($1::integer[], $2::timestamptz[]) AS wanted (series_id, time)
  JOIN bars b ON b.series_id = wanted.series_id AND b.time = wanted.time
 WHERE b.time >= $3 AND b.time <= $4
 ORDER BY b.series_id, b.time
"""

# Of each period the version that was newest at that instant. Forming bars are not knowledge that can be reproduced:
# their closed version replaces them without a trace.
_SELECT_AS_OF = """
SELECT time, open, high, low, close, volume, flags
  FROM (SELECT DISTINCT ON (v.time) v.*
          FROM (SELECT time, open, high, low, close, volume, flags, batch_id
                  FROM bars
                 WHERE series_id = {series_id:d} AND time >= {first} AND time < {last}
                 UNION ALL
                SELECT time, open, high, low, close, volume, flags, batch_id
                  FROM bar_revisions
                 WHERE series_id = {series_id:d} AND time >= {first} AND time < {last}) v
          JOIN batches b ON b.id = v.batch_id
         WHERE b.fetched_at <= {as_of} AND v.flags & 1 = 0
         ORDER BY v.time, b.fetched_at DESC, v.batch_id DESC) known
 ORDER BY time {order} LIMIT {limit}
"""

# With its key and made anew each time: without the key, or with a plan from when it was small, the joins below compare
# every row with every other.
_STAGE = "CREATE TEMPORARY TABLE staged_bars (LIKE bars INCLUDING INDEXES) ON COMMIT DROP"

_KEEP_OLD = """
INSERT INTO bar_revisions (time, open, high, low, close, volume, batch_id, series_id, flags, replaced_by)
SELECT b.time, b.open, b.high, b.low, b.close, b.volume, b.batch_id, b.series_id, b.flags, s.batch_id
  FROM staged_bars s
  JOIN bars b ON b.series_id = s.series_id AND b.time = s.time
 WHERE b.series_id = $1 AND b.time >= $2 AND b.time <= $3 AND b.flags & 1 = 0
"""

_REPLACE = """
UPDATE bars b
   SET open = s.open, high = s.high, low = s.low, close = s.close, volume = s.volume,
       flags = s.flags, batch_id = s.batch_id
  FROM staged_bars s
 WHERE b.series_id = s.series_id AND b.time = s.time AND b.series_id = $1 AND b.time >= $2 AND b.time <= $3
"""

_FACTS = "SELECT count(*), min(time), max(time) FROM bars WHERE series_id = $1"


@dataclass(frozen=True, slots=True)
class Holding:
    """How much is stored of a series. Units: the opening instants of its first and last bar."""

    bars: int
    first_us: int | None
    last_us: int | None


@dataclass(frozen=True, slots=True)
class Rows:
    """Bars with where they belong and where they came from."""

    bars: Bars
    series_id: int
    batch_id: NDArray[np.int64] | int


def literal(at_us: int) -> str:
    return f"'{to_datetime(at_us).isoformat()}'::timestamptz"


async def _copy_out(conn: Connection, query: str) -> Bars:
    reader = RowReader()
    await conn.copy_from_query(query, output=reader.feed, format="binary")
    return reader.finish()


async def select_bars(
    conn: Connection,
    series_id: int,
    within: TimeRange,
    limit: int | None = None,
    newest_first: bool = False,
    as_of_us: int | None = None,
) -> Bars:
    """Order: ascending, always; `newest_first` says which end `limit` keeps."""
    bars = await _copy_out(
        conn,
        (_SELECT if as_of_us is None else _SELECT_AS_OF).format(
            series_id=series_id,
            first=literal(within.start_us),
            last=literal(within.end_us),
            order="DESC" if newest_first else "ASC",
            limit="ALL" if limit is None else format(limit, "d"),
            as_of=literal(as_of_us or 0),
        ),
    )
    return bars.pick(np.arange(len(bars) - 1, -1, -1)) if newest_first else bars


async def select_bars_at(conn: Connection, series_id: int, times: NDArray[np.int64]) -> Bars:
    """The stored bars that open at one of `times`."""
    texts = ",".join(f"'{at}Z'" for at in np.datetime_as_string(times.view("datetime64[us]")))
    return await _copy_out(conn, _SELECT_AT.format(series_id=series_id, times=texts))


def bars_query(wanted: Mapping[int, NDArray[np.int64]]) -> Query[dict[int, Bars]]:
    """Series id -> the stored bars that open at one of its times: one question for a few bars of many series."""
    keys = [(series_id, at_us) for series_id, times in wanted.items() for at_us in times.tolist()]
    at = [to_datetime(at_us) for _, at_us in keys]

    def read(rows: Sequence[Row]) -> dict[int, Bars]:
        found = {series_id: Bars.empty() for series_id in wanted}
        for series_id, same in groupby(rows, key=itemgetter(0)):
            _, times, *columns = zip(*map(tuple, same), strict=True)
            found[series_id] = Bars.of([to_us(time) for time in times], *columns)
        return found

    args = ([series_id for series_id, _ in keys], at, min(at, default=None), max(at, default=None))
    return Query(_SELECT_KEYS, args, read)


async def copy_bars(conn: Connection, rows: Iterable[Rows], table: str = "bars") -> None:
    await conn.copy_to_table(table, source=_stream(rows), columns=WRITE_COLUMNS, schema_name=None, format="binary")


async def _stream(rows: Iterable[Rows]) -> AsyncIterator[bytes | memoryview]:
    yield HEADER
    for columns in _together(rows):
        for piece in pack_rows(*columns):
            yield piece
    yield TRAILER


def _together(
    rows: Iterable[Rows],
) -> Iterator[tuple[Bars, NDArray[np.int64] | int, NDArray[np.int32] | int]]:
    """What `pack_rows` takes. A few bars of many series go as one: a piece costs 30 µs, whatever is in it."""
    few: list[Rows] = []
    for part in rows:
        if len(part.bars) > FEW:
            yield part.bars, part.batch_id, part.series_id
        else:
            few.append(part)
    if few:
        counts = [len(part.bars) for part in few]
        batch_ids = [np.broadcast_to(part.batch_id, count) for part, count in zip(few, counts, strict=True)]
        series_ids = np.repeat(np.asarray([part.series_id for part in few], np.int32), counts)
        yield Bars.concat([part.bars for part in few]), np.concatenate(batch_ids), series_ids


async def replace_bars(conn: Connection, rows: Rows) -> None:
    """Put `rows` over stored ones with the same time; those that were closed stay readable in bar_revisions."""
    await open_compressed(conn)
    await conn.execute(_STAGE)
    await copy_bars(conn, [rows], "staged_bars")
    # Constants, so that TimescaleDB opens only the chunks that matter.
    span = (rows.series_id, to_datetime(int(rows.bars.time[0])), to_datetime(int(rows.bars.time[-1])))
    await conn.execute(_KEEP_OLD, *span)
    await conn.execute(_REPLACE, *span)
    await conn.execute("DROP TABLE staged_bars")


async def select_holding(conn: Connection, series_id: int) -> Holding:
    count, first, last = await conn.fetchrow(_FACTS, series_id)
    return Holding(count, to_us(first) if first else None, to_us(last) if last else None)
