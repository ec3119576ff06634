"""The promises of the live road, whatever goes wrong. A seed that fails is replayed with `--seed`."""

import pytest
from simulation.world import simulate


def test_a_life_full_of_trouble_ends_with_every_promise_kept(seed: int) -> None:
    assert simulate(seed) == [], f"replay with: python -m pytest tests/simulation --seed {seed}"


def test_a_wall_clock_that_steps_by_hours_breaks_no_promise(seed: int) -> None:
    assert simulate(seed, has_steps=True) == [], f"replay with: python -m pytest tests/simulation --seed {seed}"


@pytest.mark.parametrize("quiet_seed", range(4))
def test_no_feed_is_made_anew_and_no_honest_trade_refused_because_the_wall_clock_steps(quiet_seed: int) -> None:
    assert simulate(quiet_seed, has_plagues=False, has_steps=True) == []


def test_what_could_be_stored_nowhere_is_made_up_for(seed: int) -> None:
    assert simulate(seed, fills_spool=True) == [], f"replay with: python -m pytest tests/simulation --seed {seed}"


def test_the_same_seed_is_the_same_life() -> None:
    assert simulate(4711) == simulate(4711)
