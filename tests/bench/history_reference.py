"""The reference: what one would write in an afternoon with the fastest usual parts, returning a list of objects.

FastAPI + uvicorn (uvloop, httptools) + asyncpg + orjson, one worker, the same rows of the same database.
Run: python history_reference.py DATABASE_URL PORT
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import asyncpg
import orjson
import uvicorn
from fastapi import FastAPI, Response

SQL = """
SELECT time, open, high, low, close, volume FROM bars
WHERE series_id = $1 AND time >= $2 AND time < $3 ORDER BY time
"""


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.pool = await asyncpg.create_pool(sys.argv[1], min_size=4, max_size=8)
    yield
    await app.state.pool.close()


app = FastAPI(lifespan=lifespan)


@app.get("/data/{series_id}")
async def data(series_id: int, start: int, end: int) -> Response:
    begin, until = (datetime.fromtimestamp(at, UTC) for at in (start, end))
    rows: list[Any] = await app.state.pool.fetch(SQL, series_id, begin, until)
    return Response(orjson.dumps([dict(row) for row in rows]), media_type="application/json")


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), loop="uvloop", http="httptools", log_level="warning")
