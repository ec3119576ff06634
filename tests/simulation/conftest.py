"""`python -m pytest tests/simulation --seed 4711` replays one life; `--seeds 1000` lives as many."""

import pytest

QUICK = 12  # of each run of the whole suite: some seconds
TAUGHT = (86, 360, 373, 426, 460, 526, 992)  # seeds that have found a fault once


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=None, help="simulate this seed alone")
    parser.addoption("--seeds", type=int, default=QUICK, help=f"simulate so many seeds (default {QUICK})")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        one = metafunc.config.getoption("--seed", default=None)
        many = metafunc.config.getoption("--seeds", default=QUICK)
        metafunc.parametrize("seed", sorted({*range(many), *TAUGHT}) if one is None else [one])
