"""live_writers and recordings: which live commit was the last one, and when feeds were up."""

from collections.abc import Sequence
from dataclasses import dataclass

from timebase.model.timerange import SECOND_US, Ranges, TimeRange, to_datetime, to_us
from timebase.storage.annex import Connection
from timebase.storage.delivery import Delivery
from timebase.storage.queries.batches import series_lock
from timebase.storage.queries.query import Query, shifted
from timebase.storage.queries.ticks import select_newest_us, select_oldest_trade_us
from timebase.storage.text import clean

# Whoever tries the same again waits here for the row of the first try, and then sees its token. The locks come after
# that, which is why they look at the row: in the other order the two would wait for each other. They are counted in the
# answer, because what nobody asks for PostgreSQL does not do.
_OPEN = """
  WITH made AS (
INSERT INTO live_writers AS w (writer, token, commit_id)
VALUES ($1, $2, nextval('live_commits'))
    ON CONFLICT (writer) DO UPDATE
   SET token = excluded.token, commit_id = excluded.commit_id
 WHERE w.token <> excluded.token
RETURNING commit_id)
SELECT commit_id, n
  FROM made
 CROSS JOIN LATERAL (SELECT count(*) AS n FROM ({lock}) locks WHERE made.commit_id > 0) locked
"""
_SELECT = "SELECT commit_id FROM live_writers WHERE writer = $1"

_INSERT_WORDS = """
INSERT INTO recordings (series_id, at, is_up, reason)
SELECT * FROM unnest($1::integer[], $2::timestamptz[], $3::boolean[], $4::text[])
    ON CONFLICT DO NOTHING
"""

# The word that held when the range began, and all within it.
_WORDS = """
SELECT at, is_up
  FROM recordings
 WHERE series_id = $1 AND at < $3
   AND at >= coalesce((SELECT max(at) FROM recordings WHERE series_id = $1 AND is_up AND at <= $2), $2)
 ORDER BY at, is_up
 LIMIT $4
"""

_FIRST_UP = "SELECT min(at) FROM recordings WHERE series_id = $1 AND is_up"

MOST_WORDS = 10_000  # of one answer
SKEW_US = 5 * SECOND_US  # a trade may have happened so long before we heard that its feed is up


@dataclass(frozen=True, slots=True)
class Word:
    """The feed of a tick series came up, or went down and why. Units: µs UTC of when we heard it."""

    series_id: int
    at_us: int
    is_up: bool
    reason: str = ""


async def open_delivery(conn: Connection, delivery: Delivery, series_ids: Sequence[int]) -> tuple[int, bool]:
    """With the locks of these series, when it is made now.

    Returns: the commit's id, and whether it is made now; False: it was made before.
    """
    lock = series_lock(series_ids)
    made = await conn.fetchval(_OPEN.format(lock=shifted(lock.text, 2)), delivery.writer, delivery.token, *lock.args)
    return (made, True) if made is not None else (await conn.fetchval(_SELECT, delivery.writer), False)


def words_insert(words: Sequence[Word]) -> Query[None]:
    columns = (
        [word.series_id for word in words],
        [to_datetime(word.at_us) for word in words],
        [word.is_up for word in words],
        [clean(word.reason) for word in words],
    )
    return Query(_INSERT_WORDS, columns)


async def select_recorded(conn: Connection, kind: str, series_id: int, within: TimeRange) -> Ranges:
    """When the feed was up within the range; where a crash has left no word, until its last tick."""
    rows = await conn.fetch(_WORDS, series_id, to_datetime(within.start_us), to_datetime(within.end_us), MOST_WORDS)
    said = [(to_us(row["at"]), row["is_up"]) for row in rows]
    found: list[TimeRange] = []
    since_us: int | None = None
    for at_us, is_up in (*said, (within.end_us, None)):
        if since_us is not None:
            sign_us = at_us - SKEW_US if is_up else at_us  # not one that came only with the next connection
            until_us = at_us if is_up is False else await _last_sign(conn, kind, series_id, since_us, sign_us)
            found += [TimeRange(since_us, until_us)] if since_us < until_us else []
        since_us = at_us if is_up else None
    return Ranges.of(found) & Ranges((within,))


async def select_first_heard_us(conn: Connection, series_id: int) -> int | None:
    """The oldest trade since the feed first came up; of a tape, which is older than that, the oldest of all."""
    first_up = await conn.fetchval(_FIRST_UP, series_id)
    since_us = None if first_up is None else await select_oldest_trade_us(conn, series_id, to_us(first_up))
    return await select_oldest_trade_us(conn, series_id, 0) if since_us is None else since_us


async def _last_sign(conn: Connection, kind: str, series_id: int, since_us: int, until_us: int) -> int:
    """Just after the last tick before `until_us`."""
    if until_us <= since_us:
        return since_us
    newest_us = await select_newest_us(conn, kind, series_id, TimeRange(since_us, until_us))
    return since_us if newest_us is None else newest_us + 1
