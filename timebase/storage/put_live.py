"""The one transaction that makes live batches durable: ticks, the bars they closed, provenance and ledger, or none."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from timebase.model.bars import Bars
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
from timebase.storage.queries.live import open_delivery, words_insert
from timebase.storage.queries.query import ask
from timebase.storage.queries.ticks import copy_quotes, copy_trades, held_query, select_keys
from timebase.storage.tick_rows import Span, TickRows, TradeKeys, key_spans, unseen


@dataclass(frozen=True, slots=True)
class StoredLive:
    """`ledgers` are those of the bar series that were claimed something of, as they are now."""

    commit_id: int
    ledgers: dict[int, Ledger] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Standing:
    """What was stored before: the spans with numbered trades, bars by series (see times_of_few), the ledgers."""

    held: list[Span] = field(default_factory=list)
    bars: dict[int, Bars] = field(default_factory=dict)
    ledgers: dict[int, Ledger] = field(default_factory=dict)


async def put_live(conn: Connection, what: Gathered, delivery: Delivery, *, has_rollup: bool = False) -> StoredLive:
    """Make `what` durable. Repeating it with the same `delivery` changes nothing. `has_rollup`: see put_batches."""
    async with conn.transaction():
        commit_id, is_made_now = await open_delivery(conn, delivery, what.compared_ids)
        if not is_made_now:
            return StoredLive(commit_id)
        before = await _standing(conn, what)
        trades = await _new_trades(conn, what.trades, before.held)
        if len(trades):
            await copy_trades(conn, trades, commit_id)
        if len(what.quotes):
            await copy_quotes(conn, what.quotes, commit_id)
        ledgers = claimed(before.ledgers, what.claims)
        words = [words_insert(what.words)] if what.words else []
        if what.bars:
            changes = (extras_upsert(what.extras), *ledger_changes(before.ledgers, ledgers), *words)
            ids, *_ = await ask(conn, batches_insert(what.bars), *changes)
            await put_bars(conn, what.bars, ids, before.bars, has_rollup=has_rollup)
        else:
            await ask(conn, *words)
    return StoredLive(commit_id, ledgers)


async def _standing(conn: Connection, what: Gathered) -> _Standing:
    spans = key_spans(what.trades)
    if what.bars:
        times = times_of_few((batch.series, batch.bars) for batch in what.bars)
        return _Standing(*await ask(conn, held_query(spans), bars_query(times), ledgers_query(sorted(what.claims))))
    return _Standing(*await ask(conn, held_query(spans))) if spans else _Standing()


async def _new_trades(conn: Connection, rows: TickRows[Trades], held: Sequence[Span]) -> TickRows[Trades]:
    """Without those that are stored already, as after a plugin has told the last second twice."""
    is_new = unseen(TradeKeys.of(rows), await select_keys(conn, held))
    return rows if is_new.all() else rows.pick(is_new)
