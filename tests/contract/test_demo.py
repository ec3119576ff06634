"""The demo provider: a market that is invented, but the same everywhere and consistent with itself."""

import hashlib
import subprocess
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from timebase.house import MANIFESTS, PLUGINS
from timebase.manifest.load import load_manifest
from timebase.model.timerange import DAY_US, MINUTE_US, to_us
from timebase.sdk import AssetClass, Bars, CorporateAction, HistoryRequest, Interval, SymbolNotFound, Unsupported
from timebase.sdk.contract import check, check_stream
from timebase.sdk.entrypoint import load_provider
from timebase.sdk.rehearsal import open_rehearsal

ENTRYPOINT = f"{PLUGINS}/demo/provider.py:Demo"
Demo = load_provider(ENTRYPOINT)
NEW_YORK = ZoneInfo("America/New_York")
NOW = datetime(2026, 3, 4, 15, 0, 30, tzinfo=UTC)  # a Wednesday, half an hour into New York's session
SYMBOLS = ("DEMO-STOCK", "DEMO-SPLIT", "DEMO-CRYPTO", "DEMO-FX", "DEMO-HALT")
NAMES = ("time", "open", "high", "low", "close", "volume")


class DemoThen(Demo):  # type: ignore[valid-type,misc]
    """The demo with its clock stopped."""

    def __init__(self, now: datetime = NOW) -> None:
        super().__init__()
        self._now = now

    def now_us(self) -> int:
        return to_us(self._now)


def parts(
    symbol: str, interval: str, start: datetime | int, end: datetime | int, now: datetime = NOW
) -> Iterator[object]:
    start_us, end_us = (at if isinstance(at, int) else to_us(at) for at in (start, end))
    request = HistoryRequest(symbol, AssetClass.STOCK, Interval(interval), start_us, end_us)
    return iter(DemoThen(now).history(request))


def ask(symbol: str, interval: str, start: datetime | int, end: datetime | int, now: datetime = NOW) -> pd.DataFrame:
    pages = [part for part in parts(symbol, interval, start, end, now) if isinstance(part, Bars)]
    columns = {name: np.concatenate([np.array([]), *(np.asarray(getattr(p, name)) for p in pages)]) for name in NAMES}
    return pd.DataFrame(columns).astype({"time": np.int64})


def actions_of(given: Iterable[object]) -> list[CorporateAction]:
    return [action for part in given if isinstance(part, list) for action in part]


def utc(*clock: int) -> datetime:
    return datetime(*clock, tzinfo=UTC)  # type: ignore[misc,arg-type]


def clocks(frame: pd.DataFrame, zone: str = "America/New_York") -> pd.Series:
    return pd.to_datetime(frame.time, unit="us", utc=True).dt.tz_convert(zone)


def trading_dates(symbol: str, minutes: pd.DataFrame) -> pd.Series:
    """The date that each minute belongs to, worked out from the market's rule and not from its code."""
    if symbol == "DEMO-FX":
        return (clocks(minutes).dt.tz_localize(None) + pd.Timedelta(hours=7)).dt.normalize()
    zone = "UTC" if symbol == "DEMO-CRYPTO" else "America/New_York"
    return clocks(minutes, zone).dt.tz_localize(None).dt.normalize()


def stamps(dates: pd.Series) -> pd.Series:
    return dates.astype("datetime64[us]").astype(np.int64)


def aggregate(rows: pd.DataFrame, opening: pd.Series) -> pd.DataFrame:
    groups = rows.groupby(opening.to_numpy(), sort=True)
    bars = groups.agg(open=("open", "first"), high=("high", "max"), low=("low", "min"), close=("close", "last"),
                      volume=("volume", "sum"))  # fmt: skip
    return bars.rename_axis("time").reset_index().astype({"time": np.int64})


# The same everywhere


@pytest.mark.parametrize(
    ("symbol", "interval", "digest"),
    [
        ("DEMO-STOCK", "1m", "6f6cdb6b848afbcb"),
        ("DEMO-SPLIT", "1d", "ba301977f5b33b77"),
        ("DEMO-CRYPTO", "1m", "f99f0eede9d2b38a"),
        ("DEMO-FX", "1h", "77f045a9c3a2b907"),
        ("DEMO-HALT", "1wk", "74db9bdc0661b3cd"),
    ],
)
def test_every_machine_makes_the_same_bars(symbol: str, interval: str, digest: str) -> None:
    whole = hashlib.sha256()
    for part in parts(symbol, interval, utc(2004, 12, 20), utc(2005, 4, 10)):
        if isinstance(part, Bars):
            for name in NAMES:
                whole.update(np.asarray(getattr(part, name)).astype("<f8").tobytes())
    assert whole.hexdigest()[:16] == digest


@pytest.mark.parametrize("symbol", SYMBOLS)
@pytest.mark.parametrize("interval", [each.value for each in Interval])
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=st.integers(0, 70 * 1440), length=st.integers(1, 30 * 1440), odd_us=st.integers(-1, 1))
def test_a_bar_is_the_same_whatever_range_is_asked(
    symbol: str, interval: str, first: int, length: int, odd_us: int
) -> None:
    begin = to_us(utc(2024, 2, 20))  # with a change of clocks, holidays and halted days ahead
    whole = ask(symbol, interval, begin, begin + 101 * DAY_US)
    start_us = begin + first * MINUTE_US + odd_us
    end_us = start_us + length * MINUTE_US
    part = ask(symbol, interval, start_us, end_us)
    expected = whole[(whole.time >= start_us) & (whole.time < end_us)].reset_index(drop=True)
    pd.testing.assert_frame_equal(part[part.time >= begin].reset_index(drop=True), expected)


# Consistent with itself


@pytest.mark.parametrize("symbol", SYMBOLS)
@pytest.mark.parametrize("minutes", [5, 15, 30, 60, 240])
def test_an_intraday_bar_is_the_sum_of_its_minutes(symbol: str, minutes: int) -> None:
    start, end = utc(2024, 5, 28), utc(2024, 7, 9)
    ones = ask(symbol, "1m", start, end)
    dates = trading_dates(symbol, ones)
    if symbol == "DEMO-CRYPTO":
        opening = stamps(dates)
    else:
        open_clock = pd.Timedelta(hours=-7) if symbol == "DEMO-FX" else pd.Timedelta(hours=9, minutes=30)
        opening = stamps((dates + open_clock).dt.tz_localize(NEW_YORK).dt.tz_convert("UTC").dt.tz_localize(None))
    length = minutes * MINUTE_US
    expected = aggregate(ones, opening + (ones.time - opening) // length * length)
    name = f"{minutes // 60}h" if minutes >= 60 else f"{minutes}m"
    expected = expected[1:-1].reset_index(drop=True)  # the range asked cuts the outermost of a currency
    asked = ask(symbol, name, start, end)
    pd.testing.assert_frame_equal(asked[asked.time.isin(expected.time)].reset_index(drop=True), expected)
    assert set(asked.time[1:-1]) <= set(expected.time)


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_a_day_is_the_sum_of_its_minutes(symbol: str) -> None:
    ones = ask(symbol, "1m", utc(2004, 12, 27, 0), utc(2005, 3, 31))
    expected = aggregate(ones, stamps(trading_dates(symbol, ones)))
    days = ask(symbol, "1d", utc(2004, 12, 27), utc(2005, 3, 31))
    # Currency days begin at 17:00 the day before: the first is cut off here, the last not over.
    shared = set(expected.time[1:-1]) & set(days.time)
    assert len(shared) > 60
    left, right = (frame[frame.time.isin(shared)].reset_index(drop=True) for frame in (days, expected))
    pd.testing.assert_frame_equal(left, right)
    assert set(days.time[1:-1]) <= set(expected.time)


@pytest.mark.parametrize("symbol", SYMBOLS)
@pytest.mark.parametrize(("interval", "rule"), [("1wk", "W-SUN"), ("1mo", "M")])
def test_weeks_and_months_are_the_sums_of_their_days(symbol: str, interval: str, rule: str) -> None:
    days = ask(symbol, "1d", utc(2000, 1, 1), utc(2025, 1, 1))
    periods = pd.to_datetime(days.time, unit="us").dt.to_period(rule)
    expected = aggregate(days, stamps(periods.dt.start_time))
    expected = expected[(expected.time >= to_us(utc(2000, 1, 1))) & (expected.time < to_us(utc(2024, 12, 1)))]
    given_ = ask(symbol, interval, 0, utc(2024, 12, 1))
    given_, expected = given_[given_.time < expected.time.max()], expected[expected.time < expected.time.max()]
    pd.testing.assert_frame_equal(given_.reset_index(drop=True), expected.reset_index(drop=True))


@pytest.mark.parametrize("symbol", SYMBOLS)
@pytest.mark.parametrize("interval", [each.value for each in Interval])
def test_bars_are_sane(symbol: str, interval: str) -> None:
    start = utc(2000, 1, 1) if Interval(interval).us >= 3600 * 1_000_000 else utc(2023, 11, 1)
    bars = ask(symbol, interval, start, NOW)
    assert len(bars) > 200
    assert (bars.time.diff()[1:] > 0).all()
    assert (bars.time % Interval(interval).grid_us == 0).all() or not Interval(interval).is_intraday
    assert all(Interval(interval).floor_us(at) == at for at in bars.time if not Interval(interval).is_intraday)
    assert (bars.low > 0).all()
    assert (bars.high >= bars[["open", "close", "low"]].max(axis=1)).all()
    assert (bars.low <= bars[["open", "close"]].min(axis=1)).all()
    assert (bars.volume >= 0).all()
    assert np.isfinite(bars.to_numpy()).all()


def test_nothing_is_given_before_2000() -> None:
    for symbol in SYMBOLS:
        for interval in Interval:
            bars = ask(symbol, interval.value, -(10**15), utc(2000, 1, 12))
            assert bars.time.min() >= to_us(utc(2000, 1, 1)) if len(bars) else interval is Interval.MO1


# Markets


def session_clocks(symbol: str, day: date) -> tuple[str, str, int]:
    bars = ask(symbol, "1m", utc(day.year, day.month, day.day), utc(day.year, day.month, day.day) + timedelta(days=1))
    if not len(bars):
        return "", "", 0
    at = pd.to_datetime(bars.time, unit="us", utc=True)
    return f"{at.iloc[0]:%H:%M}", f"{at.iloc[-1]:%H:%M}", len(bars)


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        (date(2024, 3, 8), ("14:30", "20:59", 390)),  # the Friday before the clocks change
        (date(2024, 3, 11), ("13:30", "19:59", 390)),
        (date(2024, 11, 1), ("13:30", "19:59", 390)),
        (date(2024, 11, 4), ("14:30", "20:59", 390)),
        (date(2024, 11, 28), ("", "", 0)),  # Thanksgiving
        (date(2024, 11, 29), ("14:30", "17:59", 210)),
        (date(2024, 6, 19), ("", "", 0)),
        (date(2021, 6, 18), ("13:30", "19:59", 390)),  # Juneteenth was no holiday yet
        (date(2001, 9, 13), ("", "", 0)),
        (date(2025, 1, 9), ("", "", 0)),
        (date(2024, 6, 22), ("", "", 0)),  # a Saturday
    ],
)
def test_the_stock_keeps_new_yorks_hours(day: date, expected: tuple[str, str, int]) -> None:
    assert session_clocks("DEMO-STOCK", day) == expected


@pytest.mark.shared
def test_the_stock_keeps_the_exchanges_calendar_since_2000(shared_data: Path) -> None:
    theirs = pd.read_csv(shared_data / "exchange_calendars/xnys.csv", parse_dates=[0, 1, 2], index_col=0)
    theirs = theirs["2000-01-01":]
    last = theirs.index[-1].to_pydatetime() + timedelta(days=1)
    days = ask("DEMO-STOCK", "1d", utc(2000, 1, 1), last)
    assert (pd.to_datetime(days.time, unit="us", utc=True).to_numpy() == theirs.index.to_numpy()).all()
    ones = ask("DEMO-STOCK", "1m", utc(2000, 1, 1), last)
    spans = ones.time.groupby(stamps(trading_dates("DEMO-STOCK", ones)).to_numpy()).agg(["min", "max", "size"])
    assert (spans["min"].to_numpy() == theirs.open.astype("datetime64[us, UTC]").astype(np.int64)).all()
    closing = theirs.close.astype("datetime64[us, UTC]").astype(np.int64)
    assert (spans["max"].to_numpy() + MINUTE_US == closing).all()
    assert (spans["size"].to_numpy() * MINUTE_US == closing - spans["min"].to_numpy()).all()


def test_the_coin_trades_every_minute() -> None:
    bars = ask("DEMO-CRYPTO", "1m", utc(2024, 2, 28), utc(2024, 3, 3))
    assert bars.time.tolist() == list(range(to_us(utc(2024, 2, 28)), to_us(utc(2024, 3, 3)), MINUTE_US))
    assert (bars.open.to_numpy()[1:] == bars.close.to_numpy()[:-1]).all()


@pytest.mark.parametrize("sunday", [utc(2024, 3, 10), utc(2024, 11, 3), utc(2024, 6, 2)])
def test_currencies_trade_from_sunday_to_friday_17_00_new_york(sunday: datetime) -> None:
    clock = clocks(ask("DEMO-FX", "1m", sunday - timedelta(days=1), sunday + timedelta(days=6)))
    assert f"{clock.iloc[0]:%a %H:%M}" == "Sun 17:00"
    assert f"{clock.iloc[-1]:%a %H:%M}" == "Fri 16:59"
    assert len(clock) == 5 * 1440
    days = ask("DEMO-FX", "1d", sunday - timedelta(days=1), sunday + timedelta(days=7))
    assert pd.to_datetime(days.time, unit="us").dt.day_name().str[:3].tolist() == ["Mon", "Tue", "Wed", "Thu", "Fri"]


def test_halted_days_and_holes_are_where_the_manifest_says() -> None:
    assert session_clocks("DEMO-HALT", date(2024, 6, 12)) == ("", "", 0)
    assert session_clocks("DEMO-HALT", date(2024, 6, 13)) == ("14:00", "19:59", 390 - 30 - 6)
    clock = clocks(ask("DEMO-HALT", "1m", utc(2024, 6, 11), utc(2024, 6, 12)))
    every = pd.date_range("2024-06-11 09:30", "2024-06-11 15:59", freq="min", tz=NEW_YORK)
    assert [f"{at:%H:%M}" for at in every.difference(clock)] == ["10:17", "12:00", "12:01", "12:02", "12:03", "12:04"]
    fives = clocks(ask("DEMO-HALT", "5m", utc(2024, 6, 11), utc(2024, 6, 12)))
    assert len(fives) == 77
    assert "12:00" not in {f"{at:%H:%M}" for at in fives}


def test_a_split_moves_the_raw_price_and_nothing_else() -> None:
    days = ask("DEMO-SPLIT", "1d", utc(2000, 1, 1), NOW).set_index("time")
    splits = [a for a in actions_of(parts("DEMO-SPLIT", "1d", utc(2024, 1, 2), utc(2024, 1, 3))) if a.kind == "split"]
    assert [action.value for action in splits] == [2.0, 4.0, 4.0]
    for action in splits:
        at = days.index.get_loc(action.ex_date_us)
        jump = days.close.iloc[at - 1] / days.open.iloc[at]
        assert jump == pytest.approx(action.value, rel=0.05)
    factor = pd.Series(1.0, index=days.index)
    for action in splits:
        factor[days.index < action.ex_date_us] /= action.value
    adjusted = days.close * factor
    assert adjusted.pct_change().abs().max() < 0.1
    assert days.close.pct_change().abs().max() > 0.7


def test_dividends_are_paid_quarterly_and_leave_the_price() -> None:
    actions = actions_of(parts("DEMO-SPLIT", "1m", utc(2024, 1, 2), utc(2024, 1, 3)))
    paid = [action for action in actions if action.kind == "dividend"]
    assert len(paid) == 4 * 23 + 1
    assert [action.ex_date_us for action in actions] == sorted(action.ex_date_us for action in actions)
    days = ask("DEMO-SPLIT", "1d", utc(2000, 1, 1), NOW).set_index("time")
    drops = []
    for action in paid:
        at = days.index.get_loc(action.ex_date_us)
        assert action.value == pytest.approx(days.close.iloc[at - 1] * 0.004, abs=0.01)
        assert action.currency == "USD"
        drops.append(days.open.iloc[at] / days.close.iloc[at - 1] - 1)
    assert -0.006 < np.mean(drops) < -0.002


def test_other_symbols_have_no_corporate_actions() -> None:
    assert actions_of(parts("DEMO-STOCK", "1d", utc(2000, 1, 1), NOW)) == []


# Now


@pytest.mark.parametrize("symbol", SYMBOLS)
@pytest.mark.parametrize("interval", [each.value for each in Interval])
def test_nothing_comes_from_the_future(symbol: str, interval: str) -> None:
    bars = ask(symbol, interval, NOW - timedelta(days=40), NOW + timedelta(days=400))
    assert bars.time.max() <= to_us(NOW)
    assert not len(ask(symbol, interval, NOW + timedelta(days=1), NOW + timedelta(days=400)))


@pytest.mark.parametrize("symbol", SYMBOLS)
@pytest.mark.parametrize("interval", [each.value for each in Interval if each is not Interval.M1])
def test_a_forming_bar_holds_the_minutes_that_have_begun(symbol: str, interval: str) -> None:
    last = ask(symbol, interval, NOW - timedelta(days=40), NOW + timedelta(days=1)).iloc[-1]
    ones = ask(symbol, "1m", NOW - timedelta(days=40), NOW)
    opening = last.time - (2 * 3600_000_000 if symbol == "DEMO-FX" and not Interval(interval).is_intraday else 0)
    inside = ones[ones.time >= opening]
    assert (last.close, last.high, last.low) == (inside.close.iloc[-1], inside.high.max(), inside.low.min())
    assert last.volume == inside.volume.sum()


def test_a_bar_that_was_forming_ends_as_everyone_gets_it_later() -> None:
    start, end = utc(2026, 3, 3), utc(2026, 3, 5)
    early, later = (ask("DEMO-STOCK", "1d", start, end, now) for now in (NOW, NOW + timedelta(days=30)))
    assert early.open.tolist() == later.open.tolist()
    assert early.iloc[0].equals(later.iloc[0])
    assert early.volume.iloc[1] < later.volume.iloc[1]


def test_the_stock_of_today_has_no_bar_before_the_session_opens() -> None:
    morning = utc(2026, 3, 4, 9)
    days = ask("DEMO-STOCK", "1d", morning - timedelta(days=2), morning + timedelta(days=1), morning)
    assert pd.to_datetime(days.time, unit="us").dt.day.tolist() == [3]


# As a provider


@pytest.mark.parametrize("symbol", ["AAPL", "DEMO", "demo-stock", "DEMO-STOCK ", ""])
def test_it_invents_prices_for_no_other_symbol(symbol: str) -> None:
    with pytest.raises(SymbolNotFound):
        list(parts(symbol, "1d", utc(2024, 1, 1), NOW))


def test_twenty_years_of_minutes_come_in_batches_while_they_are_made() -> None:
    stream = parts("DEMO-CRYPTO", "1m", utc(2005, 1, 1), utc(2025, 1, 1))
    sizes = [len(part) for part in islice(stream, 3)]
    assert sizes == [65_536, 65_536, 65_536]


@pytest.mark.parametrize("symbol", SYMBOLS)
@pytest.mark.parametrize("interval", [each.value for each in Interval])
def test_it_keeps_what_every_provider_must_keep(symbol: str, interval: str) -> None:
    days = 500 if Interval(interval).us > DAY_US else 40 if Interval(interval).us > 3600_000_000 else 9
    start_us = to_us(utc(2024, 6, 7))
    request = HistoryRequest(symbol, AssetClass.STOCK, Interval(interval), start_us, start_us + days * DAY_US)
    assert check(DemoThen(), request) == []


def test_the_manifest_and_the_code_name_the_same_symbols() -> None:
    manifest = load_manifest(MANIFESTS / "demo")
    assert list(manifest.symbols) == list(DemoThen().symbols("", 100))
    assert [each.symbol for each in manifest.symbols] == list(SYMBOLS)
    assert manifest.intervals == frozenset(Interval)


def test_symbols_are_found_by_any_part_of_their_name() -> None:
    demo = DemoThen()
    assert [each.symbol for each in demo.symbols("coin", 10)] == ["DEMO-CRYPTO"]
    assert [each.symbol for each in demo.symbols("demo-", 2)] == ["DEMO-STOCK", "DEMO-SPLIT"]


def test_it_is_small_while_nobody_asks() -> None:
    code = (
        "import psutil, sys\n"
        "from timebase.sdk.run import load_provider\n"
        f"load_provider({ENTRYPOINT!r})().symbols('', 10)\n"
        "assert 'numpy' not in sys.modules\n"
        "print(psutil.Process().memory_info().rss / 2**20)\n"
    )
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=PLUGINS.parent)
    assert float(told.stdout) < 60


# Live


def tapes(symbol: str, start: datetime, minutes: int) -> pd.DataFrame:
    """The trades and quotes of some minutes, straight from the tape."""
    import tape
    from markets import MARKETS

    first = to_us(start) // MINUTE_US
    found = (tape.tape(MARKETS[symbol], minute) for minute in range(first, first + minutes))
    parts = [pd.DataFrame(part._asdict()) for part in found if part is not None]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=tape.Tape._fields)


@pytest.mark.parametrize("symbol", SYMBOLS)
@pytest.mark.parametrize("start", [utc(2024, 3, 8, 14, 20), utc(2024, 6, 13, 13, 50), utc(2003, 1, 6, 16, 40)])
def test_the_trades_of_a_minute_make_its_bar_exactly(symbol: str, start: datetime) -> None:
    end = start + timedelta(hours=1)
    bars = ask(symbol, "1m", start, end)
    trades = tapes(symbol, start, 60)
    minutes = trades.groupby(trades.time // MINUTE_US * MINUTE_US)
    built = minutes.agg(open=("price", "first"), high=("price", "max"), low=("price", "min"), close=("price", "last"))
    assert built.index.tolist() == bars.time.tolist()
    for name in ("open", "high", "low", "close"):
        assert (built[name].to_numpy() == bars[name].to_numpy()).all()
    assert np.allclose(minutes["size"].sum(), bars.volume, rtol=1e-12, atol=0)


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_the_tape_is_sane(symbol: str) -> None:
    trades = tapes(symbol, utc(2024, 6, 11, 13, 0), 90)
    assert (trades.time.diff()[1:] > 0).all()
    assert (trades.id.diff()[1:] > 0).all()
    assert (trades["size"] >= 0).all()
    assert set(trades.side) == {-1, 1}
    assert (trades.bid > 0).all()
    assert (trades.bid < trades.ask).all()
    assert ((trades.price == trades.bid) | (trades.price == trades.ask)).all()
    assert trades.groupby(trades.time // 1_000_000).size().between(1, 2).all()


def test_every_machine_has_the_same_tape() -> None:
    trades = tapes("DEMO-CRYPTO", utc(2024, 1, 1), 60)
    digest = hashlib.sha256(b"".join(trades[name].to_numpy().tobytes() for name in trades.columns)).hexdigest()
    assert digest[:16] == "ed1815e7a78adb46"


def test_nobody_trades_while_the_market_is_closed() -> None:
    assert not len(tapes("DEMO-STOCK", utc(2024, 6, 15, 13), 600))  # a Saturday
    assert not len(tapes("DEMO-HALT", utc(2024, 6, 11, 16, 0), 5))


class DemoRuns(Demo):  # type: ignore[valid-type,misc]
    """The demo with its clock set to `start` when it is made; from then on it runs with trio's."""

    backend = "trio"

    def __init__(self, start: datetime) -> None:
        super().__init__()
        self._start_us = to_us(start)
        self._began = trio.current_time()

    def now_us(self) -> int:
        return self._start_us + int((trio.current_time() - self._began) * 1_000_000)


async def test_the_stream_tells_the_tape_as_the_clock_goes(autojump_clock: trio.testing.MockClock) -> None:
    start = utc(2024, 6, 11, 14, 29, 30)
    async with open_rehearsal(DemoRuns(start)) as core:
        coin, quotes = core.subscribe("DEMO-CRYPTO"), core.subscribe("DEMO-STOCK", "quotes")
        told: dict[object, list[tuple[float, ...]]] = {coin: [], quotes: []}
        pulses = []
        while to_us(start) + 150_000_000 > (pulses or [0])[-1]:
            heard = await core.next()
            assert heard.error is None
            told[heard.feed] += heard.rows
            now_us = to_us(start) + int(trio.current_time() * 1_000_000)
            assert all(row[0] <= now_us for row in heard.rows)
            assert all(row[0] > pulses[-1] for row in heard.rows if pulses)
            if heard.pulse_us is not None and heard.feed == coin:
                pulses.append(heard.pulse_us)
    assert len(pulses) == 151
    want = tapes("DEMO-CRYPTO", utc(2024, 6, 11, 14, 29), 4)
    want = want[(want.time > to_us(start)) & (want.time <= pulses[-1])]
    assert [row[:5] for row in told[coin]] == list(
        want[["time", "price", "size", "side", "id"]].itertuples(index=False, name=None)
    )
    wanted = tapes("DEMO-STOCK", utc(2024, 6, 11, 14, 29), 4)
    assert [row[0] for row in told[quotes]] == [at for at in wanted.time if to_us(start) < at <= pulses[-1]]


async def test_a_closed_market_is_quiet_and_its_pulse_goes_on(autojump_clock: trio.testing.MockClock) -> None:
    async with open_rehearsal(DemoRuns(utc(2024, 6, 15, 15))) as core:
        core.subscribe("DEMO-STOCK")
        heard = [await core.next() for _ in range(31)]
    assert heard[0].is_up
    assert [one.pulse_us is not None for one in heard[1:]] == [True] * 30


async def test_it_refuses_what_it_does_not_stream(autojump_clock: trio.testing.MockClock) -> None:
    async with open_rehearsal(DemoRuns(NOW)) as core:
        core.subscribe("AAPL")
        assert isinstance((await core.next()).error, SymbolNotFound)
        core.subscribe("DEMO-STOCK", "bars", "1m")
        assert isinstance((await core.next()).error, Unsupported)


@pytest.mark.parametrize("kind", ["trades", "quotes"])
def test_its_streams_keep_what_every_stream_must_keep(kind: str) -> None:
    assert check_stream(Demo(), "DEMO-CRYPTO", kind, rows=2) == []
