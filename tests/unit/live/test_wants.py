"""Which channels are wanted."""

import trio
from unit.live.fakes import BARS, TRADES

from timebase.live.wants import Wants


async def test_a_channel_is_wanted_once_however_many_follow_it(autojump_clock):
    wants, changes = Wants(linger_s=30), []
    wants.on_change.append(lambda: changes.append(wants.all()))
    for _ in range(3):
        wants.want(BARS)
    assert changes == [{BARS}]


async def test_it_is_wanted_until_the_last_one_has_been_gone_for_a_while(autojump_clock):
    wants = Wants(linger_s=30)
    wants.want(BARS)
    wants.want(BARS)
    wants.unwant(BARS)
    assert wants.next_end() == float("inf")
    wants.unwant(BARS)
    await trio.sleep(29)
    assert wants.all() == {BARS}
    await trio.sleep(1)
    assert wants.all() == set()


async def test_who_comes_back_meanwhile_keeps_it(autojump_clock):
    wants = Wants(linger_s=30)
    wants.want(BARS)
    wants.unwant(BARS)
    await trio.sleep(20)
    wants.want(BARS)
    await trio.sleep(60)
    assert wants.all() == {BARS}


async def test_what_is_collected_needs_no_follower(autojump_clock):
    wants, changes = Wants(linger_s=0), []
    wants.on_change.append(lambda: changes.append(wants.all()))
    wants.collect([BARS])
    wants.collect([BARS])
    wants.collect([TRADES])
    assert changes == [{BARS}, {TRADES}]
    assert wants.is_collected(TRADES)
