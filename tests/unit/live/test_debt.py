"""What of a debt is asked for now, what rests, what is over."""

import pytest

from timebase.live.debt import Debt
from timebase.model.calendar import Calendar
from timebase.model.interval import Interval
from timebase.model.series import Series
from timebase.model.timerange import MINUTE_US, Ranges, TimeRange


def minutes(first, last):
    return TimeRange(first * MINUTE_US, last * MINUTE_US)


@pytest.fixture
def debt():
    return Debt(Series(1, 1, "BTC-USDT", "binance", Interval.M1), Calendar("UTC"), lambda: 0)


def due(debt, over=100, now_at=0.0):
    return debt.next_due(over * MINUTE_US, now_at)


def test_the_newest_is_asked_for_first_and_nothing_before_it_is_over(debt):
    debt.owe(Ranges.of((minutes(1, 3), minutes(5, 9))))
    assert due(debt) == minutes(5, 9)
    assert due(debt, over=7) == minutes(5, 7)
    assert due(debt, over=4) == minutes(1, 3)
    assert due(debt, over=1) is None


def test_what_was_asked_for_in_vain_rests_and_the_others_do_not(debt):
    debt.owe(Ranges.of((minutes(1, 3),)))
    debt.rest(minutes(1, 3), 1, 10.0, "busy")
    assert due(debt) is None
    debt.owe(Ranges.of((minutes(2, 5),)))
    assert due(debt) == minutes(3, 5), "what is owed anew and rests goes on resting"
    debt.settle(minutes(3, 5))
    assert due(debt, now_at=9.9) is None
    assert due(debt, now_at=10.0) == minutes(1, 3)


def test_each_range_has_its_own_tries(debt):
    debt.owe(Ranges.of((minutes(1, 3), minutes(5, 9))))
    debt.rest(minutes(1, 3), 1, 10.0, "busy")
    debt.rest(minutes(1, 3), 2, 20.0, "still busy")
    assert debt.tries_of(minutes(1, 3)) == 2
    assert debt.tries_of(minutes(5, 9)) == 0
    assert (debt.tries, debt.why) == (2, "still busy")
    debt.settle(minutes(1, 3))
    assert (debt.tries, debt.why, debt.ranges) == (0, "", Ranges.of((minutes(5, 9),)))


def test_what_is_settled_within_a_rest_leaves_the_others_their_tries(debt):
    debt.owe(Ranges.of((minutes(1, 9),)))
    debt.rest(minutes(1, 9), 3, 10.0, "busy")
    debt.settle(minutes(4, 6))
    assert due(debt) is None
    assert due(debt, now_at=10.0) == minutes(6, 9)
    assert debt.tries_of(minutes(1, 4)) == debt.tries_of(minutes(6, 9)) == 3


def test_what_changed_while_it_was_asked_for_is_owed_once_more(debt):
    debt.owe(Ranges.of((minutes(1, 3),)))
    debt.revised.add(2 * MINUTE_US)
    debt.settle(minutes(1, 3))
    assert debt.ranges == Ranges.of((minutes(2, 3),))


def test_of_what_is_known_of_periods_no_more_is_kept_than_of_those_that_are_owed(debt):
    debt.owe(Ranges.of((minutes(1, 5),)), traded=[0, 2 * MINUTE_US, 4 * MINUTE_US])
    debt.doubts = {3 * MINUTE_US, 4 * MINUTE_US}
    assert debt.traded == {2 * MINUTE_US, 4 * MINUTE_US}
    debt.settle(minutes(1, 4))
    assert debt.traded == debt.doubts == {4 * MINUTE_US}
