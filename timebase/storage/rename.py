"""The one transaction that makes the aliases of the configuration those of the store.

Bars that were asked for under a symbol which, as is known now, meant another company then, are no bars of this one:
they leave for the quarantine, the ledger forgets them, and they are asked for again under the right name.
"""

from collections.abc import Sequence

from timebase.clock import now_us
from timebase.model.alias import Aliases
from timebase.model.interval import Interval
from timebase.model.series import Series
from timebase.model.timerange import Ranges
from timebase.storage.annex import Connection
from timebase.storage.queries.aliases import lock_aliases, replace_aliases, select_aliases, select_series_named
from timebase.storage.queries.batches import lock_series
from timebase.storage.queries.corporate_actions import delete_actions
from timebase.storage.queries.coverage import replace_ledgers, select_ledgers
from timebase.storage.queries.set_aside import set_bars_aside
from timebase.storage.queries.stale_hours import note_gone


async def apply_aliases(conn: Connection, aliases: Aliases, *, has_rollup: bool = False) -> tuple[Series, ...]:
    """Returns: the series of which something was taken."""
    async with conn.transaction():
        await lock_aliases(conn)
        before = await select_aliases(conn)
        if before == aliases:
            return ()
        symbols = sorted({alias.symbol for alias in (*before.known, *aliases.known)})
        concerned = await select_series_named(conn, symbols)
        await lock_series(conn, [series.id for series in concerned])
        renamed = [
            series for series in concerned if await _rename(conn, series, before, aliases, has_rollup=has_rollup)
        ]
        await _forget_actions(conn, concerned, before, aliases)
        await replace_aliases(conn, aliases)
    return tuple(renamed)


async def _rename(conn: Connection, series: Series, before: Aliases, after: Aliases, *, has_rollup: bool) -> bool:
    """Whether the series knew anything of a time in which its instrument goes by another name now."""
    changed = before.changed(after, series.symbol, series.provider, series.interval)
    ledgers = await select_ledgers(conn, [series.id])
    kept = {series.id: ledgers[series.id].without(changed, now_us())}
    await replace_ledgers(conn, ledgers, kept)
    for part in changed.parts:
        if has_rollup and series.interval is Interval.M1:
            await note_gone(conn, [series.id], part)
        await set_bars_aside(conn, series.id, part)
    return kept != ledgers


async def _forget_actions(conn: Connection, concerned: Sequence[Series], before: Aliases, after: Aliases) -> None:
    for instrument_id, symbol, provider in {(each.instrument_id, each.symbol, each.provider) for each in concerned}:
        changed: Ranges = before.changed(after, symbol, provider, Interval.D1)
        for part in changed.parts:
            await delete_actions(conn, instrument_id, provider, part)
