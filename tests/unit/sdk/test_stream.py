"""A provider's stream as the core hears it: what is put arrives, in order, bounded, and whatever goes wrong is told."""

import threading
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from itertools import pairwise

import anyio
import anyio.lowlevel
import numpy as np
import pytest
import trio

from timebase.errors import AuthFailed, SymbolNotFound, Unavailable, Upstream
from timebase.model.feed import FeedKind
from timebase.model.interval import Interval
from timebase.sdk import BUY, CANCEL, SELL, Bars, Provider, Stream, Subscription
from timebase.sdk.rehearsal import Heard, Rehearsal, open_rehearsal

Act = Callable[[Stream], Awaitable[None]]


def playing(act: Act, backend: str = "trio") -> Provider:
    """A provider whose stream does what `act` does, and then waits."""

    class Player(Provider):
        async def stream(self, stream: Stream) -> None:
            await act(stream)
            await anyio.sleep_forever()

    Player.backend = backend  # type: ignore[assignment]
    return Player()


async def hear(core: Rehearsal, n: int) -> list[Heard]:
    with trio.fail_after(10):
        return [await core.next() for _ in range(n)]


async def test_trades_arrive_as_they_were_put() -> None:
    async def act(stream: Stream) -> None:
        (feed,) = stream.wanted
        await stream.up()
        await stream.trades(feed, 1_000, 10.5, 2, BUY, 77)
        await stream.trades(feed, datetime.fromtimestamp(1, UTC), 10, 1.5, SELL)
        await stream.trades(feed, np.int64(2_000_000), np.float64(10.25), np.float32(1.5))
        await stream.trades(feed, 2_000_001, 10.25, 1.5, None, 77, CANCEL)

    async with open_rehearsal(playing(act)) as core:
        feed = core.subscribe("BTC-USDT")
        up, trades = await hear(core, 2)
    assert up == Heard(feed, is_up=True)
    assert trades.rows == (
        (1_000, 10.5, 2.0, 1, 77, 0),
        (1_000_000, 10.0, 1.5, -1, 0, 0),
        (2_000_000, 10.25, 1.5, 0, 0, 0),
        (2_000_001, 10.25, 1.5, 0, 77, 1),
    )


@pytest.mark.parametrize("column", [list, np.array, tuple])
async def test_columns_are_put_whole(column: Callable[[list[float]], object]) -> None:
    async def act(stream: Stream) -> None:
        (feed,) = stream.wanted
        await stream.trades(
            feed, column([1, 2]), column([3.0, 4.0]), column([5.0, 6.0]), column([1, -1]), column([7, 8])
        )
        await stream.trades(feed, column([]), column([]), column([]))
        await stream.trades(feed, column([3]), column([4.0]), column([6.0]))

    async with open_rehearsal(playing(act)) as core:
        rows = await core.rows(core.subscribe("X"), 3)
    assert rows == [(1, 3.0, 5.0, 1, 7, 0), (2, 4.0, 6.0, -1, 8, 0), (3, 4.0, 6.0, 0, 0, 0)]


async def test_quotes_and_bars_arrive_as_they_were_put() -> None:
    async def act(stream: Stream) -> None:
        quotes, bars = stream.wanted
        assert (bars.kind, bars.interval) == (FeedKind.BARS, Interval.M1)
        await stream.quotes(quotes, 1, 9.5, 100, 10.5, 200)
        ones = [1.0, 1.0]
        await stream.bars(bars, Bars([0, 60_000_000], ones, ones, ones, ones, ones), [True, False])
        await stream.bars(bars, Bars([60_000_000], [1], [2], [1], [2], [3]), is_closed=True)

    async with open_rehearsal(playing(act)) as core:
        core.subscribe("X", "quotes")
        core.subscribe("X", "bars", "1m")
        quotes, bars = await hear(core, 2)
    assert quotes.rows == ((1, 9.5, 100.0, 10.5, 200.0),)
    assert bars.rows == (
        (0, 1.0, 1.0, 1.0, 1.0, 1.0, 1),
        (60_000_000, 1.0, 1.0, 1.0, 1.0, 1.0, 0),
        (60_000_000, 1.0, 2.0, 1.0, 2.0, 3.0, 1),
    )


async def test_words_leave_after_the_data_put_before_them() -> None:
    async def act(stream: Stream) -> None:
        (feed,) = stream.wanted
        await stream.up()
        await stream.trades(feed, 1, 1.0, 1.0)
        await stream.down("the line broke")
        await stream.up(feed)
        await stream.trades(feed, 2, 1.0, 1.0)
        await stream.pulse(3)
        await stream.refuse(feed, Upstream("gone for good"))

    async with open_rehearsal(playing(act)) as core:
        core.subscribe("X")
        heard = await hear(core, 7)
    assert [(h.is_up, h.reason, len(h.rows), h.pulse_us, type(h.error)) for h in heard] == [
        (True, "", 0, None, type(None)),
        (None, "", 1, None, type(None)),
        (False, "the line broke", 0, None, type(None)),
        (True, "", 0, None, type(None)),
        (None, "", 1, None, type(None)),
        (None, "", 0, 3, type(None)),
        (None, "", 0, None, Upstream),
    ]


async def test_all_that_waits_leaves_as_one_message_per_kind() -> None:
    async def act(stream: Stream) -> None:
        a, b, c = stream.wanted
        for at in range(100):
            await stream.trades(a, at, 1.0, 1.0)
            await stream.trades(b, at, 2.0, 1.0)
            await stream.quotes(c, at, 1.0, 1.0, 1.0, 1.0)

    async with open_rehearsal(playing(act)) as core:
        feeds = [core.subscribe("A"), core.subscribe("B"), core.subscribe("C", "quotes")]
        heard = await hear(core, 3)
    assert [(h.feed, len(h.rows)) for h in heard] == [(feed, 100) for feed in feeds]


async def test_only_the_newest_pulse_leaves(autojump_clock: trio.testing.MockClock) -> None:
    async def act(stream: Stream) -> None:
        for at in range(1, 1_001):
            await stream.pulse(at)
            await anyio.sleep(0.001)

    async with open_rehearsal(playing(act)) as core:
        core.subscribe("X")
        pulses = [(await core.next()).pulse_us]
        while pulses[-1] != 1_000:
            pulses.append((await core.next()).pulse_us)
    assert len(pulses) <= 12
    assert pulses == sorted(pulses)


async def test_a_core_that_reads_nothing_stops_the_stream_and_loses_nothing() -> None:
    put = 0

    async def act(stream: Stream) -> None:
        nonlocal put
        (feed,) = stream.wanted
        for at in range(10_000):
            await stream.trades(feed, at, 1.0, 1.0)
            put += 1

    async with open_rehearsal(playing(act), credit=2, batch_rows=100) as core:
        feed = core.subscribe("X")
        await trio.testing.wait_all_tasks_blocked()
        assert put <= 3 * 100 + 2
        rows = await core.rows(feed, 10_000)
    assert [row[0] for row in rows] == list(range(10_000))


async def test_a_quiet_feed_has_its_pulse_while_another_never_pauses(autojump_clock: trio.testing.MockClock) -> None:
    async def act(stream: Stream) -> None:
        busy, quiet = stream.wanted
        for at in range(10**6):
            await stream.pulse(at, quiet)
            await stream.trades(busy, at, 1.0, 1.0)

    async with open_rehearsal(playing(act), credit=1, batch_rows=10) as core:
        core.subscribe("BUSY")
        quiet = core.subscribe("QUIET")
        pulses: list[int] = []
        newest = 0.0
        for _ in range(100):
            heard = await core.next()
            if heard.feed == quiet:
                assert heard.pulse_us is not None
                pulses.append(heard.pulse_us)
            else:
                newest = heard.rows[-1][0]
            await trio.sleep(0.02)
        assert len(pulses) >= 10
        assert pulses[-1] > newest - 1_000


async def test_more_columns_than_there_is_room_for_leave_in_parts() -> None:
    async def act(stream: Stream) -> None:
        (feed,) = stream.wanted
        ones = np.ones(1_000)
        await stream.trades(feed, np.arange(1_000), ones, ones)

    async with open_rehearsal(playing(act), credit=1, batch_rows=64) as core:
        feed = core.subscribe("X")
        first = await core.next()
        rows = await core.rows(feed, 1_000 - 64)
    assert len(first.rows) == 64
    assert [row[0] for row in rows] == list(range(64, 1_000))


# What is wanted


async def test_a_stream_follows_what_is_wanted() -> None:
    seen: list[tuple[str, ...]] = []

    async def act(stream: Stream) -> None:
        while True:
            seen.append(tuple(feed.symbol for feed in stream.wanted))
            await stream.changed()

    async with open_rehearsal(playing(act)) as core:
        a = core.subscribe("A")
        await trio.testing.wait_all_tasks_blocked()
        core.subscribe("B")
        await trio.testing.wait_all_tasks_blocked()
        core.unsubscribe(a)
        await trio.testing.wait_all_tasks_blocked()
        core.subscribe("C")
        core.subscribe("D")
        await trio.testing.wait_all_tasks_blocked()
    assert seen == [("A",), ("A", "B"), ("B",), ("B", "C", "D")]


async def test_what_is_not_wanted_any_more_is_dropped() -> None:
    go = trio.Event()

    async def act(stream: Stream) -> None:
        a, b = stream.wanted
        await stream.trades(a, 1, 1.0, 1.0)
        await go.wait()
        await stream.trades(a, 2, 1.0, 1.0)
        await stream.pulse(2, a)
        await stream.down("gone", a)
        await stream.trades(b, 3, 1.0, 1.0)

    async with open_rehearsal(playing(act), credit=0) as core:
        a, b = core.subscribe("A"), core.subscribe("B")
        await trio.testing.wait_all_tasks_blocked()
        core.unsubscribe(a)
        go.set()
        await trio.testing.wait_all_tasks_blocked()
        core._streaming.grant(10)
        (only,) = await hear(core, 1)
        await trio.testing.wait_all_tasks_blocked()
        assert not core._messages
    assert (only.feed, only.rows) == (b, ((3, 1.0, 1.0, 0, 0, 0),))


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_stream_runs_from_the_first_subscription_to_the_last_and_again(backend: str) -> None:
    told: list[str] = []

    class Counting(Provider):
        async def stream(self, stream: Stream) -> None:
            told.append(f"begins with {len(stream.wanted)}")
            try:
                await anyio.sleep_forever()
            finally:
                told.append("ends")

    Counting.backend = backend  # type: ignore[assignment]

    async def main() -> None:
        async with open_rehearsal(Counting()) as core:
            for _ in range(2):
                feed = core.subscribe("A")
                while told[-1:] != ["begins with 1"]:
                    await anyio.lowlevel.checkpoint()
                core.unsubscribe(feed)
                while told[-1:] != ["ends"]:
                    await anyio.lowlevel.checkpoint()

    anyio.run(main, backend=backend)
    assert told == ["begins with 1", "ends"] * 2


# What goes wrong


async def test_a_stream_that_raises_fails_every_feed_with_that_error_and_runs_again_when_asked() -> None:
    runs = 0

    async def act(stream: Stream) -> None:
        nonlocal runs
        runs += 1
        await stream.trades(stream.wanted[0], 1, 1.0, 1.0)
        raise AuthFailed("the key was refused")

    async with open_rehearsal(playing(act)) as core:
        for run in (1, 2):
            a, b = core.subscribe("A"), core.subscribe("B")
            data, *errors = await hear(core, 3)
            assert (data.feed, len(data.rows)) == (a, 1)
            assert [(h.feed, type(h.error), str(h.error)) for h in errors] == [
                (feed, AuthFailed, "the key was refused") for feed in (a, b)
            ]
            await trio.testing.wait_all_tasks_blocked()
            assert runs == run


async def test_a_stream_that_fails_runs_less_and_less_often_however_many_feeds_want_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    runs: list[float] = []

    async def act(stream: Stream) -> None:
        runs.append(trio.current_time())
        raise Unavailable("no route")

    async with open_rehearsal(playing(act)) as core:
        while len(runs) < 6:
            core.subscribe("ABCDEFGH"[len(runs)])
            await trio.sleep(0.1)
    pauses = [later - sooner for sooner, later in pairwise(runs)]
    for pause_s, usual_s in zip(pauses, (0.25, 0.5, 1, 2, 4), strict=True):
        assert 0.8 * usual_s <= pause_s <= 1.2 * usual_s + 0.1


async def test_a_bug_in_a_stream_is_an_upstream_fault(capsys: pytest.CaptureFixture[str]) -> None:
    async def act(stream: Stream) -> None:
        {}["nothing"]

    async with open_rehearsal(playing(act)) as core:
        core.subscribe("A")
        (heard,) = await hear(core, 1)
    assert isinstance(heard.error, Upstream)
    assert "KeyError" in capsys.readouterr().err


async def test_a_stream_that_returns_leaves_its_feeds_failed() -> None:
    class Brief(Provider):
        backend = "trio"

        async def stream(self, stream: Stream) -> None:
            await stream.up()

    async with open_rehearsal(Brief()) as core:
        core.subscribe("A")
        up, error = await hear(core, 2)
    assert up.is_up
    assert isinstance(error.error, Unavailable)


async def test_a_feed_that_is_refused_leaves_the_others_alone() -> None:
    async def act(stream: Stream) -> None:
        a, b = stream.wanted
        await stream.trades(a, 1, 1.0, 1.0)
        await stream.refuse(a, SymbolNotFound("A"))
        await stream.refuse(a, SymbolNotFound("A"))
        await stream.trades(a, 2, 1.0, 1.0)
        await stream.trades(b, 3, 1.0, 1.0)
        assert stream.wanted == (b,)

    async with open_rehearsal(playing(act)) as core:
        a, b = core.subscribe("A"), core.subscribe("B")
        first, refusal, other = await hear(core, 3)
    assert (first.feed, [row[0] for row in first.rows]) == (a, [1])
    assert isinstance(refusal.error, SymbolNotFound)
    assert (other.feed, [row[0] for row in other.rows]) == (b, [3])


@pytest.mark.parametrize(
    "row",
    [("1", 1.0, 1.0), (1.5, 1.0, 1.0), (1, "1.0", 1.0), (1, 1.0, 1.0, "buy"), (1, 1.0, 1.0, 0, 2**64)],
)
async def test_a_row_that_is_no_numbers_is_a_fault_and_leaves_nothing(row: tuple[object, ...]) -> None:
    async def act(stream: Stream) -> None:
        (feed,) = stream.wanted
        with pytest.raises((TypeError, OverflowError)):
            await stream.trades(feed, *row)
        await stream.trades(feed, 5, 1.0, 1.0)

    async with open_rehearsal(playing(act)) as core:
        assert await core.rows(core.subscribe("A"), 1) == [(5, 1.0, 1.0, 0, 0, 0)]


async def test_columns_of_different_lengths_and_rows_of_another_kind_are_faults() -> None:
    async def act(stream: Stream) -> None:
        (feed,) = stream.wanted
        with pytest.raises(ValueError, match="one length"):
            await stream.trades(feed, [1, 2], [1.0], [1.0])
        with pytest.raises(ValueError, match="wanted as trades, not as quotes"):
            await stream.quotes(feed, 1, 1.0, 1.0, 1.0, 1.0)
        await stream.trades(feed, 5, 1.0, 1.0)

    async with open_rehearsal(playing(act)) as core:
        assert len(await core.rows(core.subscribe("A"), 1)) == 1


async def test_a_connection_that_flaps_waits_for_a_core_that_is_busy() -> None:
    said = 0

    async def act(stream: Stream) -> None:
        nonlocal said
        (feed,) = stream.wanted
        await stream.trades(feed, 1, 1.0, 1.0)
        for _ in range(1_000):
            await stream.up()
            said += 1

    async with open_rehearsal(playing(act), credit=0) as core:
        core.subscribe("A")
        await trio.testing.wait_all_tasks_blocked()
        assert said <= 101
        core._streaming.grant(1)
        heard = await hear(core, 1_001)
    assert sum(h.is_up is True for h in heard) == 1_000


# From a thread


class Threaded(Provider):
    def stream(self, stream: Stream) -> None:
        assert threading.current_thread() is not threading.main_thread()
        self.ended = False
        try:
            (feed,) = stream.wanted
            stream.up_sync()
            for at in range(5_000):
                stream.trades_sync(feed, at, 1.0, 1.0)
            stream.trades_sync(feed, np.arange(5_000, 10_000), np.ones(5_000), np.ones(5_000))
            stream.down_sync("over")
            stream.pulse_sync(9)
            stream.changed_sync()
        finally:
            self.ended = True


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_plain_def_streams_from_a_thread_at_the_cores_pace_and_ends_when_nothing_is_wanted(backend: str) -> None:
    class Own(Threaded):
        pass

    Own.backend = backend  # type: ignore[assignment]
    provider = Own()

    async def main() -> None:
        async with open_rehearsal(provider, credit=2, batch_rows=1_000) as core:
            feed = core.subscribe("A")
            assert (await core.next()).is_up
            rows: list[tuple[float, ...]] = []
            while (heard := await core.next()).is_up is None:
                rows += heard.rows
            assert [row[0] for row in rows] == list(range(10_000))
            assert heard == Heard(feed, is_up=False, reason="over")
            assert (await core.next()).pulse_us == 9
            core.unsubscribe(feed)
        assert provider.ended

    async def bounded() -> None:
        with anyio.fail_after(20):
            await main()

    anyio.run(bounded, backend=backend)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_thread_that_goes_on_putting_is_told_that_nothing_is_wanted(backend: str) -> None:
    class Endless(Provider):
        ended = False

        def stream(self, stream: Stream) -> None:
            (feed,) = stream.wanted
            try:
                for at in range(10**9):
                    stream.trades_sync(feed, at, 1.0, 1.0)
            finally:
                self.ended = True

    Endless.backend = backend  # type: ignore[assignment]
    provider = Endless()

    async def main() -> None:
        with anyio.fail_after(20):
            async with open_rehearsal(provider) as core:
                feed = core.subscribe("A")
                await core.rows(feed, 1_000)
                core.unsubscribe(feed)

    anyio.run(main, backend=backend)
    assert provider.ended


async def test_a_subscription_names_what_is_wanted() -> None:
    seen: list[Subscription] = []

    async def act(stream: Stream) -> None:
        seen.extend(stream.wanted)

    async with open_rehearsal(playing(act)) as core:
        core.subscribe("EUR-USD", "bars", "1h")
        await trio.testing.wait_all_tasks_blocked()
    assert [(s.kind, s.symbol, s.asset_class, s.interval) for s in seen] == [("bars", "EUR-USD", "forex", "1h")]
