"""corporate_actions: splits and dividends, by which raw prices are adjusted when read."""

from collections.abc import Iterable
from datetime import UTC, datetime

from timebase.model.bars import Batch
from timebase.model.instrument import CorporateAction
from timebase.model.timerange import DAY_US, EPOCH, TimeRange, to_datetime, to_us
from timebase.storage.annex import Connection
from timebase.storage.text import clean

_FIRST_US, _LAST_US = (to_us(datetime(year, 1, 1, tzinfo=UTC)) for year in (1700, 9999))  # else not a date of ours

_UPSERT = """
INSERT INTO corporate_actions AS known (instrument_id, provider, ex_date, kind, value, currency)
SELECT * FROM unnest($1::integer[], $2::text[], $3::date[], $4::text[], $5::float8[], $6::text[])
    ON CONFLICT (instrument_id, provider, ex_date, kind) DO UPDATE
   SET value = excluded.value, currency = excluded.currency, noted_at = now()
 WHERE (known.value, known.currency) IS DISTINCT FROM (excluded.value, excluded.currency)
"""

_SELECT = """
SELECT ex_date, kind, value, currency
  FROM corporate_actions
 WHERE instrument_id = $1 AND provider = $2
 ORDER BY ex_date, kind
"""


_DELETE = """
DELETE FROM corporate_actions
 WHERE instrument_id = $1 AND provider = $2 AND ex_date >= $3 AND ex_date < $4
"""


async def upsert_actions(conn: Connection, batches: Iterable[Batch]) -> None:
    newest = {
        (batch.series.instrument_id, batch.series.provider, action.ex_date_us // DAY_US, clean(action.kind)): action
        for batch in batches
        for action in batch.actions
        if _FIRST_US <= action.ex_date_us < _LAST_US
    }
    if not newest:
        return
    keys = sorted(newest)
    await conn.execute(
        _UPSERT,
        [key[0] for key in keys],
        [key[1] for key in keys],
        [to_datetime(key[2] * DAY_US).date() for key in keys],
        [key[3] for key in keys],
        [newest[key].value for key in keys],
        [clean(newest[key].currency) for key in keys],
    )


async def select_actions(conn: Connection, instrument_id: int, provider: str) -> tuple[CorporateAction, ...]:
    """Order: by ex-date."""
    return tuple(
        CorporateAction((row["ex_date"] - EPOCH.date()).days * DAY_US, row["kind"], row["value"], row["currency"])
        for row in await conn.fetch(_SELECT, instrument_id, provider)
    )


async def delete_actions(conn: Connection, instrument_id: int, provider: str, within: TimeRange) -> None:
    """Those whose ex-date begins in `within`."""
    first, last = to_datetime(within.start_us).date(), to_datetime(within.end_us).date()
    await conn.execute(_DELETE, instrument_id, provider, first, last)
