"""The nights in which New York's clocks change, live: no hour twice, none missing, days and weeks where they belong."""

from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from zoneinfo import ZoneInfo

import pytest
import yaml
from e2e.asked import ask, bars_of
from e2e.conftest import ServerMaker
from e2e.followers import SETTLING, Follower, Values, by_opening, following, rows_of
from e2e.ledger import recorded, stored
from e2e.live_stubs import Row
from e2e.running import Server
from e2e.tapes import only_replay, put_in, write_tape

from timebase.aggregation.rebuild import rebuild
from timebase.model.calendar import Calendar
from timebase.model.interval import Interval
from timebase.model.ticks import Trades
from timebase.model.timerange import MINUTE_US, TimeRange, to_us

ZONES = {"AAPL": "America/New_York", "BTC-USDT": ""}
INTERVALS = (Interval.M15, Interval.H1, Interval.H4, Interval.D1, Interval.W1)
SPEED = 60_000  # a day in one and a half seconds
SEED = 11
NEW_YORK = ZoneInfo("America/New_York")
BEFORE_MARKET, AFTER_MARKET = 4, 20  # hours in New York: the evening's trades are of the next day in UTC
CHANGES = {  # the Friday before the change, and the Wednesday after: one whole week ends in between
    "spring": (datetime(2024, 3, 1, 10, 7, tzinfo=NEW_YORK), datetime(2024, 3, 13, 12, tzinfo=NEW_YORK)),
    "autumn": (datetime(2024, 10, 25, 10, 7, tzinfo=NEW_YORK), datetime(2024, 11, 6, 12, tzinfo=NEW_YORK)),
}


def made_tape(symbol: str, first: datetime, last: datetime, random: Random) -> list[Row]:
    """A trade every few minutes while the instrument is traded, before and after the session too."""
    at_us, price = to_us(first), 100.0
    rows: list[Row] = []
    while at_us < to_us(last):
        local = datetime.fromtimestamp(at_us / 1e6, NEW_YORK)
        is_open = local.weekday() < 5 and BEFORE_MARKET <= local.hour < AFTER_MARKET
        if is_open or not ZONES[symbol]:
            price = max(1.0, price + random.choice((-0.5, 0.0, 0.25, 0.5)))
            rows.append((at_us, price, random.randrange(1, 1_000) / 8, len(rows) + 1))
        at_us += random.randrange(1, 10 * MINUTE_US)
    return rows


def truth_of(symbol: str, rows: list[Row], interval: Interval) -> dict[int, Values]:
    """The bars of whole periods: not that of the first trade, nor what is not over when the tape is."""
    time, price, size, ids = zip(*rows, strict=True)
    built = rebuild(Trades.of(time, price, size, id=ids), intervals=[interval], zone=ZONES[symbol])
    calendar = Calendar(ZONES[symbol])
    first = calendar.stamp_at(interval, time[0])
    bars = rows_of(built[interval].bars)
    return {at: bar for at, bar in bars.items() if at > first and calendar.ends_us(interval, at) <= time[-1]}


@pytest.mark.parametrize("change", CHANGES)
async def test_across_the_change_built_bars_are_the_tapes_and_what_is_asked_for_is_the_same(
    home: Path, serving: ServerMaker, change: str
) -> None:
    random, (first, last) = Random(SEED), CHANGES[change]
    tapes = {symbol: made_tape(symbol, first, last, random) for symbol in ZONES}
    _list_symbols(home)
    files = [f"{symbol}={write_tape(home / f'{symbol}.csv', rows)}" for symbol, rows in tapes.items()]
    channels = [f"bars:{symbol}:{interval}@replay" for symbol in ZONES for interval in INTERVALS]
    with serving(home, lateness_s=0.5) as server:
        await put_in(server, tapes="\n".join(files), speed=SPEED, state="paused")
        async with following(server, {"channels": channels}) as follower:
            for channel in channels:
                await follower.hears(lambda event, c=channel: event.get("state") == "live" and event["channel"] == c)
            await put_in(server, state="playing")
            for symbol in ZONES:
                for interval in INTERVALS:
                    await _compare(server, follower, symbol, interval, truth_of(symbol, tapes[symbol], interval))
            for symbol in ZONES:
                assert await recorded(server, symbol) == tapes[symbol]
                assert "mute" not in follower.states(f"bars:{symbol}:1h@replay")
    _check_calendar(tapes["AAPL"], first)


def _list_symbols(home: Path) -> None:
    only_replay(home)
    file = home / "manifests" / "replay" / "config.yaml"
    manifest = yaml.safe_load(file.read_text())
    manifest["symbols"] = [
        {"symbol": "AAPL", "asset_class": "stock", "timezone": ZONES["AAPL"]},
        {"symbol": "BTC-USDT", "asset_class": "crypto"},
    ]
    file.write_text(yaml.safe_dump(manifest, sort_keys=False))


async def _compare(
    server: Server, follower: Follower, symbol: str, interval: Interval, truth: dict[int, Values]
) -> None:
    channel, newest = f"bars:{symbol}:{interval}@replay", max(truth)
    what = lambda event: event.get("channel") == channel and event.get("status") in SETTLING  # noqa: E731
    await follower.hears(lambda event: what(event) and event["time"] * 1000 >= newest, 90)
    told = follower.bars(channel, "closed", "missing")
    assert len({event["time"] for event in told}) == len(told), "a period was told twice"
    closed = by_opening(follower.bars(channel, "closed"))
    assert {at: bar for at, bar in closed.items() if at <= newest} == truth, (channel, "told")
    held = rows_of(await stored(server, symbol, interval.value))
    assert {at: bar for at, bar in held.items() if at <= newest} == truth, (channel, "stored")
    async with server.client() as client:
        within = TimeRange(min(truth), interval.end_us(newest))
        answer = await ask(client, symbol, within, interval.value, provider="replay")
    assert rows_of(bars_of(answer)) == truth, (channel, "asked for")


def _check_calendar(rows: list[Row], first: datetime) -> None:
    """The truth itself: a bar of the week and of each day that was traded, by New York's dates."""
    monday = first.date() + timedelta(days=3)
    assert list(truth_of("AAPL", rows, Interval.W1)) == [_midnight_us(monday)]
    days = [monday + timedelta(days=n) for n in range(9)]
    assert list(truth_of("AAPL", rows, Interval.D1)) == [_midnight_us(day) for day in days if day.weekday() < 5]


def _midnight_us(day: object) -> int:
    return to_us(datetime.fromisoformat(f"{day}T00:00Z"))
