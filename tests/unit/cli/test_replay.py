"""What files and keys mean to `timebase replay`."""

from pathlib import Path
from typing import Any

import pytest

from timebase.cli.replay import DOWN, FASTEST, LEFT, RIGHT, UP, order_of, symbol_of

STATE = {"state": "playing", "speed": 60.0, "position": 1_723_161_600_000}


@pytest.mark.parametrize(
    ("name", "symbol"),
    [("BTC-USDT_2024-08-09.csv.gz", "BTC-USDT"), ("aapl.parquet", "AAPL"), ("eur-usd.2024.zip", "EUR-USD")],
)
def test_a_files_name_begins_with_its_symbol(name: str, symbol: str) -> None:
    assert symbol_of(Path("/data") / name) == symbol


@pytest.mark.parametrize(
    ("key", "state", "order"),
    [
        (b" ", {}, {"state": "paused"}),
        (b" ", {"state": "paused"}, {"state": "playing"}),
        (UP, {}, {"speed": 120.0}),
        (DOWN, {}, {"speed": 30.0}),
        (UP, {"speed": FASTEST}, {"speed": FASTEST}),
        (RIGHT, {}, {"position": "2024-08-09T00:01:00+00:00"}),
        (LEFT, {}, {"position": "2024-08-08T23:59:00+00:00"}),
        (RIGHT, {"position": None}, {}),
        (b"x", {}, {}),
        (b"", {}, {}),
    ],
)
def test_keys_pause_wind_and_change_the_speed(key: bytes, state: dict[str, Any], order: dict[str, Any]) -> None:
    assert order_of(key, STATE | state) == order
