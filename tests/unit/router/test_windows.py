"""Sliding windows against a vendor that counts for itself."""

import math

from hypothesis import given
from hypothesis import strategies as st

from timebase.manifest.manifest import RateWindow
from timebase.router.windows import GUARD_S, Spent

SECOND = RateWindow(5, 1.0)


def most_in_any_window(arrivals, length_s):
    """The most arrivals that any closed window of that length sees; some fullest window begins at an arrival."""
    arrivals = sorted(arrivals)
    return max((sum(1 for b in arrivals if a <= b <= a + length_s) for a in arrivals), default=0)


def test_five_may_go_at_once_and_the_sixth_a_second_later():
    spent = Spent()
    for _ in range(5):
        assert spent.opens_at(0.0, [SECOND], 1) == 0.0
        spent.land(spent.take(1), 0.0)

    assert spent.opens_at(0.0, [SECOND], 1) == 1.0 + GUARD_S
    assert spent.used(0.5, SECOND) == 5


def test_a_request_that_is_under_way_counts_as_now():
    spent = Spent()
    for _ in range(4):
        spent.land(spent.take(1), 0.0)
    take = spent.take(1)
    spent.settle(3.0, 1.0)

    assert spent.used(3.0, SECOND) == 1
    spent.land(take, 3.0)
    assert spent.used(3.9, SECOND) == 1
    assert spent.used(4.1, SECOND) == 0


def test_what_never_lands_is_landed_when_it_is_overdue():
    spent = Spent()
    take = spent.take(5, lands_by=2.0)
    spent.settle(10.0, 1.0)

    assert spent.in_flight == 0
    assert spent.used(10.0, SECOND) == 0
    spent.land(take, 10.0)
    assert spent.used(10.0, SECOND) == 0


def test_more_at_once_than_a_window_holds_never_fit():
    assert Spent().opens_at(0.0, [SECOND], 6) == math.inf
    assert Spent().forecast(0.0, [RateWindow(0, 1.0)], 1) == math.inf


def test_the_forecast_looks_through_those_that_wait():
    spent = Spent()

    assert spent.forecast(0.0, [SECOND], 5) == 0.0
    assert spent.forecast(0.0, [SECOND], 6) == 1.0 + GUARD_S
    assert round(spent.forecast(0.0, [SECOND, RateWindow(6, 60.0)], 13), 3) == 120.01


WINDOWS = st.lists(
    st.builds(RateWindow, st.integers(1, 6), st.sampled_from([0.5, 1.0, 3.0, 15.0])), min_size=1, max_size=3
)
QUESTIONS = st.lists(
    st.tuples(st.floats(0, 3), st.floats(0, 4), st.floats(0, 1), st.integers(1, 2)), min_size=1, max_size=60
)


@given(WINDOWS, QUESTIONS)
def test_no_window_of_the_vendors_ever_sees_more_than_its_limit(windows, questions):
    """Each question is asked as early as it may; its requests arrive anywhere between permission and answer."""
    spent, now, arrivals, landings = Spent(), 0.0, [], []
    longest = max(window.window_s for window in windows)
    for idle_s, took_s, when, n in questions:
        now += idle_s
        while True:
            for take, at in [each for each in landings if each[1] <= now]:
                spent.land(take, at)
                landings.remove((take, at))
            spent.settle(now, longest)
            at = spent.opens_at(now, windows, n)
            if at <= now or math.isinf(at):
                break
            now = min([at, *(landing for _, landing in landings)])
        if math.isinf(at):
            continue
        landings.append((spent.take(n), now + took_s))
        arrivals += [now + took_s * when] * n

    for window in windows:
        assert most_in_any_window(arrivals, window.window_s) <= window.requests
