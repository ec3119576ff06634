"""hours in which minutes changed -> [roll-up] -> hourly_rollup. Only where TimescaleDB is.

What is to be done is noted in the database by whoever changes minutes, so nothing is lost with this process, and the
writer waits for nobody.
"""

import logging

import trio

from timebase.errors import StoreUnavailable
from timebase.storage.store import Store

logger = logging.getLogger(__name__)

PAUSE_S = 10.0  # what was just written is read from the minutes meanwhile


async def run_roll_up(store: Store, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Until it is cancelled."""
    task_status.started()
    while True:
        try:
            is_busy = await store.upkeep.roll_up() > 0
        except StoreUnavailable as error:
            is_busy = False
            logger.info("hours are rolled up later: %s", error)
        if not is_busy:
            await trio.sleep(PAUSE_S)
