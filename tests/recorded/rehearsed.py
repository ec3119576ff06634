"""A provider's stream with a test in the core's place, on asyncio as the vendors' libraries want it."""

from collections.abc import Awaitable, Callable

import anyio

from timebase.sdk import Provider
from timebase.sdk.rehearsal import Heard, Rehearsal, open_rehearsal


def run_rehearsal(provider: Provider, act: Callable[[Rehearsal], Awaitable[None]], limit_s: float) -> None:
    async def main() -> None:
        with anyio.fail_after(limit_s):
            async with open_rehearsal(provider) as core:
                await act(core)

    anyio.run(main, backend="asyncio")


async def heard(core: Rehearsal, wanted: Callable[[Heard], bool]) -> Heard:
    """The next that `wanted` says yes to; all else is passed over."""
    while not wanted(found := await core.next()):
        pass
    return found
