from hypothesis import given
from hypothesis import strategies as st

from timebase.model.timerange import Ranges, TimeRange

INSTANTS = range(40)


def instants(ranges: Ranges) -> set[int]:
    return {at for part in ranges.parts for at in range(part.start_us, part.end_us)}


@st.composite
def some_ranges(draw: st.DrawFn) -> Ranges:
    pairs = draw(st.lists(st.tuples(st.integers(0, 39), st.integers(1, 8)), max_size=8))
    return Ranges.of(TimeRange(start, start + length) for start, length in pairs)


@given(some_ranges(), some_ranges())
def test_the_algebra_is_that_of_sets_of_instants(a: Ranges, b: Ranges) -> None:
    assert instants(a | b) == instants(a) | instants(b)
    assert instants(a & b) == instants(a) & instants(b)
    assert instants(a - b) == instants(a) - instants(b)


@given(some_ranges(), some_ranges())
def test_results_are_sorted_and_neither_overlap_nor_touch(a: Ranges, b: Ranges) -> None:
    for result in (a | b, a & b, a - b):
        assert result == Ranges.of(result.parts)
        assert all(x.end_us < y.start_us for x, y in zip(result.parts, result.parts[1:], strict=False))
