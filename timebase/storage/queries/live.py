"""live_writers and recordings: which live commit was the last one, and when feeds were up."""

from collections.abc import Sequence
from dataclasses import dataclass

from timebase.model.ticks import Quotes, Trades
from timebase.model.timerange import SECOND_US, Ranges, TimeRange, to_datetime, to_us
from timebase.storage.annex import Connection
from timebase.storage.delivery import Delivery
from timebase.storage.queries.batches import lock_args
from timebase.storage.queries.query import Query
from timebase.storage.queries.ticks import select_newest_us, select_oldest_trade_us
from timebase.storage.text import clean
from timebase.storage.tick_rows import TickRows

# Functions of schema/0040_live.sql.
_OPEN = "SELECT opened_id, is_made_now FROM open_live($1, $2, $3, $4)"
_KEEP = """
SELECT opened_id, is_made_now
  FROM keep_ticks($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)
"""

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


@dataclass(frozen=True, slots=True)
class Opened:
    """A live commit's id, and whether it is made now; False: it was made before."""

    commit_id: int
    is_made_now: bool


async def open_delivery(conn: Connection, delivery: Delivery, series_ids: Sequence[int]) -> Opened:
    """With the locks of these series, when it is made now."""
    return Opened(*await conn.fetchrow(_OPEN, delivery.writer, delivery.token, *lock_args(series_ids)))


async def keep_ticks(
    conn: Connection,
    delivery: Delivery,
    series_ids: Sequence[int],
    trades: TickRows[Trades],
    quotes: TickRows[Quotes],
) -> Opened:
    """The same, and the ticks are stored, but for the trades that are stored already; outside a transaction, for good.

    One way there and back for what else takes six, but each row costs more than in a COPY.
    """
    t, q = trades.ticks, quotes.ticks
    times = [to_datetime(us) for us in t.time.tolist()]
    quote_times = [to_datetime(us) for us in q.time.tolist()]
    trade_columns = (each.tolist() for each in (t.price, t.size, t.side, t.id, t.flags))
    quote_columns = (each.tolist() for each in (q.bid, q.bid_size, q.ask, q.ask_size))
    return Opened(*await conn.fetchrow(
        _KEEP, delivery.writer, delivery.token, *lock_args(series_ids), min(times, default=None),
        max(times, default=None), trades.series_id.tolist(), times, *trade_columns,
        quotes.series_id.tolist(), quote_times, *quote_columns,
    ))  # fmt: skip


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
