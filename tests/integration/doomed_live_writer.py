"""A server's writer that somebody is going to kill while it stores a tape: `python doomed_live_writer.py URL FOLDER`.

Each live batch has 2,000 trades and the minute that they close. It begins some batches before where the store ends, as
a plugin does that tells the last seconds again, and prints the number of each last trade as soon as it is durable.
"""

import sys
from dataclasses import replace
from pathlib import Path

import trio
from integration.market import ALWAYS, minutes
from integration.tape import a_feed, ticked, trades, update

from timebase.model.live import LiveBatch
from timebase.storage.spool import open_spool
from timebase.storage.store import open_store
from timebase.storage.writer import Done, Work, run_writer

TRADES, ROWS = 600_000, 2_000
AGAIN = 5  # batches that are told again


async def main(url: str, folder: Path) -> None:
    tape, bars = trades(TRADES), minutes(TRADES // ROWS)
    async with open_store(url, folder) as store, trio.open_nursery() as nursery:
        feed = await a_feed(store)
        assert feed.ticks is not None
        stored, _ = await store.read_trades(feed.ticks, ALWAYS, limit=1, newest_first=True)
        done = int(stored.id[-1]) // ROWS if len(stored) else 0
        inlet, inbox = trio.open_memory_channel[Work](8)
        outbox, outlet = trio.open_memory_channel[Done](8)
        with open_spool(folder / "spool", 1 << 30) as spool:
            await nursery.start(run_writer, inbox, outbox, store, spool)
            nursery.start_soon(tell, outlet)
            async with inlet:
                for n in range(max(done - AGAIN, 0), TRADES // ROWS):
                    live = ticked(feed, tape.pick(slice(n * ROWS, (n + 1) * ROWS)))
                    await inlet.send(replace(live, updates=(update(feed, bars.pick(slice(n, n + 1))),)))
            await trio.sleep_forever()


async def tell(outlet: trio.MemoryReceiveChannel[Done]) -> None:
    async for done in outlet:
        assert not done.error
        assert isinstance(done.batch, LiveBatch)
        (ticks,) = done.batch.ticks
        assert ticks.trades is not None
        print("stored", int(ticks.trades.id[-1]), flush=True)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], Path(sys.argv[2]))
