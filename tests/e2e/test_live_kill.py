"""Acceptance of live, 4: kill -9 of the plugin and of the core in the middle of a replay."""

import gzip
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from random import Random

import psutil
import pytest
import trio
from e2e.conftest import ServerMaker
from e2e.followers import SETTLING, Follower, Values, by_opening, rows_of, values_of
from e2e.ledger import recorded, stored
from e2e.live_stubs import Row
from e2e.running import Server, is_ready, states, until
from e2e.tapes import REPLAY, only_replay, put_in, write_tape

from timebase.aggregation.rebuild import rebuild
from timebase.model.interval import Interval
from timebase.model.replay import REPLAY_SLUG
from timebase.model.ticks import Trades
from timebase.model.timerange import DAY_US, MINUTE_US, SECOND_US
from timebase.replay import Replay
from timebase.supervisor.process import Home

RUN_OUT_US = 2 * MINUTE_US  # the tape's clock goes on behind the last trade
LATENESS_US = SECOND_US // 2
LEAD_US = 70 * DAY_US
BEGIN_US = 20_000 * DAY_US
TOLERANCE = 1e-9  # of volumes, which may be added up in another order


def recorded_night(shared_data: Path) -> list[Row]:
    """Bitcoin on Binance, every trade across midnight UTC of 2024-08-09."""
    rows: list[Row] = []
    for name in ("btcusdt_20240808.gz", "btcusdt_20240809.gz"):
        with gzip.open(shared_data / "hftbacktest_ws" / "spot" / name, "rt") as lines:
            bodies = (json.loads(line.split(" ", 1)[1]).get("data", {}) for line in lines if '@trade"' in line[:60])
            rows += [(b["T"] * 1000, float(b["p"]), float(b["q"]), b["t"]) for b in bodies]
    return rows


def made_week(seed: int = 8) -> list[Row]:
    """A walk of prices with a trade every few minutes, so that every interval but the month ends in it."""
    random, at, price = Random(seed), 1_704_067_200_000_000 + 7 * MINUTE_US, 100.0
    rows: list[Row] = []
    for number in range(1, 12_001):
        at += random.randrange(1, 90 * SECOND_US)
        price = max(1.0, price + random.choice((-0.5, 0.0, 0.25, 0.5)))
        rows.append((at, price, random.randrange(1, 1_000) / 8, number))
    return rows


def made_winter(seed: int = 9) -> list[Row]:
    """From 1 January to 2 March with a trade every quarter of an hour or so: weeks and a month that end in it."""
    random, at, price = Random(seed), 1_704_067_200_000_000 + 7 * MINUTE_US, 100.0
    rows: list[Row] = []
    while at < 1_709_337_600_000_000:
        price = max(1.0, price + random.choice((-0.5, 0.0, 0.25, 0.5)))
        rows.append((at, price, random.randrange(1, 1_000) / 8, len(rows) + 1))
        at += random.randrange(1, 30 * MINUTE_US)
    return rows


def led(rows: list[Row]) -> list[Row]:
    """The same behind a trade of months before: history knows then that the first periods are whole, too."""
    at, price, size, _ = rows[0]
    return [(at - LEAD_US, price, size, rows[-1][3] + 1), *rows]


def truth_of(rows: list[Row], interval: Interval) -> dict[int, Values]:
    """All of the tape's bars but one that is not over when the tape runs out."""
    time, price, size, ids = zip(*rows, strict=True)
    bars = rows_of(rebuild(Trades.of(time, price, size, id=ids), intervals=[interval])[interval].bars)
    return {at: bar for at, bar in bars.items() if interval.end_us(at) <= time[-1] + RUN_OUT_US - LATENESS_US}


def close(bars: dict[int, Values]) -> dict[int, object]:
    """Prices exactly, volumes nearly."""
    return {at: (bar[:4], pytest.approx(bar[4], rel=TOLERANCE)) for at, bar in bars.items()}


def split(bars: dict[int, Values]) -> dict[int, object]:
    return {at: (bar[:4], bar[4]) for at, bar in bars.items()}


class Doom:
    """Follows across every kill, and kills."""

    def __init__(self, server: Server, channels: list[str], begin_us: int) -> None:
        self.server = server
        self.follower = Follower()
        self.is_up = trio.Event()
        self._subscription = {"channels": channels, "from": begin_us // 1000}
        self._ends = False

    async def follow(self) -> None:
        while True:
            self.is_up = trio.Event()
            await self.follower.follow(self.server, self._subscription)
            await self.is_up.wait()

    async def kill_the_plugin(self) -> None:
        async with self.server.client() as client:
            pid = (await states(client))["replay"]["pid"]
            psutil.Process(pid).kill()
            await until(lambda: is_ready(client, "replay", but_not=pid))

    async def kill_the_core(self) -> None:
        await trio.to_thread.run_sync(self.server.kill)
        await trio.to_thread.run_sync(self.server.start)
        self.is_up.set()

    async def is_past(self, position_us: int) -> bool:
        async with self.server.client() as client:
            return ((await client.get(REPLAY)).json()["position"] or 0) * 1000 >= position_us

    async def has_ended(self) -> bool:
        async with self.server.client() as client:
            return (await client.get(REPLAY)).json()["state"] == "ended"


def _moments(rows: list[Row], n: int, seed: int) -> Iterator[int]:
    """Where on the tape to kill."""
    random, begin_us, length_us = Random(seed), rows[0][0], rows[-1][0] - rows[0][0]
    return (begin_us + int(length_us * (k + random.random()) / n) for k in range(n))


@pytest.mark.shared
async def test_what_a_recorded_night_leaves_is_the_same_however_often_plugin_and_core_are_killed(
    home: Path, serving: ServerMaker, shared_data: Path
) -> None:
    rows = recorded_night(shared_data)
    assert len(rows) == 19_904
    await _play_and_kill(home, serving, rows, speed=90, intervals=[Interval.M1, Interval.M5], kills=2, seed=1)


async def test_what_a_week_leaves_is_the_same_however_often_plugin_and_core_are_killed(
    home: Path, serving: ServerMaker
) -> None:
    rows = made_week()
    intervals = [each for each in Interval if each not in (Interval.W1, Interval.MO1)]
    await _play_and_kill(home, serving, rows, speed=100_000, intervals=intervals, kills=2, seed=2)


async def test_what_a_winter_leaves_is_the_same_however_often_plugin_and_core_are_killed(
    home: Path, serving: ServerMaker
) -> None:
    intervals = [Interval.D1, Interval.W1, Interval.MO1]
    await _play_and_kill(home, serving, made_winter(), speed=500_000, intervals=intervals, kills=2, seed=3)


async def _play_and_kill(
    home: Path,
    serving: ServerMaker,
    rows: list[Row],
    *,
    speed: float,
    intervals: list[Interval],
    kills: int,
    seed: int,
) -> None:
    """Every other kill is of the core; the replay goes on five seconds before each."""
    only_replay(home)
    tape, start_ms = write_tape(home / "tape.csv", led(rows)), rows[0][0] // 1000 - 1
    channels = {interval: f"bars:BTC-USDT:{interval}@replay" for interval in intervals}
    with serving(home, lateness_s=LATENESS_US / SECOND_US) as server:
        await put_in(server, tapes=f"BTC-USDT={tape}", speed=speed, position=start_ms, state="playing")
        doom = Doom(server, [*channels.values(), "trades:BTC-USDT@replay"], rows[0][0])
        weapons: list[Callable[[], Awaitable[None]]] = [doom.kill_the_plugin, doom.kill_the_core] * (kills // 2)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(doom.follow)
            for kill, moment in zip(weapons, _moments(rows, kills, seed), strict=True):
                await until(lambda moment=moment: doom.is_past(moment), 60)
                await kill()
            await until(doom.has_ended, 60)
            for interval, channel in channels.items():
                await _compare(server, rows, interval, doom.follower, channel)
            # What is told to have ended may have been so before the last kill: then its end is played once more.
            await until(lambda: _has_recorded(server, len(rows)))
            assert sorted(await recorded(server, "BTC-USDT")) == sorted(rows)
            nursery.cancel_scope.cancel()


async def _has_recorded(server: Server, n: int) -> bool:
    return len(await recorded(server, "BTC-USDT")) >= n


async def _compare(server: Server, rows: list[Row], interval: Interval, follower: Follower, channel: str) -> None:
    truth = truth_of(rows, interval)
    assert truth

    async def is_whole() -> bool:
        return truth.keys() <= rows_of(await stored(server, "BTC-USDT", interval.value)).keys()

    await until(is_whole)
    held = rows_of(await stored(server, "BTC-USDT", interval.value))
    assert split({at: bar for at, bar in held.items() if at in truth}) == close(truth), interval
    told = follower.bars(channel, *SETTLING)
    assert told
    for event in told:
        assert (event["time"] * 1000) in held
    assert split(by_opening(told)) == close({at: held[at] for at in by_opening(told)}), interval
    for event in follower.bars(channel, "closed"):
        at = event["time"] * 1000
        if at in truth:
            assert split({at: values_of(event)}) == close({at: truth[at]}), event


async def test_a_first_minute_whose_heal_was_cut_off_by_a_kill_is_made_after_the_restart(
    home: Path, serving: ServerMaker
) -> None:
    """Killed in the minute in which it first joined; meanwhile the tape is wound on by a quarter of an hour."""
    only_replay(home)
    rows = [(BEGIN_US + n * 2 * SECOND_US, 100.0 + n % 7, 1.0 + n % 3, n + 1) for n in range(900)]
    tape, joined_us = write_tape(home / "tape.csv", rows), BEGIN_US + 5 * MINUTE_US + 20 * SECOND_US
    with serving(home, lateness_s=LATENESS_US / SECOND_US) as server:
        added = server.run("collect", "add", "BTC-USDT", "--interval", "1m", "--provider", "replay")
        assert added.returncode == 0, added.stderr.decode()
        await put_in(server, tapes=f"BTC-USDT={tape}", speed=5, position=joined_us // 1000, state="playing")
        await until(lambda: _has_recorded(server, 3))
        await put_in(server, state="paused")
        await trio.to_thread.run_sync(server.kill)
        hand = Replay(Home.of(server.data_dir, REPLAY_SLUG).cache)
        hand.give(speed=200, is_playing=True, position_us=joined_us + 15 * MINUTE_US)
        await trio.to_thread.run_sync(server.start)

        truth = {at: bar for at, bar in truth_of(rows, Interval.M1).items() if at >= joined_us - MINUTE_US}

        async def is_whole() -> bool:
            return truth.keys() <= rows_of(await stored(server, "BTC-USDT")).keys()

        await until(is_whole, 60)
        assert split(rows_of(await stored(server, "BTC-USDT"))) == close(truth)
