"""Keeps one provider alive: start, wait for its end, pause, start again, for ever."""

import logging

import trio

from timebase.clock import now_us
from timebase.link.address import RunDirectory
from timebase.model.timerange import SECOND_US
from timebase.supervisor.backoff import Backoff
from timebase.supervisor.handle import BACKING_OFF, STARTING, ProviderHandle
from timebase.supervisor.life import Ending, Spend, live
from timebase.supervisor.process import Home
from timebase.supervisor.settings import SupervisorSettings

logger = logging.getLogger("timebase.supervisor")


async def keep(
    handle: ProviderHandle, home: Home, run_directory: RunDirectory, settings: SupervisorSettings, spend: Spend
) -> None:
    """Never gives up, and never returns: cancel it."""
    backoff = Backoff()
    while True:
        handle.forget_poke()
        obstacle = handle.obstacle()
        if obstacle is not None:
            handle.become(*obstacle)
            logger.info("%s is %s: %s", handle.slug, *obstacle)
            await handle.poked()
            continue
        handle.become(STARTING)
        ending: Ending | None = None
        with handle.life():
            ending = await live(handle, home, run_directory.new_address(), settings, spend)
        if ending is None:  # by order
            backoff.reset()
        elif ending.is_auth:
            handle.note_fall(ending.reason, was_ready=False)
            handle.fail_auth(ending.reason)
        else:
            await _pause(handle, ending, backoff)


async def _pause(handle: ProviderHandle, ending: Ending, backoff: Backoff) -> None:
    pause_s = backoff.pause_s(ending.ready_s)
    handle.note_fall(ending.reason, was_ready=ending.ready_s > 0)
    handle.become(BACKING_OFF, ending.reason, next_retry_us=now_us() + int(pause_s * SECOND_US))
    logger.warning("%s %s; it is started again in %.1f s", handle.slug, ending.reason, pause_s)
    with trio.move_on_after(pause_s) as pause:
        await handle.poked()
    if not pause.cancelled_caught:
        backoff.reset()
