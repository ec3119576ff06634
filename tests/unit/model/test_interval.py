from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from timebase.model.interval import Interval, parse_interval
from timebase.model.timerange import to_us


def us(text: str) -> int:
    return to_us(datetime.fromisoformat(text).replace(tzinfo=UTC))


@pytest.mark.parametrize(
    ("interval", "at", "opens", "ends"),
    [
        ("1m", "2024-03-10T07:31:59", "2024-03-10T07:31:00", "2024-03-10T07:32:00"),
        ("4h", "2024-03-10T07:31:59", "2024-03-10T04:00:00", "2024-03-10T08:00:00"),
        ("1d", "2024-02-29T23:59:59", "2024-02-29T00:00:00", "2024-03-01T00:00:00"),
        ("1wk", "2024-03-10T12:00:00", "2024-03-04T00:00:00", "2024-03-11T00:00:00"),
        ("1mo", "2024-02-29T12:00:00", "2024-02-01T00:00:00", "2024-03-01T00:00:00"),
        ("1mo", "2023-12-31T12:00:00", "2023-12-01T00:00:00", "2024-01-01T00:00:00"),
        ("1mo", "1969-12-31T12:00:00", "1969-12-01T00:00:00", "1970-01-01T00:00:00"),
    ],
)
def test_a_period_opens_and_ends_where_the_calendar_says(interval: str, at: str, opens: str, ends: str) -> None:
    kind = Interval(interval)
    assert kind.floor_us(us(at)) == us(opens)
    assert kind.end_us(us(opens)) == us(ends)


@given(st.sampled_from(Interval), st.integers(-(10**15), 4 * 10**15))
def test_every_instant_lies_in_exactly_one_period(interval: Interval, at_us: int) -> None:
    opens = interval.floor_us(at_us)
    assert opens <= at_us < interval.end_us(opens)
    assert interval.floor_us(opens) == opens
    assert interval.floor_us(interval.end_us(opens)) == interval.end_us(opens)


@pytest.mark.parametrize(
    ("alias", "name"),
    [("1M", "1mo"), ("1m", "1m"), ("1D", "1d"), ("1w", "1wk"), ("60m", "1h"), ("1H", "1h"), (" 15min ", "15m")],
)
def test_aliases_name_intervals(alias: str, name: str) -> None:
    assert parse_interval(alias) is Interval(name)


@pytest.mark.parametrize("text", ["", "2m", "1y", "hour", "1 m", "m1"])
def test_other_texts_are_no_interval(text: str) -> None:
    assert parse_interval(text) is None
