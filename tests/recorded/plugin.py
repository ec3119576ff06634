"""A plugin's process on a link of its own, as the supervisor starts it."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from timebase.errors import ProviderError
from timebase.link.address import open_run_directory
from timebase.link.provider_link import ProviderLink, open_link
from timebase.model.bars import Bars
from timebase.model.demand import Demand
from timebase.model.instrument import AssetClass, CorporateAction, Instrument
from timebase.model.interval import Interval
from timebase.model.series import Series
from timebase.model.timerange import TimeRange

ROOT = Path(__file__).parents[2]


@dataclass
class Plugin:
    link: ProviderLink
    pid: int
    methods: tuple[str, ...] = ()
    spent: list[int] = field(default_factory=list)
    refusal: ProviderError | None = None
    log: list[str] = field(default_factory=list)

    async def spend(self, n: int) -> None:
        await trio.lowlevel.checkpoint()
        if self.refusal is not None:
            raise self.refusal
        self.spent.append(n)

    async def ask(
        self, symbol: str, asset_class: AssetClass, interval: Interval, start_us: int, end_us: int
    ) -> tuple[Bars, Sequence[CorporateAction]]:
        """Raises: the ProviderError that the answer ended with."""
        series = Series(1, 1, symbol, "test", interval)
        demand = Demand(1, series, Instrument(1, symbol, asset_class), TimeRange(start_us, end_us))
        pages: list[Bars] = []
        actions: list[CorporateAction] = []
        async with self.link.history(demand) as answer:
            async for part in answer:
                if isinstance(part, Bars):
                    pages.append(part)
                else:
                    actions.extend(part)
        return Bars.concat(pages), actions

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        await self.link.run(
            self.spend, lambda level, text: self.log.append(f"{level}: {text}"), task_status=task_status
        )


@asynccontextmanager
async def open_plugin(entrypoint: str, options: Mapping[str, object], cache_dir: Path) -> AsyncIterator[Plugin]:
    """A process that has been set up; killed when the block is left."""
    command = [sys.executable, "-m", "timebase.sdk.run", entrypoint]
    with open_run_directory() as directory:
        address = directory.new_address()
        environ = {"PATH": os.environ["PATH"], "TZ": "UTC", "TIMEBASE_LINK": address, "PYTHONPATH": str(ROOT)}
        async with open_link(address) as link, trio.open_nursery() as nursery:
            process = await trio.lowlevel.open_process(command, env=environ, stdin=subprocess.PIPE)
            plugin = Plugin(link, process.pid)
            try:
                await nursery.start(plugin.run)
                plugin.methods = await link.hello(slug="test", options=options, secrets={}, cache_dir=cache_dir)
                yield plugin
            finally:
                nursery.cancel_scope.cancel()
                process.kill()
                with trio.CancelScope(shield=True):
                    await process.wait()
