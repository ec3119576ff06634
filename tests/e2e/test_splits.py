"""A split becomes known after bars were stored: raw ones stay, adjusted ones change at once, nothing is asked again."""

import httpx
import numpy as np
from e2e.asked import ask, bars_of, day, span
from e2e.conftest import Hall

from timebase.model.bars import Bars

BEFORE = {"1d": span("2024-03-01", "2024-04-01"), "1h": span("2024-03-25", "2024-04-01")}
AFTER = span("2024-04-01", "2024-04-05")
SPLIT = {"ex_date_us": day("2024-03-28"), "kind": "split", "value": 4.0}


async def test_a_split_changes_what_is_adjusted_at_every_interval_and_nothing_else(
    hall: Hall, client: httpx.AsyncClient
) -> None:
    hall.a.script("SPLIT-USD", {}, {}, {"actions": [SPLIT]})
    raw = {interval: bars_of(await _ask(client, interval)) for interval in BEFORE}
    unadjusted = {interval: bars_of(await _ask(client, interval, "splits")) for interval in BEFORE}
    assert all(raw[interval].equals(unadjusted[interval]) for interval in BEFORE)
    asked = len(hall.a.seen("SPLIT-USD"))

    await ask(client, "SPLIT-USD", AFTER, "1d")  # brings the news

    for interval in BEFORE:
        answer = await _ask(client, interval, "splits")
        assert _is_adjusted(raw[interval], bars_of(answer))
        (applied,) = answer["meta"]["adjustment"]["applied"]
        assert (applied["kind"], applied["value"], applied["ex_date"]) == ("split", 4.0, "2024-03-28")
        assert bars_of(await _ask(client, interval)).equals(raw[interval])
    assert len(hall.a.seen("SPLIT-USD")) == asked + 1


async def _ask(client: httpx.AsyncClient, interval: str, adjust: str = "raw") -> dict:
    return await ask(client, "SPLIT-USD", BEFORE[interval], interval, adjust=adjust)


def _is_adjusted(raw: Bars, adjusted: Bars) -> bool:
    before = raw.time < SPLIT["ex_date_us"]
    assert before.any()
    assert not before.all()
    factor = np.where(before, 0.25, 1.0)
    return np.allclose(adjusted.close, raw.close * factor) and np.allclose(adjusted.volume, raw.volume / factor)
