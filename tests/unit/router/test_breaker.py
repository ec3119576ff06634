from hypothesis import given
from hypothesis import strategies as st

from timebase.router.breaker import CLOSED, HALF_OPEN, OPEN, Breaker


def failing(breaker, times, now=0.0):
    for _ in range(times):
        breaker = breaker.failed(now, is_probe=False)
    return breaker


def test_five_failures_in_a_row_open_it_for_sixty_seconds():
    four, five = failing(Breaker(), 4), failing(Breaker(), 5)

    assert four.state(0) == CLOSED
    assert five.state(0) == five.state(59.9) == OPEN
    assert not five.admits(59.9)
    assert five.rest_s(59.0) == 1.0
    assert five.state(60) == HALF_OPEN


def test_a_success_in_between_starts_the_count_again():
    breaker = failing(failing(Breaker(), 4).succeeded(is_probe=False), 4)

    assert breaker.state(0) == CLOSED


def test_half_open_lets_one_question_through_at_a_time():
    breaker, is_probe = failing(Breaker(), 5).asked(60)

    assert is_probe
    assert not breaker.admits(61)
    assert breaker.released(is_probe=True).admits(61)


def test_two_successes_close_it():
    once = failing(Breaker(), 5).asked(60)[0].succeeded(is_probe=True)
    twice = once.asked(61)[0].succeeded(is_probe=True)

    assert once.state(61) == HALF_OPEN
    assert once.admits(61)
    assert twice.state(62) == CLOSED
    assert failing(twice, 4).state(62) == CLOSED


def test_a_failed_probe_opens_it_for_another_sixty_seconds():
    breaker = failing(Breaker(), 5).asked(60)[0].failed(61, is_probe=True)

    assert breaker.state(120.9) == OPEN
    assert breaker.state(121) == HALF_OPEN


def test_one_success_and_one_failure_of_probes_leave_nothing_to_build_on():
    breaker = failing(Breaker(), 5).asked(60)[0].succeeded(is_probe=True)
    breaker = breaker.asked(61)[0].failed(61, is_probe=True)
    breaker = breaker.asked(121)[0].succeeded(is_probe=True)

    assert breaker.state(121) == HALF_OPEN


def test_answers_to_questions_from_before_it_opened_change_nothing():
    breaker = failing(Breaker(), 5)

    assert breaker.succeeded(is_probe=False) == breaker
    assert breaker.failed(59, is_probe=False) == breaker


@given(st.lists(st.tuples(st.sampled_from(["ok", "fail", "leave"]), st.floats(0, 40)), max_size=60))
def test_it_is_never_shut_for_ever_and_never_open_while_closed(steps):
    now, breaker = 0.0, Breaker()
    for what, wait in steps:
        now += wait
        if not breaker.admits(now):
            continue
        breaker, is_probe = breaker.asked(now)
        breaker = {
            "ok": lambda b=breaker, p=is_probe: b.succeeded(is_probe=p),
            "fail": lambda b=breaker, p=is_probe, at=now: b.failed(at, is_probe=p),
            "leave": lambda b=breaker, p=is_probe: b.released(is_probe=p),
        }[what]()
        assert breaker.admits(now + breaker.rest_s(now) + 1e-6)
        assert breaker.state(now) != OPEN or what == "fail"
