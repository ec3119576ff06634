"""Print the seconds that a bare binary COPY of 1 M minute bars takes into a table like `bars`, committed.

The bytes are made before the clock starts: what is measured is PostgreSQL and asyncpg, nothing else.
"""

import asyncio
import sys
import time

import asyncpg
import numpy as np

ROWS = 1_000_000
PG_EPOCH_US = 946_684_800_000_000
HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
FIELDS = (("series_id", ">i4"), ("time", ">i8"), *((n, ">f8") for n in ("open", "high", "low", "close", "volume")),
          ("flags", ">i2"), ("batch_id", ">i8"))  # fmt: skip


def rows() -> bytes:
    layout: list[tuple[str, str]] = [("count", ">i2")]
    for name, kind in FIELDS:
        layout += [(f"{name}_length", ">i4"), (name, kind)]
    table = np.zeros(ROWS, np.dtype(layout))
    table["count"] = len(FIELDS)
    for name, kind in FIELDS:
        table[f"{name}_length"] = np.dtype(kind).itemsize
    table["series_id"] = 1
    table["time"] = 1_420_070_400_000_000 - PG_EPOCH_US + np.arange(ROWS) * 60_000_000
    for name in ("open", "high", "low", "close", "volume"):
        table[name] = 100 + np.arange(ROWS) % 1000 / 100
    return HEADER + table.tobytes() + b"\xff\xff"


async def main(database_url: str) -> None:
    data = rows()

    async def pieces():
        for at in range(0, len(data), 1 << 20):
            yield data[at : at + (1 << 20)]

    connection = await asyncpg.connect(database_url)
    await connection.execute("DROP TABLE IF EXISTS bare_copy; CREATE TABLE bare_copy (LIKE bars INCLUDING ALL)")
    began = time.perf_counter()
    await connection.copy_to_table("bare_copy", source=pieces(), format="binary", columns=[name for name, _ in FIELDS])
    print(time.perf_counter() - began)
    await connection.execute("DROP TABLE bare_copy")
    await connection.close()


asyncio.run(main(sys.argv[1]))
