"""Each rule alone, then the promises of the whole book over generated columns."""

import math
from collections import Counter
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from timebase.model.bars import Bars
from timebase.model.instrument import AssetClass
from timebase.model.interval import Interval
from timebase.model.timerange import DAY_US, HOUR_US, MINUTE_US, to_us
from timebase.quality.clean import is_clean
from timebase.quality.rules import RULES, Context
from timebase.quality.validator import judge

T0 = to_us(datetime(2024, 1, 8, tzinfo=UTC))  # a Monday
NOW = to_us(datetime(2024, 6, 1, tzinfo=UTC))
RULE = {rule.name: rule for rule in RULES}


def context(interval=Interval.M1, asset_class=AssetClass.STOCK, now=NOW):
    return Context(interval, asset_class, now)


def bars(*rows, times=None, step=MINUTE_US):
    """Rows of open, high, low, close, volume; one minute apart from T0 unless said otherwise."""
    columns = list(zip(*rows, strict=True))
    return Bars.of(times or [T0 + i * step for i in range(len(rows))], *columns)


def at(*times):
    return bars(*[GOOD] * len(times), times=times)


GOOD = (10.0, 12.0, 9.0, 11.0, 100.0)


@pytest.mark.parametrize(
    ("rule", "row"),
    [
        ("finite", (math.nan, 12, 9, 11, 100)),
        ("finite", (10, math.inf, 9, 11, 100)),
        ("finite", (10, 12, -math.inf, 11, 100)),
        ("finite", (10, 12, 9, math.nan, 100)),
        ("finite", (10, 12, 9, 11, math.inf)),
        ("positive", (10, 12, 0, 11, 100)),
        ("positive", (-1, 12, -1, 11, 100)),
        ("volume", (10, 12, 9, 11, -1)),
        ("high", (10, 10.5, 9, 11, 100)),
        ("high", (10, 8, 9, 10, 100)),
        ("low", (10, 12, 10.5, 11, 100)),
    ],
)
def test_a_broken_row_is_refused_under_the_rules_name_and_its_neighbours_stay(rule, row):
    kept, refused, warnings = judge(bars(GOOD, row, GOOD), context())

    assert [(r.rule, len(r.bars)) for r in refused] == [(rule, 1)]
    assert refused[0].bars.time.tolist() == [T0 + MINUTE_US]
    assert kept.time.tolist() == [T0, T0 + 2 * MINUTE_US]
    assert f"1 bar refused by rule {rule}" in " ".join(warnings)
    assert "2024-01-08T00:01:00Z" in " ".join(warnings)


def test_rules_have_one_name_each():
    assert len(RULE) == len(RULES)


@pytest.mark.parametrize("asset_class", [AssetClass.FUTURE, AssetClass.COMMODITY, AssetClass.INDEX, AssetClass.BOND])
def test_crude_oil_may_settle_at_minus_37_dollars(asset_class):
    oil = bars((-1.0, 17.85, -40.32, -37.63, 247_000.0))

    assert is_clean(oil, context(asset_class=asset_class))
    assert not RULE["positive"].bad(oil, context(asset_class=asset_class)).any()


def test_float_noise_below_one_part_in_a_billion_is_not_a_fault():
    close = 0.1 + 0.2
    noisy = bars((0.2, 0.3, 0.2, close, 1.0), (0.3, 0.4, close, 0.4, 1.0))

    kept, refused, _ = judge(noisy, context())

    assert not is_clean(noisy, context())
    assert refused == ()
    assert kept.equals(noisy)


@pytest.mark.parametrize(
    ("interval", "good", "bad"),
    [
        (Interval.M1, T0 + 7 * MINUTE_US, T0 + 1),
        (Interval.M5, T0 + 10 * MINUTE_US, T0 + 7 * MINUTE_US),
        (Interval.M15, T0 + 45 * MINUTE_US, T0 + 40 * MINUTE_US),
        (Interval.M30, T0 + 15 * MINUTE_US, T0 + 10 * MINUTE_US),
        (Interval.H1, T0 + 9 * HOUR_US + 30 * MINUTE_US, T0 + 9 * HOUR_US + 31 * MINUTE_US),
        (Interval.H4, T0 + 3 * HOUR_US + 45 * MINUTE_US, T0 + 5 * MINUTE_US),
        (Interval.D1, T0 + DAY_US, T0 + 5 * HOUR_US),
        (Interval.W1, T0 + 7 * DAY_US, T0 + DAY_US),
        (Interval.MO1, to_us(datetime(2024, 2, 1, tzinfo=UTC)), T0),
    ],
)
def test_bars_open_on_the_grid_of_their_interval(interval, good, bad):
    assert RULE["alignment"].bad(at(bad, good), context(interval)).tolist() == [True, False]


@given(st.sampled_from(Interval), st.integers(-5_000_000_000_000_000, 5_000_000_000_000_000))
def test_the_opening_instant_of_any_period_is_on_the_grid(interval, instant):
    assert not RULE["alignment"].bad(at(interval.floor_us(instant)), context(interval)).any()


def test_times_before_1900_and_in_the_future_are_refused():
    ahead = Interval.D1.end_us(NOW)
    times = (to_us(datetime(1899, 12, 31, tzinfo=UTC)), to_us(datetime(1900, 1, 1, tzinfo=UTC)), ahead, ahead + DAY_US)

    assert RULE["time_range"].bad(at(*times), context(Interval.D1)).tolist() == [True, False, False, True]


def test_sydney_may_stamp_a_bar_with_the_date_that_begins_in_an_hour():
    now = to_us(datetime(2024, 3, 5, 23, tzinfo=UTC))

    assert is_clean(at(to_us(datetime(2024, 3, 6, tzinfo=UTC))), context(Interval.D1, now=now))


def test_the_first_of_contradicting_bars_is_kept():
    other = (10.0, 13.0, 9.0, 12.0, 100.0)

    kept, refused, _ = judge(bars(other, GOOD, GOOD, times=(T0, T0, T0 + MINUTE_US)), context())

    assert kept.close.tolist() == [12.0, 11.0]
    assert [(r.rule, r.bars.close.tolist()) for r in refused] == [("duplicate_time", [11.0])]


def test_a_broken_bar_does_not_stand_in_for_a_good_one_of_the_same_time():
    broken = (math.nan, 12.0, 9.0, 11.0, 100.0)

    kept, refused, _ = judge(bars(broken, GOOD, times=(T0, T0)), context())

    assert kept.open.tolist() == [10.0]
    assert [r.rule for r in refused] == ["finite"]


def test_exact_copies_are_dropped_and_said():
    kept, refused, warnings = judge(bars(GOOD, GOOD, GOOD, times=(T0, T0, T0)), context())

    assert len(kept) == 1
    assert refused == ()
    assert "2 bars dropped: exact copies" in warnings


def test_copies_without_a_volume_are_copies_too():
    silent = (10.0, 12.0, 9.0, 11.0, math.nan)

    kept, refused, warnings = judge(bars(silent, silent, times=(T0, T0)), context())

    assert kept.volume.tolist() == [0.0]
    assert refused == ()
    assert "1 bar dropped: exact copies" in warnings


def test_quarter_hours_do_not_pass_for_hours():
    kept, refused, _ = judge(bars(*[GOOD] * 20, step=15 * MINUTE_US), context(Interval.H1))

    assert len(kept) == 0
    assert [(r.rule, len(r.bars)) for r in refused] == [("spacing", 20)]


def test_a_short_step_where_one_session_ends_and_the_next_begins_is_honest():
    hours = [9.0, 9.5, 10.5, 11.5, 12.5, 13.5, 14.5, 15.5, 16.0, 17.0]

    assert is_clean(at(*(T0 + int(h * HOUR_US) for h in hours)), context(Interval.H1))


PRICE = st.one_of(st.floats(0.01, 1e6), st.sampled_from([0.0, -1.0, math.nan, math.inf, -math.inf, 1e308, 5e-324]))
ROW = st.tuples(PRICE, PRICE, PRICE, PRICE, PRICE)
SLOTS = st.one_of(st.integers(-3, 12), st.sampled_from([-(2**36), 2**36]))


@st.composite
def any_bars(draw):
    """Rows of anything on the minute grid and beside it; half of them honest."""
    rows = draw(st.lists(st.tuples(SLOTS, st.sampled_from([0, 0, 0, 1]), st.one_of(st.just(GOOD), ROW)), max_size=12))
    return (
        bars(*(row for _, _, row in rows), times=[T0 + s * MINUTE_US + off for s, off, _ in rows])
        if rows
        else Bars.empty()
    )


def at_all(kept):
    tolerance = 1 + 1e-9
    return bool(
        np.isfinite([kept.open, kept.high, kept.low, kept.close, kept.volume]).all()
        and (kept.low > 0).all()
        and (kept.high * tolerance >= np.maximum(kept.open, kept.close)).all()
        and (kept.low <= np.minimum(kept.open, kept.close) * tolerance).all()
        and (kept.volume >= 0).all()
        and (np.diff(kept.time) > 0).all()
        and (kept.time % MINUTE_US == 0).all()
    )


@given(any_bars())
def test_what_is_kept_breaks_no_rule(columns):
    kept, _, _ = judge(columns, context())

    assert at_all(kept)
    again, refused, warnings = judge(kept, context())
    assert again.equals(kept)
    assert refused == ()
    assert not any(warnings)


@given(any_bars())
def test_every_row_is_kept_refused_or_an_exact_copy(columns):
    kept, refused, _ = judge(columns, context())

    def times(some):
        return sorted(some.time.tolist())

    went = times(Bars.concat([kept, *(r.bars for r in refused)]))
    copied = Counter(times(columns)) - Counter(went)
    assert not Counter(went) - Counter(times(columns))
    assert set(copied) <= set(went)


@given(any_bars())
def test_refused_rows_leave_as_they_came(columns):
    _, refused, _ = judge(columns, context())

    came = set(rows(columns))
    assert all(row in came for r in refused for row in rows(r.bars))


def rows(some):
    return [tuple(map(repr, row)) for row in zip(*(column.tolist() for column in some.columns()), strict=True)]


@given(any_bars())
def test_the_quick_look_calls_clean_only_what_no_rule_refuses(columns):
    if is_clean(columns, context()):
        kept, refused, warnings = judge(columns, context())
        assert kept.equals(columns)
        assert refused == ()
        assert not any(warnings)


@given(any_bars())
def test_judging_changes_no_input(columns):
    before = [column.copy() for column in columns.columns()]

    judge(columns, context())

    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(before, columns.columns(), strict=True))
