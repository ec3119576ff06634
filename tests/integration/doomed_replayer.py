"""A server's writer that somebody is going to kill while it replays its spool: `python doomed_replayer.py URL FOLDER`.

It prints how many files have gone so far, each time that there are more.
"""

import sys
from pathlib import Path

import trio

from timebase.storage.spool import open_spool
from timebase.storage.store import open_store
from timebase.storage.writer import Done, Work, run_writer


async def main(url: str, folder: Path) -> None:
    with open_spool(folder / "spool", 1 << 30) as spool:
        waiting = told = len(spool)
        async with open_store(url, folder) as store, trio.open_nursery() as nursery:
            inlet, inbox = trio.open_memory_channel[Work](1)
            outbox, outlet = trio.open_memory_channel[Done](1)
            async with inlet, outlet:
                await nursery.start(run_writer, inbox, outbox, store, spool)
                while True:
                    if len(spool) != told:
                        told = len(spool)
                        print("gone", waiting - told, flush=True)
                    await trio.sleep(0.001)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], Path(sys.argv[2]))
