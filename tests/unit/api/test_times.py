"""What people write for an instant."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from timebase.api.times import EARLIEST_US, LATEST_US, enough_us, iso, parse_time, snap, usual_us
from timebase.model.instrument import AssetClass
from timebase.model.interval import Interval
from timebase.model.timerange import DAY_US, MINUTE_US, SECOND_US, to_us


def at(*parts: int) -> int:
    return to_us(datetime(*parts, tzinfo=UTC))  # type: ignore[misc, arg-type]


NOW = at(2024, 3, 31, 12, 34, 56)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2020-01-31", at(2020, 1, 31)),
        ("2020-01-31T14:30", at(2020, 1, 31, 14, 30)),
        ("2020-01-31T14:30:00Z", at(2020, 1, 31, 14, 30)),
        ("2020-01-31T14:30:00+02:00", at(2020, 1, 31, 12, 30)),
        ("2020-01-31T14:30:00 02:00", at(2020, 1, 31, 12, 30)),  # an unescaped plus in a URL
        ("2020-01-31 14:30:00", at(2020, 1, 31, 14, 30)),
        ("20200131", at(2020, 1, 31)),
        ("2020", at(2020, 1, 1)),
        ("2020-02", at(2020, 2, 1)),
        ("1580478600", at(2020, 1, 31, 13, 50)),
        ("1580478600000", at(2020, 1, 31, 13, 50)),
        ("1580478600.5", at(2020, 1, 31, 13, 50) + SECOND_US // 2),
        ("0", 0),
        ("-86400", -DAY_US),
        ("-30", -30 * SECOND_US),  # without a unit it is half a minute before 1970
        ("now", NOW),
        ("-30d", NOW - 30 * DAY_US),
        ("-90m", NOW - 90 * MINUTE_US),
        ("-2w", NOW - 14 * DAY_US),
        ("-1mo", at(2024, 2, 29, 12, 34, 56)),  # the 31st of February is its last day
        ("-1y", at(2023, 3, 31, 12, 34, 56)),
        ("-15mo", at(2022, 12, 31, 12, 34, 56)),
    ],
)
def test_an_instant_is_read_as_it_is_meant(text: str, expected: int) -> None:
    assert parse_time(text, NOW) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2020-13-01",
        "2020-02-30",
        "30d",
        "-3q",
        "20201340",
        "1e3",
        "nan",
        "٣",
        "2020-01-01T25:00",
    ],
)
def test_what_is_not_an_instant_is_refused_with_the_forms_that_are(text: str) -> None:
    with pytest.raises(ValueError, match="write 2020-01-31"):
        parse_time(text, NOW)


@pytest.mark.parametrize(
    "text", ["1800-01-01", "2300-01-01", "-999y", "-9999y", "-99999999d", "99999999999", "-99999999999999999"]
)
def test_an_instant_outside_of_all_markets_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="between 1900 and 2200"):
        parse_time(text, NOW)


@given(st.text(max_size=30))
def test_no_text_breaks_the_reader(text: str) -> None:
    try:
        assert EARLIEST_US <= parse_time(text, NOW) <= LATEST_US
    except ValueError as exc:
        assert str(exc)  # noqa: PT017 - any refusal will do, as long as it says something


@given(st.integers(EARLIEST_US, LATEST_US), st.sampled_from(list(Interval)))
def test_snapping_keeps_exactly_the_bars_that_open_later(at_us: int, interval: Interval) -> None:
    snapped = snap(at_us, interval)
    assert at_us <= snapped <= at_us + 31 * DAY_US
    assert snap(snapped, interval) == snapped
    if not interval.is_intraday:
        assert interval.floor_us(snapped) == snapped
        assert snapped == at_us or interval.floor_us(at_us) < at_us  # no opening instant is skipped


@given(st.integers(1, 100_000), st.sampled_from(list(Interval)))
def test_a_limit_reaches_far_enough_back_round_the_clock(bars: int, interval: Interval) -> None:
    end_us = snap(NOW, interval)
    assert enough_us(interval, bars, AssetClass.CRYPTO) >= bars * (
        interval.us if interval is not Interval.MO1 else 28 * DAY_US
    )
    assert enough_us(interval, bars, AssetClass.STOCK) >= bars * interval.us
    assert end_us - usual_us(interval) < end_us


def test_a_limit_reaches_far_enough_back_on_an_exchange() -> None:
    year_of_days = enough_us(Interval.D1, 252, AssetClass.STOCK)
    assert year_of_days > 365 * DAY_US
    a_day_of_minutes = enough_us(Interval.M1, 390, AssetClass.STOCK)
    assert a_day_of_minutes > 4 * DAY_US  # over a long week-end


def test_instants_are_shown_in_iso_form() -> None:
    assert iso(at(2020, 1, 31, 14, 30)) == "2020-01-31T14:30:00Z"
