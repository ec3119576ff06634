"""Acceptance of live, 5: fifty clients come at random moments while twenty symbols are live, and miss nothing."""

from itertools import pairwise
from pathlib import Path
from random import Random

import trio
from e2e.conftest import ServerMaker
from e2e.followers import SETTLING, Follower, by_opening, following, rows_of, values_of
from e2e.ledger import recorded, stored
from e2e.live_stubs import Row
from e2e.running import Server, until
from e2e.tapes import only_replay, position_us, put_in, write_tape

from timebase.model.timerange import DAY_US, MINUTE_US, SECOND_US

BEGIN_US = 19_700 * DAY_US + 7 * SECOND_US
SPEED = 60  # a minute a second
LENGTH_US = 10 * MINUTE_US
RATE = 200  # trades a second of each symbol, as it is played
SYMBOLS = [f"S{n}-USD" for n in range(20)]
CLIENTS = 50
SEED = 5


def made_tape(random: Random) -> list[Row]:
    count = RATE * LENGTH_US // SECOND_US // SPEED
    times = sorted(random.randrange(LENGTH_US) for _ in range(count))
    return [
        (BEGIN_US + at, random.randrange(50, 60) / 2, float(random.randrange(1, 9)), n + 1)
        for n, at in enumerate(times)
    ]


class Visitor:
    """One client: when it comes, and since when it wants to know. Units: µs of tape time."""

    def __init__(self, random: Random, number: int) -> None:
        self.symbol = SYMBOLS[number % len(SYMBOLS)]
        self.comes_us = BEGIN_US + random.randrange(2 * MINUTE_US, LENGTH_US - MINUTE_US)
        self.from_us = random.randrange(BEGIN_US, self.comes_us - MINUTE_US) // 1000 * 1000
        self.trades, self.bars = f"trades:{self.symbol}@replay", f"bars:{self.symbol}:1m@replay"
        self.follower = Follower()

    async def visit(self, server: Server) -> None:
        wanted = [self.trades, self.bars]
        await self.follower.follow(server, {"channels": wanted, "from": self.from_us // 1000})

    def has_seen_all(self, last: Row) -> bool:
        last_us = (last[0] // MINUTE_US) * MINUTE_US
        is_told = any(event["id"] == last[3] for event in self.follower.of(self.trades, "trade")[-1:])
        return is_told and any(at == last_us for at in by_opening(self.follower.bars(self.bars, *SETTLING)))


async def test_who_comes_while_it_is_live_gets_everything_once_and_in_order(home: Path, serving: ServerMaker) -> None:
    random = Random(SEED)
    print(f"seed {SEED}")
    only_replay(home)
    tapes = {symbol: made_tape(random) for symbol in SYMBOLS}
    files = {symbol: write_tape(home / f"{symbol}.csv", rows) for symbol, rows in tapes.items()}
    visitors = sorted((Visitor(random, n) for n in range(CLIENTS)), key=lambda each: each.comes_us)
    everything = [f"trades:{symbol}@replay" for symbol in SYMBOLS]
    with serving(home, lateness_s=0.5) as server:
        await put_in(server, tapes="\n".join(f"{s}={file}" for s, file in files.items()), speed=SPEED, state="paused")
        async with following(server, {"channels": everything}) as first, trio.open_nursery() as nursery:
            for channel in everything:
                await first.hears(lambda event, c=channel: event.get("state") == "live" and event["channel"] == c)
            await put_in(server, state="playing")
            for visitor in visitors:
                await until(lambda visitor=visitor: _is_past(server, visitor.comes_us), 60)
                nursery.start_soon(visitor.visit, server)
            for visitor in visitors:
                await until(lambda visitor=visitor: visitor.has_seen_all(tapes[visitor.symbol][-1]), 60)
            nursery.cancel_scope.cancel()
        for symbol in SYMBOLS:
            assert await recorded(server, symbol) == tapes[symbol]
        for visitor in visitors:
            _check_trades(visitor, tapes[visitor.symbol])
            _check_bars(visitor, rows_of(await stored(server, visitor.symbol)))
        histories = [end["count"] for each in visitors for end in each.follower.of(each.trades, "history_end")]
        assert len(histories) == CLIENTS
        assert sum(histories) > CLIENTS * RATE, "they came before there was any history"


async def _is_past(server: Server, at_us: int) -> bool:
    return await position_us(server) >= at_us


def _check_trades(visitor: Visitor, tape: list[Row]) -> None:
    told = visitor.follower.of(visitor.trades, "trade")
    assert not visitor.follower.of(visitor.trades, "dropped", "error")
    rows = [(round(event["time"] * 1000), event["price"], event["size"], event["id"]) for event in told]
    assert rows == [row for row in tape if row[0] >= visitor.from_us], visitor.symbol
    leaps = [(sooner, later) for sooner, later in pairwise(told) if later["seq"] != sooner["seq"] + 1]
    assert not leaps, (visitor.symbol, leaps, visitor.follower.of(visitor.trades, "subscribed", "history_end"))


def _check_bars(visitor: Visitor, held: dict[int, tuple[float, ...]]) -> None:
    told = visitor.follower.bars(visitor.bars, *SETTLING)
    assert not visitor.follower.of(visitor.bars, "dropped", "error")
    opened = [event["time"] * 1000 for event in told]
    since_us = max(visitor.from_us // MINUTE_US * MINUTE_US, BEGIN_US // MINUTE_US * MINUTE_US + MINUTE_US)
    assert opened == list(range(since_us, opened[-1] + 1, MINUTE_US)), (visitor.symbol, opened)
    assert {at: values_of(event) for at, event in zip(opened, told, strict=True)} == {at: held[at] for at in opened}
    numbers = [event["seq"] for event in told]
    assert numbers == sorted(set(numbers))
