from hypothesis import given
from hypothesis import strategies as st

from timebase.model.bars import Bars, Flag
from timebase.storage.merge import difference


def bars_of(closes: dict[int, tuple[float, int]]) -> Bars:
    times = sorted(closes)
    column = [closes[t][0] for t in times]
    return Bars.of(times, column, column, column, column, column, [closes[t][1] for t in times])


SOME = st.dictionaries(
    st.integers(0, 12),
    st.tuples(st.sampled_from([1.0, 2.0]), st.sampled_from([0, int(Flag.FORMING), int(Flag.REVISED)])),
)


@given(stored=SOME, incoming=SOME)
def test_each_row_is_judged_by_the_stored_row_of_its_time(
    stored: dict[int, tuple[float, int]], incoming: dict[int, tuple[float, int]]
) -> None:
    what = difference(bars_of(stored), bars_of(incoming))
    for place, time in enumerate(sorted(incoming)):
        is_new, is_changed, is_revised = bool(what.new[place]), bool(what.changed[place]), bool(what.revised[place])
        assert is_new == (time not in stored)
        if is_new:
            assert not is_changed
            assert not is_revised
            continue
        (old, old_flags), (new, new_flags) = stored[time], incoming[time]
        was_forming, is_forming = bool(old_flags & Flag.FORMING), bool(new_flags & Flag.FORMING)
        expected = (old != new or (was_forming and not is_forming)) and not (is_forming and not was_forming)
        assert is_changed == expected
        assert is_revised == (expected and not was_forming)


def test_a_forming_bar_that_closes_is_no_revision() -> None:
    what = difference(bars_of({1: (1.0, Flag.FORMING)}), bars_of({1: (2.0, 0)}))
    assert what.changed.tolist() == [True]
    assert what.revised.tolist() == [False]


def test_a_closed_bar_is_not_replaced_by_a_forming_one() -> None:
    what = difference(bars_of({1: (1.0, 0)}), bars_of({1: (2.0, Flag.FORMING)}))
    assert what.changed.tolist() == [False]


def test_the_same_bars_again_change_nothing() -> None:
    bars = bars_of({t: (float(t), 0) for t in range(100)})
    what = difference(bars, bars)
    assert not what.new.any()
    assert not what.changed.any()


def test_a_volume_that_was_added_up_in_another_order_is_no_revision() -> None:
    ours, theirs, other = (Bars.of([0], [1.0], [1.0], [1.0], [1.0], [v]) for v in (0.1 + 0.2 + 0.3, 0.6, 0.6001))
    assert ours.volume[0] != theirs.volume[0]
    assert not difference(ours, theirs).changed.any()
    assert difference(ours, other).revised.all()
