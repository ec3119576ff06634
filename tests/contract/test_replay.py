"""The replay: tapes of trades on one clock, and an order that survives every kill."""

import gzip
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorded.rehearsed import heard, run_rehearsal
from recorded.sockets import recorded_frames

from timebase.aggregation.rebuild import rebuild
from timebase.house import MANIFESTS, PLUGINS
from timebase.manifest.load import load_manifest
from timebase.model.calendar import Calendar
from timebase.model.feed import FeedKind
from timebase.model.replay import STATE_FILE, ReplayState, Tape, TapeState
from timebase.model.ticks import Trades as Ticks
from timebase.model.timerange import DAY_US, HOUR_US, MINUTE_US, SECOND_US, to_us
from timebase.replay import Replay as Desk
from timebase.replay import channels
from timebase.sdk import HistoryRequest, Interval, Malformed, SymbolNotFound, Unsupported, Upstream
from timebase.sdk.contract import check, check_stream
from timebase.sdk.entrypoint import load_provider
from timebase.sdk.rehearsal import Rehearsal

ENTRYPOINT = f"{PLUGINS}/replay/provider.py:Replay"
Replay = load_provider(ENTRYPOINT)

from rebuilt import openings, rebuilt  # noqa: E402 - the plugin's folder is on the path now
from tape_clock import OVERLAP_S, TapeClock  # noqa: E402
from tapes import Trades, load_tape  # noqa: E402

PATIENCE_S = 30.0
BEGIN_US = 1_723_161_600_000_000  # 2024-08-09T00:00:00Z
FAST = 1e6


def rows(n: int = 600, step_us: int = SECOND_US, first_id: int = 1) -> list[tuple[int, float, float, str, int]]:
    return [
        (BEGIN_US + i * step_us, 100.0 + i % 7, 0.5 + i % 3, ("buy", "sell")[i % 2], first_id + i) for i in range(n)
    ]


def write_csv(path: Path, given: list[tuple[Any, ...]], header: str = "time,price,size,side,id") -> Path:
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in given)]))
    return path


def zipped(files: Mapping[str, str] | None = None, *, has_password: bool = False) -> bytes:
    """An archive of those files; one that says it has a password needs none to be refused."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in (files or {}).items():
            archive.writestr(name, text)
    content = bytearray(packed.getvalue())
    if has_password:
        for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            content[content.index(signature) + at] |= 1
    return bytes(content)


def heard_as(given: list[tuple[int, float, float, str, int]]) -> list[tuple[float, ...]]:
    return [(at, price, size, 1 if side == "buy" else -1, number, 0) for at, price, size, side, number in given]


def columns(trades: Trades) -> list[list[float]]:
    return [column.tolist() for column in (trades.time, trades.price, trades.size, trades.side, trades.id)]


# Tapes


@pytest.fixture
def plain(tmp_path: Path) -> list[list[float]]:
    return columns(load_tape(Tape("BTC-USDT", str(write_csv(tmp_path / "plain.csv", rows(5))))))


def test_a_tape_is_read_as_it_is_written(plain: list[list[float]]) -> None:
    assert plain == [list(each) for each in zip(*(row[:5] for row in heard_as(rows(5))), strict=True)]


@pytest.mark.parametrize("ending", ["csv.gz", "zip", "parquet", "ndjson", "ndjson.gz"])
def test_every_form_of_file_holds_the_same_tape(tmp_path: Path, plain: list[list[float]], ending: str) -> None:
    csv = (tmp_path / "plain.csv").read_bytes()
    frame = pl.read_csv(csv)
    path = tmp_path / f"tape.{ending}"
    match ending:
        case "csv.gz":
            path.write_bytes(gzip.compress(csv))
        case "zip":
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("tape.csv", csv)
        case "parquet":
            frame.with_columns(pl.from_epoch("time", time_unit="us")).write_parquet(path)
        case "ndjson":
            frame.write_ndjson(path)
        case _:
            path.write_bytes(gzip.compress(frame.write_ndjson().encode()))
    assert columns(load_tape(Tape("BTC-USDT", str(path)))) == plain


@pytest.mark.parametrize(
    "write",
    [
        lambda at_us: at_us,
        lambda at_us: at_us // 1_000,
        lambda at_us: at_us * 1_000,
        lambda at_us: at_us // 1_000_000,
        lambda at_us: at_us / 1_000_000,
        lambda at_us: f"2024-08-09T00:00:{(at_us - BEGIN_US) // SECOND_US:02}.000000Z",
    ],
)
def test_times_may_be_written_in_any_unit(tmp_path: Path, write: Callable[[int], object]) -> None:
    path = write_csv(tmp_path / "tape.csv", [(write(at), price, size, side, n) for at, price, size, side, n in rows(5)])
    assert load_tape(Tape("BTC-USDT", str(path))).time.tolist() == [BEGIN_US + i * SECOND_US for i in range(5)]


def test_the_vendors_own_names_are_known(tmp_path: Path) -> None:
    path = write_csv(
        tmp_path / "tape.csv", [(7, 100.5, 2, BEGIN_US // 1_000, "True"), (8, 101, 1, BEGIN_US // 1_000, "False")],
        "id,price,qty,time,is_buyer_maker",
    )  # fmt: skip
    trades = load_tape(Tape("BTC-USDT", str(path)))
    assert (trades.side.tolist(), trades.id.tolist()) == ([-1, 1], [7, 8])


def test_rows_without_numbers_get_their_own_and_keep_them(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "tape.csv", [row[:3] for row in rows(5)], "time,price,size")
    tape = Tape("BTC-USDT", str(path))
    assert load_tape(tape).id.tolist() == load_tape(tape).id.tolist() == [1, 2, 3, 4, 5]


def test_a_tape_out_of_order_is_sorted_and_equal_instants_stay_as_they_are(tmp_path: Path) -> None:
    shuffled = [rows(5)[i] for i in (3, 0, 4, 1, 2)] + [(BEGIN_US, 1.0, 1.0, "buy", 99)]
    trades = load_tape(Tape("BTC-USDT", str(write_csv(tmp_path / "tape.csv", shuffled))))
    assert trades.id.tolist() == [1, 99, 2, 3, 4, 5]


def test_of_several_symbols_only_one_is_taken(tmp_path: Path) -> None:
    lines = [(*row, ("BTCUSDT", "ETH-USDT")[row[4] % 2]) for row in rows(6)]
    path = write_csv(tmp_path / "tape.csv", lines, "time,price,size,side,id,symbol")
    assert load_tape(Tape("BTC-USDT", str(path))).id.tolist() == [2, 4, 6]
    with pytest.raises(SymbolNotFound, match="BTCUSDT, ETH-USDT"):
        load_tape(Tape("SOL-USDT", str(path)))


def test_cancels_and_corrections_leave_what_was_traded_in_the_end(tmp_path: Path) -> None:
    lines = [(*row, 0) for row in rows(4)]
    lines += [(BEGIN_US + SECOND_US, 0.0, 0.0, "buy", 2, 1), (BEGIN_US + SECOND_US, 99.0, 7.0, "buy", 3, 2)]
    path = write_csv(tmp_path / "tape.csv", lines, "time,price,size,side,id,flags")
    trades = load_tape(Tape("BTC-USDT", str(path)))
    assert trades.id.tolist() == [1, 3, 4]
    assert (trades.price[1], trades.size[1]) == (99.0, 7.0)


def test_what_the_server_has_stored_without_numbers_gets_some(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "tape.csv", [(*row[:4], 0) for row in rows(3)])
    assert load_tape(Tape("BTC-USDT", str(path))).id.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tape.csv", b"time,price\n1,2\n"),
        ("tape.csv", b"time,price,size\nsoon,2,3\n"),
        ("tape.csv", b"time,price,size\n1723161600,nan,3\n"),
        ("tape.csv", b"time,price,size\n"),
        ("tape.csv", b""),
        ("tape.csv", b"time,price,size\n-5,2,3\n"),
        ("tape.csv", b"time,price,size\n1e300,2,3\n"),
        ("tape.csv", b"time,price,size\ninf,2,3\n"),
        ("tape.csv", b"time,price,size\nnan,2,3\n"),
        ("tape.csv", b"time,price,size\n9000000000000000000000,2,3\n"),
        ("tape.csv", b"time,open,high,low,close,volume\n2024-01-01,1,1,1,1,1\n"),
        ("notatape", b"hello world\nthis is no tape\n"),
        ("tape.csv", bytes(range(256))),
        ("tape.csv.gz", b"not packed"),
        ("tape.zip", b"not packed"),
        ("tape.parquet", b"PAR1"),
        ("tape.ndjson", b"{"),
        ("tape.zip", zipped()),
        ("tape.zip", zipped({"tape.csv": "time,price,size\n1723161600,2,3\n"}, has_password=True)),
    ],
)
def test_what_is_no_tape_is_refused_by_its_name_and_a_tape_described(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Malformed, match=f"{name}.*a tape is CSV with a header, Parquet or ndjson"):
        load_tape(Tape("BTC-USDT", str(tmp_path / name)))


# The clock


def test_the_clock_runs_as_much_faster_as_it_is_told_and_stands_in_a_pause() -> None:
    clock = TapeClock(1_000, speed=60.0, is_running=True, now_s=10.0)
    assert clock.now_us(12.0) == 1_000 + 120 * SECOND_US
    clock.turn(60.0, False, 12.0)
    assert clock.now_us(99.0) == 1_000 + 120 * SECOND_US
    clock.turn(1.0, True, 100.0)
    assert clock.now_us(101.0) == 1_000 + 121 * SECOND_US


def test_a_clock_that_is_held_up_goes_on_from_where_it_was_held() -> None:
    clock = TapeClock(0, speed=1.0, is_running=True, now_s=0.0)
    clock.arrive(SECOND_US, now_s=5.0)
    assert clock.now_us(6.0) == 2 * SECOND_US


def test_after_a_kill_it_goes_on_a_little_before_where_it_was() -> None:
    clock = TapeClock(0, speed=10.0, is_running=True, now_s=0.0)
    for second in range(1, 31):
        clock.arrive(second * 10 * SECOND_US, now_s=float(second))
    assert clock.position_us == 300 * SECOND_US
    assert clock.resume_us == (30 - OVERLAP_S) * 10 * SECOND_US


# Bars of a tape


def trades_of(given: list[tuple[int, float, float, str, int]]) -> Trades:
    time, price, size, side, number = zip(*given, strict=True)
    sides = np.array([1 if each == "buy" else -1 for each in side])
    return Trades(np.array(time), np.array(price), np.array(size), sides, np.array(number))


UTC_DATES = Calendar()


@given(
    gaps=st.lists(st.integers(0, 400_000_000), min_size=1, max_size=60),
    played=st.integers(0, 6 * 3_600_000_000),
    interval=st.sampled_from(list(Interval)),
)
def test_bars_of_a_tape_are_those_that_were_over(gaps: list[int], played: int, interval: Interval) -> None:
    times = (BEGIN_US + np.cumsum(gaps)).tolist()
    given_ = [(at, 100.0 + i % 5, 0.25, "buy", i) for i, at in enumerate(times)]
    end_us = BEGIN_US + played
    bars = rebuilt(trades_of(given_), interval, 0, 2**62, end_us, UTC_DATES)
    expected: dict[int, list[float]] = {}
    for at, price, size, *_ in given_:
        expected.setdefault(interval.floor_us(at), []).append(price)
        assert size == 0.25
    first = interval.floor_us(times[0])
    whole = {at: p for at, p in expected.items() if at != first and interval.end_us(at) <= end_us}
    assert list(bars.time) == sorted(whole)
    for at, *prices, volume in zip(*(getattr(bars, name) for name in bars.__slots__), strict=True):
        p = whole[at]
        assert prices == [p[0], max(p), min(p), p[-1]]
        assert volume == 0.25 * len(p)


@pytest.mark.parametrize("interval", Interval)
def test_days_weeks_and_months_of_a_tape_are_dates_of_its_instrument(interval: Interval) -> None:
    """Hour by hour across the change of New York's clocks, and an evening of which month and day are other in UTC."""
    times = to_us(datetime(2024, 10, 31, tzinfo=UTC)) + HOUR_US * np.arange(6 * 24)
    tape = trades_of([(at, 100.0 + i % 7, 1.0, "buy", i + 1) for i, at in enumerate(times.tolist())])
    ones = Ticks.of(tape.time, tape.price, tape.size, id=tape.id)
    built = rebuild(ones, intervals=[interval], zone="America/New_York")[interval].bars
    bars = rebuilt(tape, interval, 0, 2**62, int(times[-1]) + 40 * DAY_US, Calendar("America/New_York"))
    assert list(bars.time) == built.time[1:].tolist()
    assert list(bars.volume) == built.volume[1:].tolist()


@given(st.integers(0, 2**51), st.sampled_from(list(Interval)))
def test_every_trade_lies_in_the_period_that_the_interval_says(at_us: int, interval: Interval) -> None:
    assert openings(np.array([at_us]), interval, UTC_DATES).tolist() == [interval.floor_us(at_us)]


# Playing


def rehearse(folder: Path, act: Callable[[Rehearsal], Awaitable[None]]) -> None:
    run_rehearsal(Replay(cache_dir=folder), act, PATIENCE_S)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    (tmp_path / "cache").mkdir()
    return Desk(tmp_path / "cache")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def tape(tmp_path: Path) -> Tape:
    return Tape("BTC-USDT", str(write_csv(tmp_path / "btc.csv", rows())))


async def until(desk: Desk, holds: Callable[[ReplayState], bool]) -> ReplayState:
    while not holds(state := desk.state()):  # noqa: ASYNC110 - it is a file that the plugin writes
        await anyio.sleep(0.02)
    return state


def test_a_tape_plays_to_its_end_every_trade_once_in_order(desk: Desk, folder: Path, tape: Tape) -> None:
    desk.give(tapes=(tape,), speed=FAST)

    async def act(core: Rehearsal) -> None:
        feed = core.subscribe("BTC-USDT")
        assert (await core.next()).is_up is True
        assert await core.rows(feed, 600) == heard_as(rows())
        state = await until(desk, lambda state: state.state is TapeState.ENDED)
        last_us = rows()[-1][0]
        assert (state.begin_us, state.end_us, state.trades) == (BEGIN_US, last_us, 600)
        pulse = await heard(core, lambda found: found.pulse_us is not None)
        assert pulse.pulse_us >= last_us // MINUTE_US * MINUTE_US + MINUTE_US  # its last minute is over

    rehearse(folder, act)


def test_symbols_share_one_clock(desk: Desk, folder: Path, tape: Tape, tmp_path: Path) -> None:
    ether = Tape("ETH-USDT", str(write_csv(tmp_path / "eth.csv", rows(600, first_id=10_001))))
    desk.give(tapes=(tape, ether), speed=200.0)

    async def act(core: Rehearsal) -> None:
        feeds = [core.subscribe("BTC-USDT"), core.subscribe("ETH-USDT")]
        newest = dict.fromkeys(feeds, BEGIN_US)
        pulse_us = 0
        while min(newest.values()) < rows()[-1][0]:
            found = await core.next()
            if found.pulse_us is not None:
                pulse_us = found.pulse_us
            elif found.rows:
                assert found.rows[0][0] > pulse_us  # nothing older comes after a pulse
                newest[found.feed] = int(found.rows[-1][0])

    rehearse(folder, act)


def test_a_pause_holds_everything_but_the_sign_of_life(desk: Desk, folder: Path, tape: Tape) -> None:
    desk.give(tapes=(tape,), speed=FAST, is_playing=False)

    async def act(core: Rehearsal) -> None:
        feed = core.subscribe("BTC-USDT")
        await heard(core, lambda found: found.is_up is True)
        pulse = await core.next()
        assert (pulse.rows, pulse.pulse_us) == ((), BEGIN_US - 1)
        assert desk.state().state is TapeState.PAUSED
        desk.give(is_playing=True)
        assert len(await core.rows(feed, 600)) == 600

    rehearse(folder, act)


def test_wound_forward_a_tape_says_that_something_is_missing(desk: Desk, folder: Path, tape: Tape) -> None:
    desk.give(tapes=(tape,), speed=FAST, is_playing=False)

    async def act(core: Rehearsal) -> None:
        feed = core.subscribe("BTC-USDT")
        await heard(core, lambda found: found.is_up is True)
        desk.give(position_us=BEGIN_US + 299 * SECOND_US, is_playing=True)
        assert "forward" in (await heard(core, lambda found: found.is_up is False)).reason
        await heard(core, lambda found: found.is_up is True)
        assert await core.rows(feed, 300) == heard_as(rows()[300:])

    rehearse(folder, act)


def test_wound_back_every_feed_ends_and_begins_anew(desk: Desk, folder: Path, tape: Tape) -> None:
    desk.give(tapes=(tape,), speed=FAST)

    async def act(core: Rehearsal) -> None:
        feed = core.subscribe("BTC-USDT")
        await core.rows(feed, 600)
        desk.give(position_us=BEGIN_US - 1)
        ended = await heard(core, lambda found: found.error is not None)
        assert isinstance(ended.error, Upstream)
        again = core.subscribe("BTC-USDT")
        assert await core.rows(again, 600) == heard_as(rows())

    rehearse(folder, act)


def test_a_feed_without_a_tape_waits_for_one_and_is_told_so(desk: Desk, folder: Path, tape: Tape) -> None:
    async def act(core: Rehearsal) -> None:
        feed = core.subscribe("BTC-USDT")
        waiting = await core.next()
        assert (waiting.is_up, "no tape of BTC-USDT" in waiting.reason) == (False, True)
        desk.give(tapes=(tape,), speed=FAST)
        await heard(core, lambda found: found.is_up is True)
        assert len(await core.rows(feed, 600)) == 600

    rehearse(folder, act)


def test_a_tape_that_is_taken_out_leaves_its_feeds_down_and_the_next_begins_with_new_ones(
    desk: Desk, folder: Path, tape: Tape
) -> None:
    async def act(core: Rehearsal) -> None:
        desk.give(tapes=(tape,), speed=FAST)
        feed = core.subscribe("BTC-USDT")
        await core.rows(feed, 600)
        desk.give(tapes=())
        assert "taken out" in (await heard(core, lambda found: found.is_up is False)).reason
        desk.give(tapes=(tape,))
        assert isinstance((await heard(core, lambda found: found.error is not None)).error, Upstream)
        assert len(await core.rows(core.subscribe("BTC-USDT"), 600)) == 600

    rehearse(folder, act)


def test_bars_are_not_on_a_tape(desk: Desk, folder: Path, tape: Tape) -> None:
    desk.give(tapes=(tape,), is_playing=False)

    async def act(core: Rehearsal) -> None:
        core.subscribe("BTC-USDT", FeedKind.BARS, "1m")
        assert isinstance((await core.next()).error, Unsupported)

    rehearse(folder, act)


def test_a_tape_that_cannot_be_read_is_told_to_those_who_wait_for_it(desk: Desk, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.csv").write_text("nothing")
    desk.give(tapes=(Tape("BTC-USDT", str(tmp_path / "broken.csv")),))

    async def act(core: Rehearsal) -> None:
        core.subscribe("BTC-USDT")
        assert "broken.csv" in (await heard(core, lambda found: found.is_up is False)).reason
        state = await until(desk, lambda state: state.state is TapeState.FAILED)
        assert "broken.csv" in state.error

    rehearse(folder, act)


# Kills


def test_a_plugin_that_was_killed_goes_on_at_or_before_where_it_was(desk: Desk, folder: Path, tape: Tape) -> None:
    """What a kill leaves is the state that was written last; the trades after it come again, with their numbers."""
    order = desk.give(tapes=(tape,), speed=FAST)
    resume_us = BEGIN_US + 399 * SECOND_US
    left = ReplayState(
        order.serial, TapeState.PLAYING, BEGIN_US + 500 * SECOND_US, resume_us, BEGIN_US, rows()[-1][0], FAST,
        ("BTC-USDT",), 600,
    )  # fmt: skip
    (folder / STATE_FILE).write_text(json.dumps(left.plain()))

    async def act(core: Rehearsal) -> None:
        feed = core.subscribe("BTC-USDT")
        assert await core.rows(feed, 200) == heard_as(rows()[400:])

    rehearse(folder, act)


def test_an_order_given_while_the_plugin_was_down_is_obeyed(desk: Desk, folder: Path, tape: Tape) -> None:
    desk.give(tapes=(tape,), speed=FAST)
    desk.give(position_us=BEGIN_US + 599 * SECOND_US - 1)
    desk.give(speed=FAST / 2)

    async def act(core: Rehearsal) -> None:
        feed = core.subscribe("BTC-USDT")
        assert await core.rows(feed, 1) == heard_as(rows()[599:])
        assert (await until(desk, lambda state: state.serial == 3)).speed == FAST / 2

    rehearse(folder, act)


@pytest.mark.parametrize("torn", [b"", b"{", b"[]", b'{"serial": 1}'])
def test_a_state_that_was_torn_is_none(desk: Desk, folder: Path, tape: Tape, torn: bytes) -> None:
    desk.give(tapes=(tape,), speed=FAST)
    (folder / STATE_FILE).write_bytes(torn)

    async def act(core: Rehearsal) -> None:
        feed = core.subscribe("BTC-USDT")
        assert len(await core.rows(feed, 600)) == 600

    rehearse(folder, act)


def test_stopped_before_it_has_obeyed_it_leaves_the_position_alone(desk: Desk, folder: Path, tape: Tape) -> None:
    order = desk.give(tapes=(tape,), is_playing=False)
    left = ReplayState(order.serial, TapeState.PAUSED, BEGIN_US + 9, BEGIN_US + 7)
    (folder / STATE_FILE).write_text(json.dumps(left.plain()))

    async def act(core: Rehearsal) -> None:
        feed = core.subscribe("BTC-USDT")
        await anyio.lowlevel.checkpoint()
        core.unsubscribe(feed)

    rehearse(folder, act)
    assert desk.state().resume_us == BEGIN_US + 7


# The server's side


def test_what_an_order_does_not_say_stays(desk: Desk, tape: Tape) -> None:
    first = desk.give(tapes=(tape,), speed=60.0)
    assert (first.is_playing, first.position_us) == (True, 0)
    second = desk.give(is_playing=False)
    assert (second.tapes, second.speed, second.is_playing, second.serial) == ((tape,), 60.0, False, 2)
    assert second.position_us == 0  # nobody has obeyed the first one yet
    assert desk.order() == second


def test_the_trades_of_what_is_on_the_tapes_are_wanted_of_the_replay_only(desk: Desk, tape: Tape) -> None:
    assert [str(each) for each in channels(desk.give(tapes=(tape,)))] == ["trades:BTC-USDT@replay"]
    assert channels(desk.give(tapes=())) == frozenset()


# Questions


def played(desk: Desk, folder: Path, until_us: int) -> Any:
    state = ReplayState(desk.order().serial, TapeState.PLAYING, until_us, until_us)
    (folder / STATE_FILE).write_text(json.dumps(state.plain()))
    provider = Replay(cache_dir=folder)
    provider.setup()
    return provider


def test_it_keeps_the_contract(desk: Desk, folder: Path, tape: Tape) -> None:
    desk.give(tapes=(tape,))
    provider = played(desk, folder, BEGIN_US + 10 * MINUTE_US)
    request = HistoryRequest.of("BTC-USDT", "1m", "2024-08-09T00:01", "2024-08-09T00:10")
    assert check(provider, request) == []


def test_what_has_not_been_played_is_not_given_away(desk: Desk, folder: Path, tape: Tape) -> None:
    desk.give(tapes=(tape,))
    provider = played(desk, folder, BEGIN_US + 5 * MINUTE_US + 30 * SECOND_US)
    request = HistoryRequest.of("BTC-USDT", "1m", "2024-08-09T00:00", "2024-08-09T00:10")
    pages = provider.history(request)
    assert [at - BEGIN_US for at in next(pages).time] == [n * MINUTE_US for n in (1, 2, 3, 4)]
    with pytest.raises(Unsupported, match="played up to 2024-08-09T00:05:30"):
        next(pages)
    assert "begins at 2024-08-09T00:00:00" in request.warnings[0]


def test_it_keeps_what_every_stream_must_keep(desk: Desk, folder: Path, tmp_path: Path) -> None:
    tape = Tape("BTC-USDT", str(write_csv(tmp_path / "long.csv", rows(20_000))))
    desk.give(tapes=(tape,), speed=100.0)
    faults = check_stream(Replay(cache_dir=folder), "BTC-USDT", within_s=5.0)
    assert [fault[:2] for fault in faults] == ["S7"]  # no symbol is unknown: it may be on the next tape


# Real days


@pytest.mark.shared
def test_a_recorded_night_of_bitcoin_plays_whole_and_its_bars_are_those_of_its_trades(
    desk: Desk, folder: Path, tmp_path: Path, shared_data: Path
) -> None:
    lines = [
        json.loads(frame)["data"]
        for day in ("20240808", "20240809")
        for frame in recorded_frames(shared_data / f"hftbacktest_ws/spot/btcusdt_{day}.gz")
        if '"btcusdt@trade"' in frame[:40]
    ]
    path = tmp_path / "btc.ndjson"
    path.write_text("\n".join(json.dumps({k: line[k] for k in ("T", "p", "q", "t", "m")}) for line in lines))
    renamed = pl.read_ndjson(path).rename({"T": "time", "p": "price", "q": "size", "t": "id", "m": "is_buyer_maker"})
    renamed.with_columns(pl.col("price", "size").cast(pl.Float64)).write_parquet(tmp_path / "btc.parquet")
    desk.give(tapes=(Tape("BTC-USDT", str(tmp_path / "btc.parquet")),), speed=FAST)

    async def act(core: Rehearsal) -> None:
        feed = core.subscribe("BTC-USDT")
        given_ = await core.rows(feed, len(lines))
        assert given_ == [
            (line["T"] * 1_000, float(line["p"]), float(line["q"]), -1 if line["m"] else 1, line["t"], 0)
            for line in lines
        ]
        await until(desk, lambda state: state.state is TapeState.ENDED)

    rehearse(folder, act)
    request = HistoryRequest.of("BTC-USDT", "1m", "2024-08-08T23:55", "2024-08-09T00:05")
    provider = Replay(cache_dir=folder)
    provider.setup()
    (bars,) = provider.history(request)
    assert len(bars) == 10
    for at, *prices, volume in zip(*(getattr(bars, name) for name in bars.__slots__), strict=True):
        inside = [line for line in lines if at <= line["T"] * 1_000 < at + MINUTE_US]
        p = [float(line["p"]) for line in inside]
        assert prices == [p[0], max(p), min(p), p[-1]]
        assert volume == pytest.approx(sum(float(line["q"]) for line in inside), rel=1e-9)


# Claims


def test_it_is_asked_only_by_name_and_says_what_it_streams() -> None:
    manifest = load_manifest(MANIFESTS / "replay")
    assert manifest.only_by_name
    assert manifest.streams == {FeedKind.TRADES}
    assert set(Replay.methods()) == {"history", "stream"}


def test_it_is_small_while_nothing_is_played(tmp_path: Path) -> None:
    code = (
        "import psutil, sys\n"
        "from timebase.sdk.run import load_provider\n"
        f"load_provider({ENTRYPOINT!r})(cache_dir={str(tmp_path)!r}).setup()\n"
        "assert 'numpy' not in sys.modules\n"
        "print(psutil.Process().memory_info().rss / 2**20)\n"
    )
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=PLUGINS.parent)
    assert float(told.stdout) < 60
