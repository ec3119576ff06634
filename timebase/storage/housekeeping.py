"""What nobody asks for: noticing that the database went or came, starting ours again, forgetting what is too old."""

import logging
from dataclasses import dataclass

import trio

from timebase.clock import now_us
from timebase.errors import StoreUnavailable
from timebase.model.interval import Interval
from timebase.model.timerange import DAY_US
from timebase.storage.store import Store

logger = logging.getLogger(__name__)

PULSE_S = 1.0
PING_S = 5.0
TIDY_S = 24 * 3600.0
FIRST_TIDY_S = 60.0  # not while the server starts
BUDGETS_DAYS = 40  # longer than any rate window in use


@dataclass(frozen=True, slots=True)
class Retention:
    """Units: days that bars and ticks are kept; None: for ever."""

    intraday_days: int | None = None
    daily_days: int | None = None
    ticks_days: int | None = None


async def run_housekeeping(
    store: Store, retention: Retention, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Until it is cancelled."""
    task_status.started()
    next_tidy = trio.current_time() + FIRST_TIDY_S
    while True:
        await trio.sleep(PULSE_S)
        is_up = await _feel_pulse(store)
        if is_up and trio.current_time() >= next_tidy:
            next_tidy = await tidy(store, retention)


async def _feel_pulse(store: Store) -> bool:
    try:
        with trio.fail_after(PING_S):
            await store.ping()
    except (StoreUnavailable, trio.TooSlowError):
        await _try_to_revive(store)
        return False
    return True


async def _try_to_revive(store: Store) -> None:
    try:
        await store.revive()
    except StoreUnavailable as error:
        logger.warning("%s", error)


async def tidy(store: Store, retention: Retention) -> float:
    """Returns: when to tidy up again."""
    try:
        await forget_old(store, retention)
        await store.prune_budget_takes(now_us() - BUDGETS_DAYS * DAY_US)
    except StoreUnavailable as error:
        logger.warning("tidying up is put off: %s", error)
        return trio.current_time() + FIRST_TIDY_S
    return trio.current_time() + TIDY_S


async def forget_old(store: Store, retention: Retention) -> int:
    """Drop the bars that `retention` does not keep, and the claim to have them; and ticks, by whole days.

    Returns: how many series of bars were touched.
    """
    kept_days = {
        interval: retention.intraday_days if interval.is_intraday else retention.daily_days for interval in Interval
    }
    cutoffs = {interval: now_us() - days * DAY_US for interval, days in kept_days.items() if days is not None}
    touched = await store.upkeep.forget_before(cutoffs) if cutoffs else 0
    if retention.ticks_days is not None:
        today_us = now_us() // DAY_US * DAY_US
        if await store.upkeep.forget_ticks(today_us - retention.ticks_days * DAY_US):
            logger.info("ticks of more than %d days ago are gone", retention.ticks_days)
    if touched:
        logger.info("bars of %d series were older than is kept, and are gone", touched)
    return touched
