"""The waits between two tries of a plugin."""

from timebase.sdk import RateLimited, Upstream, Waits
from timebase.sdk.waits import FIRST_S, LONGEST_S, STEADY_S, wait_s

LOST = Upstream("the line is lost")


def test_waits_double_up_to_an_end_and_are_cut_by_chance() -> None:
    longest = [wait_s(attempt, 1.0) for attempt in range(1, 9)]
    assert longest == [FIRST_S * 2**n for n in range(6)] + [LONGEST_S] * 2
    assert [wait_s(attempt, 0.0) for attempt in range(1, 9)] == [each / 2 for each in longest]
    assert wait_s(10_000, 1.0) == LONGEST_S


def test_tries_are_counted_until_a_connection_has_held() -> None:
    waits = Waits()
    for attempt in range(1, 6):
        pause_s = waits.next_s(LOST, 1.0)
        assert wait_s(attempt, 0.0) <= pause_s <= wait_s(attempt, 1.0)
        assert waits.attempt == attempt
    assert waits.next_s(LOST, STEADY_S) <= FIRST_S
    assert waits.attempt == 1


def test_a_vendors_word_on_when_to_come_again_is_kept() -> None:
    assert Waits().next_s(RateLimited("slower", retry_after_s=90.0), 0.0) == 90.0
    assert Waits().next_s(RateLimited("slower"), 0.0) <= FIRST_S
