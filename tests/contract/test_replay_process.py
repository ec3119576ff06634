"""The replay as the core has it: a real process on a real link, killed in the middle of a tape."""

from pathlib import Path

import psutil
import pytest
import trio
from recorded.plugin import Plugin, open_plugin

from timebase.errors import Unavailable
from timebase.house import PLUGINS
from timebase.model.feed import Feed, FeedKind
from timebase.model.instrument import AssetClass, Instrument
from timebase.model.replay import Tape, TapeState
from timebase.model.ticks import Trades
from timebase.model.timerange import SECOND_US
from timebase.replay import Replay

ENTRYPOINT = f"{PLUGINS}/replay/provider.py:Replay"
BEGIN_US = 1_723_161_600_000_000  # 2024-08-09T00:00:00Z
ROWS = 3_000
PATIENCE_S = 60.0

BTC = Feed(1, FeedKind.TRADES, Instrument(1, "BTC-USDT", AssetClass.CRYPTO), "replay")


@pytest.fixture
def replay(tmp_path: Path) -> Replay:
    """Fifty minutes of one trade a second, to be played in five seconds."""
    tape = tmp_path / "btc.csv"
    lines = [f"{BEGIN_US + i * SECOND_US},{100 + i % 7},0.5,buy,{i + 1}" for i in range(ROWS)]
    tape.write_text("\n".join(["time,price,size,side,id", *lines]))
    (tmp_path / "cache").mkdir()
    replay = Replay(tmp_path / "cache")
    replay.give(tapes=(Tape("BTC-USDT", str(tape)),), speed=600.0)
    return replay


async def listen(plugin: Plugin, parts: list[Trades], kill_after: int, replay: Replay) -> None:
    """Keep the trades until the tape has ended; kill the plugin at the trade of that number."""
    plugin.link.subscribe(BTC)
    pulse_us = newest = 0
    while (delivery := await plugin.link.next_delivery()) is not None and not delivery.ends:
        plugin.link.delivered()
        for arrival in delivery.arrivals:
            if arrival.trades is not None:
                assert arrival.trades.time[0] > pulse_us  # nothing older comes after a pulse
                parts.append(arrival.trades)
                newest = int(arrival.trades.id[-1])
            elif arrival.pulse_us is not None:
                pulse_us = arrival.pulse_us
        if newest >= kill_after:
            psutil.Process(plugin.pid).kill()
        if newest == ROWS and replay.state().state is TapeState.ENDED:
            return


async def test_killed_again_and_again_it_loses_no_trade(replay: Replay, tmp_path: Path) -> None:
    parts: list[Trades] = []
    with trio.fail_after(PATIENCE_S):
        for kill_after in (500, 1_200, 2_000, ROWS + 1):
            try:
                async with open_plugin(ENTRYPOINT, {}, tmp_path / "cache") as plugin:
                    await listen(plugin, parts, kill_after, replay)
            except* Unavailable:  # the link's last word
                assert kill_after <= ROWS
    played = Trades.concat(parts)
    by_number = {int(number): (int(at), float(price)) for number, at, price in zip(
        played.id, played.time, played.price, strict=True
    )}  # fmt: skip
    assert by_number == {i + 1: (BEGIN_US + i * SECOND_US, 100.0 + i % 7) for i in range(ROWS)}
    assert len(played) >= ROWS  # a little is played twice, and known by its number
