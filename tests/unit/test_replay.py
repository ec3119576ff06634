"""orders -> [replay] -> wants."""

from collections import Counter
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from timebase.model.feed import Channel
from timebase.model.replay import ORDER_FILE, ReplayOrder, ReplayState, Tape, TapeState
from timebase.replay import Replay, run_replay


class Wanted:
    """Counts as live/wants.py does."""

    def __init__(self) -> None:
        self.channels: Counter[Channel] = Counter()

    def want(self, channel: Channel) -> None:
        self.channels[channel] += 1

    def unwant(self, channel: Channel) -> None:
        self.channels[channel] -= 1

    def __call__(self) -> list[str]:
        return sorted(str(channel) for channel in self.channels.elements())


def tapes(*symbols: str) -> tuple[Tape, ...]:
    return tuple(Tape(symbol, f"/tapes/{symbol}.csv") for symbol in symbols)


async def test_what_is_on_the_tapes_is_wanted_until_they_are_taken_out(tmp_path: Path) -> None:
    replay, wanted = Replay(tmp_path), Wanted()
    async with trio.open_nursery() as nursery:
        await nursery.start(run_replay, replay, wanted)
        assert wanted() == []
        replay.give(tapes=tapes("AAPL", "MSFT"))
        await wait_all_tasks_blocked()
        assert wanted() == ["trades:AAPL@replay", "trades:MSFT@replay"]
        replay.give(tapes=tapes("MSFT", "SPY"), speed=60.0)
        await wait_all_tasks_blocked()
        assert wanted() == ["trades:MSFT@replay", "trades:SPY@replay"]
        replay.give(is_playing=False)
        await wait_all_tasks_blocked()
        assert wanted() == ["trades:MSFT@replay", "trades:SPY@replay"]
        replay.give(tapes=())
        await wait_all_tasks_blocked()
        assert wanted() == []
        nursery.cancel_scope.cancel()


async def test_what_was_played_before_a_restart_is_wanted_again_and_let_go_at_the_end(tmp_path: Path) -> None:
    Replay(tmp_path).give(tapes=tapes("AAPL"))
    wanted = Wanted()
    async with trio.open_nursery() as nursery:
        await nursery.start(run_replay, Replay(tmp_path), wanted)
        await wait_all_tasks_blocked()
        assert wanted() == ["trades:AAPL@replay"]
        nursery.cancel_scope.cancel()
    assert wanted() == []


@pytest.mark.parametrize("torn", [b"", b"{", b"[]", b'{"serial": "x"}'])
def test_an_order_that_was_torn_is_none(tmp_path: Path, torn: bytes) -> None:
    (tmp_path / ORDER_FILE).write_bytes(torn)
    assert Replay(tmp_path).order() == ReplayOrder()


def test_orders_and_states_are_written_so_that_they_can_be_read() -> None:
    order = ReplayOrder(3, tapes("AAPL", "MSFT"), 60.0, True, 7)
    assert ReplayOrder.of(order.plain()) == order
    state = ReplayState(3, TapeState.PLAYING, 5, 4, 1, 9, 60.0, ("AAPL",), 12, "none")
    assert ReplayState.of(state.plain()) == state
