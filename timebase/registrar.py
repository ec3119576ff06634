"""roster's changes -> [registrar] -> the tables `providers` and `instruments`, for those who read the database."""

import logging
from contextlib import suppress

import orjson
import trio

from timebase.errors import StoreUnavailable
from timebase.model.instrument import Instrument
from timebase.storage.queries.providers import ProviderRow
from timebase.storage.store import Store
from timebase.supervisor.handle import DISABLED, ProviderState
from timebase.supervisor.roster import Roster

logger = logging.getLogger(__name__)

RETRY_S = 5.0  # while the database is away


async def run_registrar(
    store: Store, roster: Roster, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Runs until it is cancelled. What changes while it writes is written next: only the newest state matters."""
    changes, seen = trio.open_memory_channel[None](1)

    def on_change(_: str) -> None:
        with suppress(trio.WouldBlock):  # the one that waits will see this change too
            changes.send_nowait(None)

    roster.on_change.append(on_change)
    on_change("")
    task_status.started()
    try:
        known: tuple[Instrument, ...] = ()
        async for _ in seen:
            known = await _register(store, roster, known)
    finally:
        roster.on_change.remove(on_change)


async def _register(store: Store, roster: Roster, known: tuple[Instrument, ...]) -> tuple[Instrument, ...]:
    """Returns: the instruments that the store knows now, like `known` before; they may be thousands."""
    while True:
        try:
            await store.put_providers([_row(state) for state in roster.all()])
            listed = roster.symbols()
            if listed != known:
                await store.upsert_instruments(listed)
        except StoreUnavailable as exc:
            logger.info("providers are registered later: %s", exc)
            await trio.sleep(RETRY_S)
        else:
            return listed


def _row(state: ProviderState) -> ProviderRow:
    manifest = state.manifest
    config = {
        "description": manifest.description,
        "priority": manifest.priority,
        "cost": manifest.cost,
        "rate_limits": [[window.requests, window.window_s] for window in manifest.rate_limits],
    }
    capabilities = {
        "capabilities": sorted(manifest.capabilities),
        "asset_classes": sorted(manifest.asset_classes),
        "intervals": sorted(manifest.intervals),
    }
    return ProviderRow(
        state.slug,
        state.name,
        state.version,
        state.state != DISABLED,
        orjson.dumps(config).decode(),
        orjson.dumps(capabilities).decode(),
    )
