"""Acceptance of live, 2: a feed that is cut and one that is quiet are told apart, and what was missed comes back."""

from pathlib import Path

from e2e.asked import ask, bars_of
from e2e.conftest import ServerMaker
from e2e.followers import Follower, by_opening, following, rows_of
from e2e.ledger import settled
from e2e.live_stubs import LiveStub, Row
from e2e.running import Server, asking

from timebase.aggregation.rebuild import rebuild
from timebase.model.bars import Flag
from timebase.model.interval import Interval
from timebase.model.ticks import Trades
from timebase.model.timerange import DAY_US, MINUTE_US, SECOND_US, Ranges, TimeRange

NOON_US = 20_000 * DAY_US + DAY_US // 2
BARS, TRADES = "bars:BTC-USDT:1m", "trades:BTC-USDT"
CUT, BACK = 210, 300  # seconds after noon: the feed is down for 90 s, from the middle of a minute
HUSH, STIR = 450, 580  # nothing is traded for more than two minutes, and the minute of 480 s has no trade at all
LAST = 660
PACED = 25  # enough trades by themselves for a rhythm


def trade(second: int) -> Row:
    return NOON_US + second * SECOND_US, 100.0 + second * 7 % 13, 1.0 + second % 3, second + 1


TRADED = [trade(second) for second in (*range(30, HUSH), *range(STIR, LAST))]
FLOWS = [row for row in TRADED if not CUT <= row[3] - 1 < BACK]


def of_seconds(rows: list[Row], start: int, end: int) -> list[Row]:
    return [row for row in rows if start <= row[3] - 1 < end]


def truth() -> dict[int, tuple[float, ...]]:
    time, price, size, ids = zip(*TRADED, strict=True)
    return rows_of(rebuild(Trades.of(time, price, size, id=ids), intervals=[Interval.M1])[Interval.M1].bars)


def minute(at: int) -> int:
    return NOON_US + at * MINUTE_US


async def test_a_cut_feed_is_down_a_quiet_one_is_quiet_and_the_gap_comes_back_as_it_was(
    home: Path, serving: ServerMaker
) -> None:
    stub = LiveStub("stub", home / "manifests", home / "stubs")
    stub.tell_truth({"BTC-USDT": [[at, *values] for at, values in truth().items()]})
    with serving(home) as server:
        async with asking(server), following(server, {"channels": [BARS, TRADES]}) as follower:
            await _cut(stub, follower)
            await _quiet(stub, follower)
            await _compare(server, follower, stub)


async def _cut(stub: LiveStub, follower: Follower) -> None:
    await follower.hears(lambda event: event.get("state") == "live")
    for row in of_seconds(FLOWS, 30, 30 + PACED):  # one by one, so that its rhythm is known
        stub.trade("BTC-USDT", row)
        await follower.hears(lambda event, row=row: event.get("id") == row[3])
    stub.trade("BTC-USDT", *of_seconds(FLOWS, 30 + PACED, CUT))
    await follower.hears(lambda event: event.get("id") == CUT)
    stub.play({"down": "the line was cut"})
    down = await follower.hears(lambda event: event.get("state") == "down")
    assert down["reason"] == "the line was cut"
    stub.play({"up": True})
    stub.trade("BTC-USDT", *of_seconds(FLOWS, BACK, BACK + 1))
    await follower.hears(lambda event: event.get("id") == BACK + 1)
    stub.trade("BTC-USDT", *of_seconds(FLOWS, BACK + 1, HUSH))
    await follower.hears(lambda event: event.get("id") == HUSH)


async def _quiet(stub: LiveStub, follower: Follower) -> None:
    """The vendor's pulses go on."""
    stub.play(*({"pulse": NOON_US + second * SECOND_US} for second in range(HUSH, STIR, 5)))
    quiet = await follower.hears(lambda event: event.get("state") == "quiet")
    assert "the vendor's connection is alive" in quiet["reason"]
    stub.trade("BTC-USDT", *of_seconds(FLOWS, STIR, LAST))
    stub.play({"pulse": minute(12)})
    await follower.hears(lambda event: event.get("time") == minute(10) // 1000 and event.get("status") == "closed")
    await follower.hears(lambda event: event.get("time") == minute(5) // 1000 and event.get("status") == "backfilled")


async def _compare(server: Server, follower: Follower, stub: LiveStub) -> None:
    assert follower.states(BARS) == ["connecting", "live", "down", "live", "quiet", "live"]
    missing = [event["time"] * 1000 for event in follower.bars(BARS, "missing")]
    assert missing == [minute(0), minute(3), minute(4), minute(5)]
    healed = by_opening(follower.bars(BARS, "backfilled"))
    assert healed == {at: truth()[at] for at in missing}
    closed = by_opening(follower.bars(BARS, "closed"))
    assert closed == {at: values for at, values in truth().items() if at not in missing}
    assert all(event["volume"] for event in follower.bars(BARS, "forming", "closed", "revised", "backfilled"))

    async with server.client() as client:
        bars = bars_of(await ask(client, "BTC-USDT", TimeRange(minute(0), minute(11)), "1m"))
    assert rows_of(bars) == truth()
    assert bars.time[(bars.flags & Flag.BACKFILLED) != 0].tolist() == missing
    lacking = Ranges((TimeRange(minute(0), minute(11)),)) - await settled(server, "BTC-USDT")
    assert not lacking, lacking
    asked = Ranges.of(TimeRange(first, last) for _, _, first, last in stub.questions())
    assert not asked & Ranges((TimeRange(minute(1), minute(3)),)), "what came live was fetched all the same"
