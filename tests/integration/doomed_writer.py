"""A server's writer that somebody is going to kill: `python doomed_writer.py URL FOLDER`.

It hands in a million minutes from where the ledger ends, and prints the end of every range as soon as it is durable.
"""

import sys
from pathlib import Path

import trio
from integration.market import MONDAY_US, a_series, cut, minutes

from timebase.model.bars import Durable
from timebase.storage.spool import open_spool
from timebase.storage.store import open_store
from timebase.storage.writer import Done, Work, run_writer

BARS = 1_000_000


async def main(url: str, folder: Path) -> None:
    bars = minutes(BARS)
    async with open_store(url, folder) as store, trio.open_nursery() as nursery:
        series = await a_series(store)
        settled = (await store.coverage(series.id)).settled
        begin = settled.parts[-1].end_us if settled else MONDAY_US
        inlet, inbox = trio.open_memory_channel[Work](4)
        outbox, outlet = trio.open_memory_channel[Done](4)
        with open_spool(folder / "spool", 1 << 30) as spool:
            await nursery.start(run_writer, inbox, outbox, store, spool)
            nursery.start_soon(tell, outlet)
            async with inlet:
                for batch in cut(series, bars.within(begin, 4 * 10**15), 20_000):
                    await inlet.send(batch)
            await trio.sleep_forever()


async def tell(outlet: trio.MemoryReceiveChannel[Done]) -> None:
    async for durable in outlet:
        assert isinstance(durable, Durable)
        assert not durable.error
        print("spooled" if durable.is_spooled else "stored", durable.batch.covers.end_us, flush=True)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], Path(sys.argv[2]))
