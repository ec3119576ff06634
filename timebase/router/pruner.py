"""[pruner] -> ledger: once an hour, what no rate window looks back to any more is forgotten."""

import logging

import trio

from timebase.errors import StoreUnavailable
from timebase.router.router import Router

log = logging.getLogger(__name__)

EVERY_S = 3_600.0


async def run_pruner(router: Router, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Runs until it is cancelled. While the store is away nothing grows, so it just looks again an hour later."""
    task_status.started()
    while True:
        await trio.sleep(EVERY_S)
        try:
            await router.prune_ledger()
        except StoreUnavailable as exc:
            log.info("the ledger of rate budgets is not pruned this time: %s", exc)
