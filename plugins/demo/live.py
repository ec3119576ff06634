"""wanted feeds -> their markets' tapes -> the stream, as the clock goes."""

from collections.abc import Callable

import anyio
from markets import MARKETS
from tape import Drip, Tape

from timebase.model.timerange import SECOND_US
from timebase.sdk import FeedKind, Stream, Subscription, SymbolNotFound, Unsupported

Drips = dict[Subscription, Drip]


async def follow(stream: Stream, now_us: Callable[[], int]) -> None:
    """Until cancelled. Each feed begins with its first trade after it was asked for; all have a pulse every second."""
    drips: Drips = {}
    pulse_us = 0
    while True:
        await _heed(stream, drips, now_us())
        at_us = now_us()
        for feed, drip in drips.items():
            for part in drip.until(at_us):
                await _put(stream, feed, part)
        if at_us >= pulse_us:
            await stream.pulse(at_us)
            pulse_us = at_us + SECOND_US
        next_us = min([pulse_us, *(drip.next_us() for drip in drips.values())])
        with anyio.move_on_after((next_us - now_us()) / SECOND_US):
            await stream.changed()


async def _heed(stream: Stream, drips: Drips, now_us: int) -> None:
    """Make `drips` what is wanted."""
    wanted = stream.wanted
    for feed in drips.keys() - set(wanted):
        del drips[feed]
    for feed in wanted:
        if feed in drips:
            continue
        market = MARKETS.get(feed.symbol)
        if market is None:
            await stream.refuse(feed, SymbolNotFound(f"the demo invents prices for {', '.join(MARKETS)} only"))
        elif feed.kind is FeedKind.BARS:
            await stream.refuse(feed, Unsupported("the demo streams trades and quotes; bars are made of them"))
        else:
            drips[feed] = Drip(market, now_us)
            await stream.up(feed)


async def _put(stream: Stream, feed: Subscription, part: Tape) -> None:
    if feed.kind is FeedKind.TRADES:
        await stream.trades(feed, part.time, part.price, part.size, part.side, part.id)
    else:
        await stream.quotes(feed, part.time, part.bid, part.bid_size, part.ask, part.ask_size)
