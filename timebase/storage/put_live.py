"""The one transaction that makes live batches durable: ticks, the bars they closed, provenance and ledger, or none."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from timebase.model.ticks import Trades
from timebase.storage.annex import Connection
from timebase.storage.coverage import Ledger
from timebase.storage.delivery import Delivery
from timebase.storage.gather import Gathered
from timebase.storage.put import claimed, put_bars, times_of_few
from timebase.storage.queries.bar_extras import extras_upsert
from timebase.storage.queries.bars import bars_query
from timebase.storage.queries.batches import batches_insert
from timebase.storage.queries.coverage import ledger_changes, ledgers_query
from timebase.storage.queries.live import Opened, keep_ticks, open_delivery, words_insert
from timebase.storage.queries.query import ask
from timebase.storage.queries.ticks import copy_quotes, copy_trades, select_held, select_keys
from timebase.storage.tick_rows import TickRows, TradeKeys, key_spans, unseen

# Stored one by one, in one way there and back instead of six: half the time of a COPY for 20 ticks, as long for 100.
FEW_TICKS = 128


@dataclass(frozen=True, slots=True)
class StoredLive:
    """`ledgers` are those of the bar series that were claimed something of, as they are now."""

    commit_id: int
    ledgers: dict[int, Ledger] = field(default_factory=dict)


async def put_live(conn: Connection, what: Gathered, delivery: Delivery, *, has_rollup: bool = False) -> StoredLive:
    """Make `what` durable. Repeating it with the same `delivery` changes nothing. `has_rollup`: see put_batches."""
    if _has_few_ticks(what) and not what.bars and not what.words:
        return StoredLive((await _put_ticks(conn, what, delivery)).commit_id)
    async with conn.transaction():
        opened = await _put_ticks(conn, what, delivery)
        if not opened.is_made_now:
            return StoredLive(opened.commit_id)
        words = [words_insert(what.words)] if what.words else []
        if not what.bars:
            await ask(conn, *words)
            return StoredLive(opened.commit_id)
        times = times_of_few((batch.series, batch.bars) for batch in what.bars)
        bars, before = await ask(conn, bars_query(times), ledgers_query(sorted(what.claims)))
        ledgers = claimed(before, what.claims)
        changes = (extras_upsert(what.extras), *ledger_changes(before, ledgers), *words)
        ids, *_ = await ask(conn, batches_insert(what.bars), *changes)
        await put_bars(conn, what.bars, ids, bars, has_rollup=has_rollup)
    return StoredLive(opened.commit_id, ledgers)


def _has_few_ticks(what: Gathered) -> bool:
    return len(what.trades) + len(what.quotes) <= FEW_TICKS


async def _put_ticks(conn: Connection, what: Gathered, delivery: Delivery) -> Opened:
    """Open the commit and store its ticks, of the trades only those that are not stored already."""
    if _has_few_ticks(what):
        trades = _where(what.trades, unseen(TradeKeys.of(what.trades)))
        return await keep_ticks(conn, delivery, what.compared_ids, trades, what.quotes)
    opened = await open_delivery(conn, delivery, what.compared_ids)
    if opened.is_made_now:
        held = await select_held(conn, key_spans(what.trades))
        trades = _where(what.trades, unseen(TradeKeys.of(what.trades), await select_keys(conn, held)))
        if len(trades):
            await copy_trades(conn, trades, opened.commit_id)
        if len(what.quotes):
            await copy_quotes(conn, what.quotes, opened.commit_id)
    return opened


def _where(rows: TickRows[Trades], is_new: NDArray[np.bool_]) -> TickRows[Trades]:
    return rows if is_new.all() else rows.pick(is_new)
