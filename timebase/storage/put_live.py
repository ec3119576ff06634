"""The one transaction that makes live batches durable: ticks, the bars they closed, provenance and ledger, or none."""

from dataclasses import dataclass, field

from timebase.model.ticks import Trades
from timebase.storage.annex import Connection
from timebase.storage.coverage import Ledger
from timebase.storage.delivery import Delivery
from timebase.storage.gather import Gathered
from timebase.storage.put import note_claims, put_bars
from timebase.storage.queries.bar_extras import upsert_extras
from timebase.storage.queries.batches import insert_batches, lock_series
from timebase.storage.queries.live import insert_words, note_delivery
from timebase.storage.queries.ticks import copy_quotes, copy_trades, select_stored_keys
from timebase.storage.tick_rows import TickRows, TradeKeys, key_spans, unseen


@dataclass(frozen=True, slots=True)
class StoredLive:
    """`ledgers` are those of the bar series that were claimed something of, as they are now."""

    commit_id: int
    ledgers: dict[int, Ledger] = field(default_factory=dict)


async def put_live(conn: Connection, what: Gathered, delivery: Delivery, *, has_rollup: bool = False) -> StoredLive:
    """Make `what` durable. Repeating it with the same `delivery` changes nothing. `has_rollup`: see put_batches."""
    async with conn.transaction():
        commit_id, is_made_now = await note_delivery(conn, delivery)
        if not is_made_now:
            return StoredLive(commit_id)
        if compared := what.compared_ids:
            await lock_series(conn, compared)
        trades = await _new_trades(conn, what.trades)
        if len(trades):
            await copy_trades(conn, trades, commit_id)
        if len(what.quotes):
            await copy_quotes(conn, what.quotes, commit_id)
        await insert_words(conn, what.words)
        ledgers = await _put_bars(conn, what, has_rollup) if what.bars else {}
    return StoredLive(commit_id, ledgers)


async def _new_trades(conn: Connection, rows: TickRows[Trades]) -> TickRows[Trades]:
    """Without those that are stored already, as after a plugin has told the last second twice."""
    is_new = unseen(TradeKeys.of(rows), await select_stored_keys(conn, key_spans(rows)))
    return rows if is_new.all() else rows.pick(is_new)


async def _put_bars(conn: Connection, what: Gathered, has_rollup: bool) -> dict[int, Ledger]:
    await put_bars(conn, what.bars, await insert_batches(conn, what.bars), has_rollup=has_rollup)
    await upsert_extras(conn, what.extras)
    return await note_claims(conn, what.claims)
