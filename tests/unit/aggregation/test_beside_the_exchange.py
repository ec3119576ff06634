"""Bars built from what was recorded, beside the bars that the exchange or the vendor made of the same trades.

What differs, and why, is told in docs/streaming.md.
"""

import gzip
import io
import json
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from unit.aggregation.tapes import bars_of, builder_of, same, standing, told

from timebase.aggregation.rebuild import rebuild
from timebase.model.interval import Interval
from timebase.model.live import BarStatus, BarUpdate
from timebase.model.ticks import Trades
from timebase.model.timerange import DAY_US, MINUTE_US, to_us

pytestmark = pytest.mark.shared

MINUTE_25 = to_us(datetime(2021, 7, 22, 22, 25, tzinfo=UTC))
MINUTE_26 = MINUTE_25 + MINUTE_US
SYMBOLS = ["SUSHIUSDT", "AKROUSDT", "KEEPUSDT", "CTKUSDT"]
VOLUME_TOLERANCE = 1e-9


# --- Binance USD-M futures: aggregated trades and klines on one socket ---


def socket_messages(shared_data: Path, symbol: str, kind: str) -> list[dict[str, Any]]:
    lines = (shared_data / "cryptofeed_ws" / "BINANCE_FUTURES.ws.1.0").read_text().splitlines()
    bodies = [json.loads(line.split(": ", 1)[1])["data"] for line in lines if line[:1].isdigit()]
    return [body for body in bodies if body["e"] == kind and body["s"] == symbol]


def futures_trades(messages: list[dict[str, Any]]) -> Trades:
    return Trades.of(
        [m["T"] * 1000 for m in messages],
        [float(m["p"]) for m in messages],
        [float(m["q"]) for m in messages],
        id=[m["a"] for m in messages],
    )


def last_kline(shared_data: Path, symbol: str, minute_us: int) -> dict[str, Any]:
    klines = [m["k"] for m in socket_messages(shared_data, symbol, "kline") if m["k"]["t"] * 1000 == minute_us]
    return dict(klines[-1])


def forming_minute(trades: Trades) -> tuple[float, ...]:
    builder = builder_of([Interval.M1])
    builder.take(trades)
    (update,) = builder.forming([Interval.M1])
    assert update.bars.time.tolist() == [MINUTE_26]
    return next(iter(bars_of(update).values()))


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_the_minute_in_which_the_capture_began_is_never_told_closed(shared_data: Path, symbol: str) -> None:
    builder = builder_of([Interval.M1])
    builder.take(futures_trades(socket_messages(shared_data, symbol, "aggTrade")))

    assert told(builder.closed(), Interval.M1) == [(MINUTE_25, "missing", 0)]
    assert last_kline(shared_data, symbol, MINUTE_25)["x"] is True


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_a_minute_of_futures_is_the_exchanges_at_its_last_update(shared_data: Path, symbol: str) -> None:
    kline = last_kline(shared_data, symbol, MINUTE_26)
    messages = [m for m in socket_messages(shared_data, symbol, "aggTrade") if m["f"] <= kline["L"]]
    *prices, volume, _, _ = forming_minute(futures_trades(messages))

    assert prices == [float(kline[name]) for name in "ohlc"]
    # An aggregated trade is told whole; the kline was told between its two halves.
    split = 14_165 - 12_652 if symbol == "AKROUSDT" else 0
    assert messages[-1]["l"] - kline["L"] == (1 if symbol == "AKROUSDT" else 0)
    assert volume - float(kline["v"]) == pytest.approx(split, abs=VOLUME_TOLERANCE)


# --- FXCM: quotes, and the seconds and minutes that the vendor made of them ---


def csv_rows(archive: Path) -> Iterator[list[str]]:
    with zipfile.ZipFile(archive) as folder, folder.open(folder.namelist()[0]) as lines:
        yield from (line.strip().split(",") for line in io.TextIOWrapper(lines))


@pytest.mark.parametrize("day", ["20140501", "20140502", "20140504", "20140505"])
@pytest.mark.parametrize("side", ["bid", "ask"])
def test_minutes_of_quotes_are_the_vendors(shared_data: Path, day: str, side: str) -> None:
    folder = shared_data / "lean" / "forex" / "fxcm"
    ticks = list(csv_rows(folder / "tick" / "eurusd" / f"{day}_quote.zip"))
    column = 1 if side == "bid" else 2
    midnight = to_us(datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC))
    times = [midnight + int(row[0]) * 1000 for row in ticks]
    tape = Trades.of(times, [float(row[column]) for row in ticks], np.zeros(len(ticks)))

    built = rebuild(tape, intervals=[Interval.M1])[Interval.M1].bars

    at = 1 if side == "bid" else 6
    theirs = list(csv_rows(folder / "minute" / "eurusd" / f"{day}_quote.zip"))
    assert built.time.tolist() == [midnight + int(row[0]) * 1000 for row in theirs]
    for ours, offset in ((built.open, 0), (built.high, 1), (built.low, 2), (built.close, 3)):
        assert ours.tolist() == [float(row[at + offset]) for row in theirs]


# --- Coinbase: seconds, minutes and the day ---


def coinbase_rows(archive: Path, midnight: int) -> dict[int, list[float]]:
    return {midnight + int(row[0]) * 1000: [float(x) for x in row[1:6]] for row in csv_rows(archive)}


def coinbase_tape(seconds: dict[int, list[float]]) -> Trades:
    """Trades that a second's bar can be made of: its prices in turn, its volume with the last of them."""
    time = np.repeat(np.fromiter(seconds, np.int64), 4) + np.tile(np.arange(4), len(seconds))
    price = np.array([bar[:4] for bar in seconds.values()]).ravel()
    size = np.array([[0, 0, 0, bar[4]] for bar in seconds.values()]).ravel()
    return Trades.of(time, price, size)


@pytest.mark.parametrize("day", ["20161007", "20161008", "20161009"])
def test_minutes_and_the_day_of_coinbase_are_the_exchanges(shared_data: Path, day: str) -> None:
    folder = shared_data / "lean" / "crypto" / "coinbase"
    midnight = to_us(datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC))
    seconds = coinbase_rows(folder / "second" / "btcusd" / f"{day}_trade.zip", midnight)
    minutes = coinbase_rows(folder / "minute" / "btcusd" / f"{day}_trade.zip", midnight)
    daily = {row[0][:8]: [float(x) for x in row[1:6]] for row in csv_rows(folder / "daily" / "btcusd_trade.zip")}

    built = rebuild(coinbase_tape(seconds), intervals=[Interval.M1, Interval.D1])

    ours = bars_of(built[Interval.M1])
    assert ours.keys() == minutes.keys()
    assert {at: list(bar[:4]) for at, bar in ours.items()} == {at: bar[:4] for at, bar in minutes.items()}
    assert [bar[4] for bar in ours.values()] == pytest.approx([bar[4] for bar in minutes.values()], rel=1e-9)
    (date,) = bars_of(built[Interval.D1]).items()
    assert date[0] == midnight
    assert list(date[1][:4]) == daily[day][:4]
    assert date[1][4] == pytest.approx(daily[day][4], rel=1e-9)


# --- Binance spot: every single trade, in two captures without a hole across midnight UTC ---


def spot_trades(shared_data: Path) -> Trades:
    messages = []
    for name in ("btcusdt_20240808.gz", "btcusdt_20240809.gz"):
        with gzip.open(shared_data / "hftbacktest_ws" / "spot" / name, "rt") as lines:
            bodies = (json.loads(line.split(" ", 1)[1]).get("data", {}) for line in lines)
            messages += [body for body in bodies if body.get("e") == "trade"]
    ids = [m["t"] for m in messages]
    assert ids == list(range(ids[0], ids[-1] + 1))
    prices, sizes = [float(m["p"]) for m in messages], [float(m["q"]) for m in messages]
    return Trades.of([m["T"] * 1000 for m in messages], prices, sizes, id=ids)


def by_hand(trades: Trades, interval_us: int) -> dict[int, list[float]]:
    """One trade after the other, as one would on paper."""
    bars: dict[int, list[float]] = {}
    for at, price, size in zip(trades.time.tolist(), trades.price.tolist(), trades.size.tolist(), strict=True):
        bar = bars.setdefault(at // interval_us * interval_us, [price, price, price, price, 0.0, 0])
        bar[1:4] = max(bar[1], price), min(bar[2], price), price
        bar[4] += size
        bar[5] += 1
    return bars


def test_a_socket_across_midnight_closes_the_day_once_and_every_bar_as_made_by_hand(shared_data: Path) -> None:
    tape = spot_trades(shared_data)
    midnight = to_us(datetime(2024, 8, 9, tzinfo=UTC))
    builder = builder_of(lateness_us=100_000)
    updates: list[BarUpdate] = []
    for start in range(0, len(tape), 7):
        builder.take(tape.pick(slice(start, start + 7)))
        updates += builder.closed()

    minutes = told(updates, Interval.M1, BarStatus.CLOSED)
    assert [stamp for stamp, _, _ in minutes] == list(
        range(midnight - 5 * MINUTE_US, midnight + 5 * MINUTE_US, MINUTE_US)
    )
    paper = by_hand(tape, MINUTE_US)
    for stamp, bar in standing(updates, Interval.M1).items():
        assert list(bar[:4]) == paper[stamp][:4]
        assert bar[4] == pytest.approx(paper[stamp][4], abs=VOLUME_TOLERANCE)
        assert bar[5] == paper[stamp][5]
    assert told(updates, Interval.D1) == [(midnight - DAY_US, "missing", 0)]  # seen only from 23:54 on
    held = standing(updates, Interval.M1)
    rebuilt = bars_of(rebuild(tape)[Interval.M1])
    assert same(held, {stamp: rebuilt[stamp] for stamp in held})


# --- MarketStore: what people really load ---


def marketstore_tape(shared_data: Path, name: str, pattern: str) -> Trades:
    rows = [line.split(",") for line in (shared_data / "marketstore" / name).read_text().splitlines()]
    rows = [row for row in rows if row[0][:1].isdigit()]
    times = [to_us(datetime.strptime(row[0], pattern).replace(tzinfo=UTC)) for row in rows]
    return Trades.of(times, [float(row[1]) for row in rows], np.ones(len(rows)))


def test_an_unsorted_file_makes_the_bars_of_the_sorted_one(shared_data: Path) -> None:
    tape = marketstore_tape(shared_data, "ticks-example-not-sorted-by-time.csv", "%Y-%m-%dT%H:%M:%S.%f")
    in_order = tape.pick(np.argsort(tape.time, kind="stable"))
    assert tape.time.tolist() != in_order.time.tolist()

    unsorted, ordered = rebuild(tape), rebuild(in_order)

    assert all(same(bars_of(unsorted[i]), bars_of(ordered[i])) for i in Interval)
    at = to_us(datetime(2018, 11, 21, 1, 23, tzinfo=UTC))
    assert bars_of(unsorted[Interval.M1])[at][:6] == (112.80, 112.82, 112.80, 112.82, 2.0, 2)


def test_a_date_of_1970_is_a_bar_of_1970_and_identical_ticks_count_twice(shared_data: Path) -> None:
    tape = marketstore_tape(shared_data, "ticks-example-1.csv", "%Y%m%d %H:%M:%S %f")
    builder = builder_of()
    builder.take(tape.pick(slice(0, 3)))
    builder.take(tape.pick(slice(3, None)))
    updates = builder.closed()

    days = bars_of(rebuild(tape)[Interval.D1])
    assert [int(bar[5]) for bar in days.values()][:2] == [2, 1]
    assert list(days)[:2] == [DAY_US, 2 * DAY_US]
    # The first day is the one in which the feed joined; between 1970 and 2016 there is nothing, and nothing is told.
    assert told(updates, Interval.D1) == [(DAY_US, "missing", 0), (2 * DAY_US, "closed", 0)]
