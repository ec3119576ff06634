from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from timebase.model.alias import Alias, Aliases, Name
from timebase.model.interval import Interval
from timebase.model.timerange import DAY_US, EVER, Ranges, TimeRange, to_us

CHANGE = to_us(datetime(2022, 6, 9, tzinfo=UTC))  # a Thursday
BEFORE, AFTER = TimeRange(EVER.start_us, CHANGE), TimeRange(CHANGE, EVER.end_us)
META = Aliases.of([Alias("META", CHANGE, "FB")])
GUARDED = Aliases.of([Alias("META", CHANGE)])


def test_without_aliases_an_instrument_always_goes_by_its_symbol() -> None:
    assert META.names("AAPL", "acme", Interval.D1) == (Name("AAPL", EVER),)
    assert not META.nameless("AAPL", "acme", Interval.D1)


def test_before_the_change_it_goes_by_the_name_before() -> None:
    assert META.names("META", "acme", Interval.D1) == (Name("FB", BEFORE), Name("META", AFTER))
    assert not META.nameless("META", "acme", Interval.D1)


def test_where_no_name_before_is_given_it_has_none() -> None:
    assert GUARDED.names("META", "acme", Interval.M1) == (Name("META", AFTER),)
    assert GUARDED.nameless("META", "acme", Interval.M1) == Ranges((BEFORE,))


def test_a_period_in_which_the_name_changes_has_none() -> None:
    monday, next_monday = CHANGE - 3 * DAY_US, CHANGE + 4 * DAY_US
    assert META.nameless("META", "acme", Interval.W1) == Ranges((TimeRange(monday, next_monday),))


def test_several_changes_follow_each_other() -> None:
    aliases = Aliases.of([Alias("C", 20 * DAY_US, "B"), Alias("C", 10 * DAY_US, "A")])
    assert [name.native for name in aliases.names("C", "acme", Interval.D1)] == ["A", "B", "C"]
    assert aliases.names("C", "acme", Interval.D1)[1].range == TimeRange(10 * DAY_US, 20 * DAY_US)


def test_a_providers_own_aliases_stand_before_those_for_all() -> None:
    aliases = Aliases.of([Alias("META", CHANGE), Alias("META", CHANGE, "FB", "acme")])
    assert not aliases.nameless("META", "acme", Interval.D1)
    assert aliases.nameless("META", "other", Interval.D1)


def test_what_changed_between_two_is_where_the_names_differ() -> None:
    changed = Ranges((BEFORE,))
    for one, other in ((META, Aliases()), (GUARDED, Aliases()), (META, GUARDED)):
        assert one.changed(other, "META", "acme", Interval.D1) == changed
        assert other.changed(one, "META", "acme", Interval.D1) == changed
        assert not one.changed(one, "META", "acme", Interval.D1)


ALIAS = st.builds(
    Alias, st.sampled_from("XY"), st.integers(-9, 9).map(lambda day: day * DAY_US), st.sampled_from(["A", "B", None])
)


@given(st.lists(ALIAS, unique_by=lambda each: (each.symbol, each.until_us)), st.sampled_from(list(Interval)))
def test_names_neither_overlap_nor_leave_out_what_is_not_nameless(given: list[Alias], interval: Interval) -> None:
    aliases = Aliases.of(given)
    names = aliases.names("X", "acme", interval)
    parts = [name.range for name in names] + list(aliases.nameless("X", "acme", interval).parts)
    assert sum(part.length_us for part in parts) == EVER.length_us
    assert Ranges.of(parts) == Ranges((EVER,))
