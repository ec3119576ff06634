"""The promises of the live road, whatever goes wrong. A seed that fails is replayed with `--seed`."""

from simulation.world import simulate


def test_a_life_full_of_trouble_ends_with_every_promise_kept(seed: int) -> None:
    assert simulate(seed) == [], f"replay with: python -m pytest tests/simulation --seed {seed}"


def test_what_could_be_stored_nowhere_is_made_up_for(seed: int) -> None:
    assert simulate(seed, fills_spool=True) == [], f"replay with: python -m pytest tests/simulation --seed {seed}"


def test_the_same_seed_is_the_same_life() -> None:
    assert simulate(4711) == simulate(4711)
