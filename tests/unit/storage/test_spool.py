import errno
import os
import resource
import shutil
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from timebase.errors import ConfigError, StoreUnavailable
from timebase.model.bars import Bars, Batch, Outcome, Refused
from timebase.model.feed import Feed, FeedKind
from timebase.model.instrument import AssetClass, CorporateAction, Instrument
from timebase.model.interval import Interval
from timebase.model.live import Arrival, BarStatus, BarUpdate, LiveBatch, Ticks
from timebase.model.series import Series, TickSeries
from timebase.model.ticks import Quotes, Trades
from timebase.model.timerange import MINUTE_US, TimeRange
from timebase.storage.delivery import Delivery
from timebase.storage.spool import Spool, SpoolFull, open_spool

MB = 1 << 20


def batch(number: int, n: int = 3) -> Batch:
    prices = np.linspace(1.0, 2.0, n)
    bars = Bars.of(np.arange(n) * MINUTE_US, prices, prices, prices, prices, prices, np.arange(n) % 4)
    odd = Bars.of([7], [np.nan], [np.inf], [-np.inf], [0.0], [-0.0])
    return Batch(
        demand_id=number,
        series=Series(3, 2, "ÄPL", "demo", Interval.M1),
        covers=TimeRange(-5, n * MINUTE_US),
        outcome=Outcome.PARTIAL,
        reason="backfill",
        fetched_us=1_700_000_000_000_001,
        bars=bars,
        is_last=True,
        actions=(CorporateAction(0, "split", 4.0), CorporateAction(1, "dividend", 0.1, "USD")),
        refused=(Refused("finite", odd), Refused("volume", Bars.empty())),
        warnings=("a", "b\n\0"),
        why="timeout: slow",
        settled_us=None,
    )


def assert_same(a: Batch, b: Batch) -> None:
    assert [getattr(a, name) for name in PLAIN] == [getattr(b, name) for name in PLAIN]
    assert a.bars.equals(b.bars)
    assert [refused.rule for refused in a.refused] == [refused.rule for refused in b.refused]
    for mine, theirs in zip(a.refused, b.refused, strict=True):
        for left, right in zip(mine.bars.columns(), theirs.bars.columns(), strict=True):
            assert left.tobytes() == right.tobytes()


PLAIN = (
    "demand_id", "series", "covers", "outcome", "reason", "fetched_us", "is_last", "actions", "warnings", "why",
    "settled_us",
)  # fmt: skip


async def taken(spool: Spool) -> list[int]:
    """The numbers of all batches in the spool, which is empty then."""
    numbers = []
    while (waiting := await spool.oldest()) is not None:
        numbers += [each.demand_id for each in waiting.batches]
        await spool.remove(waiting.path)
    return numbers


async def test_a_batch_comes_out_as_it_went_in(tmp_path: Path) -> None:
    with open_spool(tmp_path, MB) as spool:
        await spool.append([batch(1), batch(2, n=0)])
        waiting = await spool.oldest()
    assert waiting is not None
    for mine, theirs in zip(waiting.batches, (batch(1), batch(2, n=0)), strict=True):
        assert_same(mine, theirs)


async def test_a_live_delivery_comes_out_with_what_is_stored_of_it(tmp_path: Path) -> None:
    ticks = TickSeries(5, 2, "BTC-USDT", "demo", "trades")
    feed = Feed(9, FeedKind.TRADES, Instrument(2, "BTC-USDT", AssetClass.CRYPTO), "demo", None, ticks)
    quoted = replace(feed, id=10, kind=FeedKind.QUOTES, ticks=replace(ticks, id=6, kind="quotes"))
    trades = Trades.of([1, 2], [0.1, np.nan], [3.0, 4.0], [-1, 1], [2**60, 0], [0, 2])
    quotes = Quotes.of([3], [1.0], [2.0], [3.0], [4.0])
    bars = Bars.of([0], *[[1.5]] * 5)
    updates = [
        BarUpdate(feed, Series(7, 2, "BTC-USDT", "demo", Interval.M1), status, bars, np.asarray([4]),
                  np.asarray([np.nan]), np.asarray([1], np.int32), 77)
        for status in (BarStatus.CLOSED, BarStatus.FORMING)
    ]  # fmt: skip
    words = (Arrival(feed, 5, pulse_us=4), Arrival(feed, 6, is_up=False, reason="hung up"))
    one = LiveBatch((Ticks(feed, 11, trades=trades),), tuple(updates))
    two = LiveBatch((Ticks(quoted, 12, quotes=quotes),), (), words)
    delivery = Delivery("me", "token", 13)
    with open_spool(tmp_path, MB) as spool:
        await spool.append_live([one, two], delivery)
        waiting = await spool.oldest()
    assert waiting is not None
    assert waiting.live is not None
    assert waiting.live.delivery == delivery
    found = waiting.live.batch
    assert [each.feed for each in found.ticks] == [feed, quoted]
    assert [each.received_us for each in found.ticks] == [11, 12]
    for mine, theirs in ((found.ticks[0].trades, trades), (found.ticks[1].quotes, quotes)):
        assert mine is not None
        assert [column.tobytes() for column in mine.columns()] == [column.tobytes() for column in theirs.columns()]
    (closed,) = found.updates
    assert (closed.series, closed.status, closed.event_us) == (updates[0].series, BarStatus.CLOSED, 77)
    assert closed.bars.equals(bars)
    assert (closed.trades.tolist(), closed.revision.tolist(), closed.vwap.tobytes()) == (
        [4], [1], np.asarray([np.nan]).tobytes()
    )  # fmt: skip
    assert found.words == (words[1],)


def test_a_spool_keeps_its_name(tmp_path: Path) -> None:
    with open_spool(tmp_path / "a", MB) as spool:
        name = spool.writer
    with open_spool(tmp_path / "a", MB) as again, open_spool(tmp_path / "b", MB) as other:
        assert again.writer == name != other.writer


async def test_batches_come_out_in_order_also_after_a_restart(tmp_path: Path) -> None:
    with open_spool(tmp_path, MB) as spool:
        for number in range(12):
            await spool.append([batch(number)])
    with open_spool(tmp_path, MB) as spool:
        await spool.append([batch(12)])
        assert len(spool) == 13
        assert await taken(spool) == list(range(13))
        assert spool.bytes == 0
        assert not list(tmp_path.glob("*.batches"))


async def test_the_bound_holds_and_what_does_not_fit_leaves_no_trace(tmp_path: Path) -> None:
    with open_spool(tmp_path, MB) as spool:
        for number in range(4):
            await spool.append([batch(number, n=4_300)])
        with pytest.raises(SpoolFull, match=r"of 1\.0 MB"):
            await spool.append([batch(4, n=4_300)])
        on_disk = sum(path.stat().st_size for path in tmp_path.iterdir())
        assert on_disk == spool.bytes <= MB
        assert await taken(spool) == list(range(4))
        await spool.append([batch(99, n=4_300)])


async def test_a_full_disk_is_a_full_spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with open_spool(tmp_path, MB) as spool:
        await spool.append([batch(1)])
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(SpoolFull, match="No space left"):
                await spool.append([batch(2)])
        await spool.append([batch(3)])
        assert await taken(spool) == [1, 3]


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
async def test_a_damaged_file_is_set_aside_loudly(tmp_path: Path, damage: str, expected_errors: list[str]) -> None:
    expected_errors.append("cannot be replayed")
    with open_spool(tmp_path, MB) as spool:
        for number in range(3):
            await spool.append([batch(number)])
    victim = sorted(tmp_path.glob("*.batches"))[1]
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes({"cut": data[:-7], "flip": data, "empty": b""}[damage])
    with open_spool(tmp_path, MB) as spool:
        assert await taken(spool) == [0, 2]
    assert len(list(tmp_path.glob("*.set-aside"))) == 1


async def test_a_file_that_was_being_written_in_a_crash_never_was(tmp_path: Path) -> None:
    (tmp_path / "000000000001.tmp").write_bytes(b"TBSPOOL1 half a bat")
    with open_spool(tmp_path, MB) as spool:
        assert len(spool) == 0
    assert not list(tmp_path.glob("*.tmp"))


async def test_numbers_go_on_after_one_that_was_set_aside(tmp_path: Path) -> None:
    (tmp_path / "000000000041.set-aside").write_bytes(b"")
    with open_spool(tmp_path, MB) as spool:
        await spool.append([batch(1)])
    assert (tmp_path / "000000000042.batches").exists()


def test_a_spool_belongs_to_one_server(tmp_path: Path) -> None:
    with open_spool(tmp_path, MB), pytest.raises(ConfigError, match="another TimeBase"), open_spool(tmp_path, MB):
        pass


# --- a disk that misbehaves


@contextmanager
def limited(what: int, soft: int) -> Iterator[None]:
    """This process may take no more of it, while the block runs."""
    before, hard = resource.getrlimit(what)
    resource.setrlimit(what, (soft, hard))
    try:
        yield
    finally:
        resource.setrlimit(what, (before, hard))


@contextmanager
def replaced(path: Path) -> Iterator[None]:
    """By a folder with something in it, which can neither be unlinked nor overwritten."""
    aside = path.with_name(f"elsewhere-{path.name}.bak")
    if path.exists():
        path.rename(aside)
    path.mkdir()
    (path / "something").touch()
    yield
    shutil.rmtree(path)
    if aside.exists():
        aside.rename(path)


async def test_a_file_that_the_disk_does_not_take_whole_leaves_no_trace(tmp_path: Path) -> None:
    with open_spool(tmp_path, MB) as spool:
        await spool.append([batch(1)])
        with limited(resource.RLIMIT_FSIZE, 50_000), pytest.raises(SpoolFull, match="File too large"):
            await spool.append([batch(2, n=4_300), batch(3)])
        assert (spool.lost, "File too large" in spool.refusal) == (2, True)
        assert len(list(tmp_path.glob("*.batches"))) == 1
        await spool.append([batch(4)])
        assert (spool.lost, spool.refusal) == (2, "")
        assert await taken(spool) == [1, 4]


async def test_a_folder_that_is_gone_is_a_full_spool_until_it_is_back(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    with open_spool(folder, MB) as spool:
        await spool.append([batch(1)])
        folder.rename(tmp_path / "gone")
        folder.touch()
        with pytest.raises(SpoolFull, match="Not a directory"):
            await spool.append([batch(2)])
        folder.unlink()
        with pytest.raises(SpoolFull, match="No such file"):
            await spool.append([batch(3)])
        (tmp_path / "gone").rename(folder)
        await spool.append([batch(4)])
        assert await taken(spool) == [1, 4]


async def test_a_file_that_somebody_deleted_holds_up_nobody(tmp_path: Path, expected_errors: list[str]) -> None:
    expected_errors.append("was deleted by somebody else")
    with open_spool(tmp_path, MB) as spool:
        for number in range(3):
            await spool.append([batch(number)])
        sorted(tmp_path.glob("*.batches"))[1].unlink()
        assert await taken(spool) == [0, 2]


async def test_a_file_that_was_deleted_while_it_was_stored_is_just_gone(tmp_path: Path) -> None:
    with open_spool(tmp_path, MB) as spool:
        await spool.append([batch(1)])
        waiting = await spool.oldest()
        assert waiting is not None
        waiting.path.unlink()
        assert await spool.remove(waiting.path) == ""
        assert (len(spool), spool.bytes, spool.stuck) == (0, 0, 0)


async def test_what_cannot_be_deleted_is_told_once_and_replayed_by_nobody(
    tmp_path: Path, expected_errors: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    expected_errors.append("cannot be deleted")
    with open_spool(tmp_path, MB) as spool:
        for number in range(3):
            await spool.append([batch(number)])
        first, second, _ = sorted(tmp_path.glob("*.batches"))
        with replaced(first), replaced(second):
            assert len({await spool.remove(path) for path in (first, second)} - {""}) == 2
            assert (len(spool), spool.stuck) == (1, 2)
            assert await taken(spool) == [2]
            assert spool.bytes > 0
    (told,) = (record.getMessage() for record in caplog.records if "cannot be deleted" in record.getMessage())
    assert "Make" in told


async def test_one_that_could_not_be_deleted_is_known_after_a_restart_and_one_of_the_same_name_is_not_taken_for_it(
    tmp_path: Path,
) -> None:
    with open_spool(tmp_path, MB) as spool:
        for number in range(3):
            await spool.append([batch(number)])
        first = min(tmp_path.glob("*.batches"))
        mark = f"{first.name} {first.stat().st_mtime_ns}"
    with open_spool(tmp_path, MB) as spool:
        await spool.forget({mark})
        assert await taken(spool) == [1, 2]
        assert not first.exists()
    with open_spool(tmp_path, MB) as spool:
        await spool.append([batch(9)])
        assert first.exists()
        await spool.forget({mark})
        assert await taken(spool) == [9]


async def test_what_cannot_even_be_set_aside_stays_where_it_is_and_holds_up_nobody(
    tmp_path: Path, expected_errors: list[str]
) -> None:
    expected_errors.append("stays where it is")
    with open_spool(tmp_path, MB) as spool:
        for number in range(2):
            await spool.append([batch(number)])
        victim = min(tmp_path.glob("*.batches"))
        victim.write_bytes(b"garbage")
        with replaced(victim.with_suffix(".set-aside")):
            assert await taken(spool) == [1]
        assert victim.read_bytes() == b"garbage"


async def test_a_process_without_files_left_waits_and_loses_nothing(tmp_path: Path) -> None:
    with open_spool(tmp_path, MB) as spool:
        await spool.append([batch(1)])
        with limited(resource.RLIMIT_NOFILE, 0), pytest.raises(StoreUnavailable, match="Too many open files"):
            await spool.oldest()
        assert await taken(spool) == [1]


@pytest.mark.parametrize("head", [b"{}", b"[]", b"garbage", b'{"writer":1}'])
@pytest.mark.parametrize("magic", [b"TBSPOOL1", b"TBSPOOL2"])
async def test_a_whole_file_of_another_version_is_set_aside(
    tmp_path: Path, expected_errors: list[str], head: bytes, magic: bytes
) -> None:
    expected_errors.append("not of this version")
    body = struct.pack("<I", len(head)) + head
    (tmp_path / "000000000001.batches").write_bytes(magic + body + struct.pack("<I", zlib.crc32(body)))
    with open_spool(tmp_path, MB) as spool:
        await spool.append([batch(2)])
        assert await taken(spool) == [2]


@pytest.mark.parametrize("name", ["000000000001 (copy).batches", "1a.batches", "notes.set-aside"])
async def test_what_somebody_put_beside_the_files_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"what is this")
    with open_spool(tmp_path, MB) as spool:
        await spool.append([batch(1)])
        assert await taken(spool) == [1]
    assert (tmp_path / name).exists()


async def test_there_is_room_beyond_the_bound_to_say_what_was_lost(tmp_path: Path) -> None:
    ticks = TickSeries(5, 2, "BTC-USDT", "demo", "trades")
    feed = Feed(9, FeedKind.TRADES, Instrument(2, "BTC-USDT", AssetClass.CRYPTO), "demo", None, ticks)
    words = LiveBatch(words=(Arrival(feed, 6, is_up=False, reason="full"),))
    with open_spool(tmp_path, 1) as spool:
        with pytest.raises(SpoolFull):
            await spool.append_live([words], Delivery("me"))
        await spool.append_words(words, Delivery("me"))
        waiting = await spool.oldest()
    assert waiting is not None
    assert waiting.live is not None
    assert waiting.live.batch.words == words.words


def test_a_folder_that_cannot_be_tidied_up_is_the_operators_to_repair(tmp_path: Path) -> None:
    (tmp_path / "000000000001.tmp").mkdir()
    with pytest.raises(ConfigError, match="cannot be written"), open_spool(tmp_path, MB):
        pass
