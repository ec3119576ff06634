"""stale_hours: what TimescaleDB has yet to roll up into hourly_rollup; and the rolling up. Only where TimescaleDB is.

Its own policies look at recent chunks only and would never see a range that is filled years later, so every write notes
its hours in its own transaction. Until they are rolled up, the view hourly_ohlcv reads them from the minutes.
"""

from collections.abc import Iterator, Mapping, Sequence

from timebase.model.timerange import DAY_US, Ranges, TimeRange, to_datetime, to_us
from timebase.storage.annex import Connection
from timebase.storage.text import multirange

AT_ONCE = 256  # series in one round
WINDOW_US = 90 * DAY_US  # of one refresh: measured, 0.1 s for each series with minutes round the clock

_NOTE = """
INSERT INTO stale_hours AS known (series_id, ranges)
SELECT series_id, ranges::tstzmultirange FROM unnest($1::integer[], $2::text[]) AS n (series_id, ranges)
    ON CONFLICT (series_id) DO UPDATE SET noted = excluded.noted, ranges = known.ranges + excluded.ranges
"""

# What is being rolled up at this moment is not in hourly_rollup yet, but there is a note of it: that becomes a new one.
_NOTE_AGAIN = """
UPDATE stale_hours
   SET noted = nextval(pg_get_serial_sequence('stale_hours', 'noted'))
 WHERE series_id = ANY($1::integer[])
"""
_NOTE_GONE = """
INSERT INTO stale_hours AS known (series_id, ranges)
SELECT series_id, tstzmultirange(tstzrange(min(time), max(time) + INTERVAL '1 hour'))
  FROM hourly_rollup
 WHERE series_id = ANY($1::integer[]) AND time > $2::timestamptz - INTERVAL '1 hour' AND time < $3
 GROUP BY series_id
    ON CONFLICT (series_id) DO UPDATE SET noted = excluded.noted, ranges = known.ranges + excluded.ranges
"""

_SELECT = """
SELECT n.series_id, n.noted, lower(part) AS first, upper(part) AS last
  FROM (SELECT * FROM stale_hours ORDER BY noted LIMIT $1) n, unnest(n.ranges) AS part
 ORDER BY n.noted, first
"""
_REFRESH = "CALL refresh_continuous_aggregate('hourly_rollup', '{first}'::timestamptz, '{last}'::timestamptz)"
_DELETE = """
DELETE FROM stale_hours n
 USING unnest($1::integer[], $2::bigint[]) AS done (series_id, noted)
 WHERE n.series_id = done.series_id AND n.noted = done.noted
"""


async def note_hours(conn: Connection, hours: Mapping[int, Ranges]) -> None:
    """Series id -> whole hours in which its minutes changed; in the transaction that changes them."""
    await conn.execute(_NOTE, list(hours), [multirange(ranges) for ranges in hours.values()])


async def note_gone(conn: Connection, series_ids: Sequence[int], within: TimeRange) -> None:
    """The minutes of those series in `within` are removed by this transaction."""
    await conn.execute(_NOTE_AGAIN, list(series_ids))
    await conn.execute(_NOTE_GONE, list(series_ids), to_datetime(within.start_us), to_datetime(within.end_us))


async def roll_up(conn: Connection) -> int:
    """Roll up what was noted first. Outside of a transaction; what is not finished is done again, at little cost.

    Returns: of how many series; 0 when nothing was stale.
    """
    rows = await conn.fetch(_SELECT, AT_ONCE)
    stale = Ranges.of(TimeRange(to_us(row["first"]), to_us(row["last"])) for row in rows)
    for window in _windows(stale):
        first, last = to_datetime(window.start_us).isoformat(), to_datetime(window.end_us).isoformat()
        await conn.execute(_REFRESH.format(first=first, last=last))
    done = {row["series_id"]: row["noted"] for row in rows}
    if done:
        await conn.execute(_DELETE, list(done), list(done.values()))
    return len(done)


def _windows(stale: Ranges) -> Iterator[TimeRange]:
    for part in stale.parts:
        for start_us in range(part.start_us, part.end_us, WINDOW_US):
            yield TimeRange(start_us, min(start_us + WINDOW_US, part.end_us))
