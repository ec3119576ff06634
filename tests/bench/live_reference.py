"""The live reference: what one would write in an afternoon with the fastest usual parts, one JSON frame per event.

A feeder process publishes to Redis, FastAPI + uvicorn (uvloop, C websockets) forwards to every client of the channel.
Run: python live_reference.py serve PORT REDIS_PORT, or: python live_reference.py feed REDIS_PORT RATE SECONDS SYMBOL …
"""

import asyncio
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import orjson
import redis.asyncio as redis
import uvicorn
import uvloop
from fastapi import FastAPI, WebSocket, WebSocketDisconnect

TURN_S = 0.005
followers: defaultdict[str, set[asyncio.Queue[str]]] = defaultdict(set)


async def forward(port: int) -> None:
    async with redis.Redis(port=port).pubsub() as pubsub:
        await pubsub.psubscribe("*")
        async for message in pubsub.listen():
            if message["type"] == "pmessage":
                text = message["data"].decode()
                for queue in followers[message["channel"].decode()]:
                    queue.put_nowait(text)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    task = asyncio.create_task(forward(int(sys.argv[3])))
    yield
    task.cancel()


app = FastAPI(lifespan=lifespan)


@app.websocket("/ws")
async def stream(socket: WebSocket) -> None:
    await socket.accept()
    queue: asyncio.Queue[str] = asyncio.Queue()
    channels = (await socket.receive_json())["channels"]
    for channel in channels:
        followers[channel].add(queue)
    try:
        with suppress(WebSocketDisconnect):
            while True:
                await socket.send_text(await queue.get())
    finally:
        for channel in channels:
            followers[channel].discard(queue)


async def feed(port: int, rate: float, seconds: float, symbols: list[str]) -> None:
    """`rate` trades a second of each symbol, one symbol after the other within a trade's time; all that are due in one
    pipeline: the fastest way to publish.
    """
    client = redis.Redis(port=port)
    began, sent = time.perf_counter(), [0] * len(symbols)
    while (spent := time.perf_counter() - began) < seconds:
        async with client.pipeline(transaction=False) as pipe:
            for place, symbol in enumerate(symbols):
                due = int(spent * rate + place / len(symbols))
                for number in range(sent[place], due):
                    trade = {
                        "type": "trade",
                        "channel": f"trades:{symbol}",
                        "seq": number,
                        "time": time.time_ns() / 1e6,
                    }
                    trade |= {"price": 100.0 + number % 1000 / 100, "size": 1.0, "side": "buy", "id": number}
                    pipe.publish(f"trades:{symbol}", orjson.dumps(trade))
                sent[place] = due
            await pipe.execute()
        await asyncio.sleep(TURN_S)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        uvicorn.run(
            app,
            host="127.0.0.1",
            port=int(sys.argv[2]),
            loop="uvloop",
            ws="websockets",
            log_level="critical",  # its clients leave without a goodbye
            timeout_graceful_shutdown=1,
        )
    else:
        uvloop.run(feed(int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]), sys.argv[5:]))
