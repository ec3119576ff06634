"""What may be believed of a wall clock that steps."""

from timebase.clock import SteadyClock, elapsed_us, now_us
from timebase.model.timerange import HOUR_US, SECOND_US

START_US = 1_704_067_200_000_000


class Machine:
    """Its two clocks."""

    def __init__(self) -> None:
        self.wall_us, self.elapsed_us = START_US, 5 * HOUR_US

    def go(self, by_us: int) -> None:
        self.wall_us += by_us
        self.elapsed_us += by_us

    def steady(self) -> SteadyClock:
        return SteadyClock(lambda: self.wall_us, lambda: self.elapsed_us)


def test_while_nothing_steps_there_is_one_present() -> None:
    machine = Machine()
    steady = machine.steady()
    machine.go(90 * SECOND_US)
    assert steady.earliest_us() == steady.now_us() == steady.latest_us() == START_US + 90 * SECOND_US


def test_a_step_back_does_not_make_the_latest_present_earlier() -> None:
    machine = Machine()
    steady = machine.steady()
    machine.wall_us -= HOUR_US
    machine.go(SECOND_US)
    assert steady.latest_us() == steady.now_us() == START_US + SECOND_US
    assert steady.earliest_us() == START_US + SECOND_US - HOUR_US


def test_a_step_forward_is_no_reason_to_call_anything_over() -> None:
    machine = Machine()
    steady = machine.steady()
    machine.wall_us += HOUR_US
    machine.go(SECOND_US)
    assert steady.earliest_us() == steady.now_us() == START_US + SECOND_US
    assert steady.latest_us() == START_US + SECOND_US + HOUR_US


def test_a_step_forward_that_has_stood_for_an_hour_is_believed() -> None:
    machine = Machine()
    steady = machine.steady()
    machine.wall_us += HOUR_US
    for _ in range(60):
        machine.go(60 * SECOND_US)
        assert steady.earliest_us() == machine.wall_us - HOUR_US
    machine.go(60 * SECOND_US)
    assert steady.earliest_us() == machine.wall_us
    assert steady.now_us() == machine.wall_us - HOUR_US  # which never steps itself


def test_one_that_is_taken_back_before_is_not() -> None:
    machine = Machine()
    steady = machine.steady()
    for _ in range(10):
        machine.wall_us += HOUR_US
        machine.go(1800 * SECOND_US)
        assert steady.earliest_us() == machine.wall_us - HOUR_US
        machine.wall_us -= HOUR_US
        machine.go(60 * SECOND_US)
        assert steady.earliest_us() == machine.wall_us == steady.latest_us()


def test_the_machines_own_clocks_agree() -> None:
    before_us = elapsed_us()
    steady = SteadyClock()
    assert steady.earliest_us() <= now_us()
    assert elapsed_us() >= before_us
