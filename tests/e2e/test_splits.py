"""A split becomes known after bars were stored: raw ones stay, adjusted ones change at once, nothing is asked again."""

from itertools import product
from pathlib import Path

import httpx
import numpy as np
from e2e.asked import ask, bars_of, day, span
from e2e.conftest import Hall, ServerMaker
from e2e.running import asking
from e2e.stubs import Stub

from timebase.model.bars import Bars
from timebase.model.timerange import HOUR_US, TimeRange

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


async def test_a_session_that_opens_on_the_day_before_in_utc_is_of_the_ex_date(
    home: Path, serving: ServerMaker
) -> None:
    """Sydney's of 28 March 2024 was from 23:00 UTC of the 27th to 05:00."""
    listed = [{"symbol": "XRO", "asset_class": "stock", "timezone": "Australia/Sydney"}, "CBA"]
    stub = Stub("sydney", home / "manifests", home / "stubs", symbols=listed)
    for symbol in ("XRO", "CBA"):
        stub.script(symbol, {"actions": [SPLIT]})
    within = TimeRange(day("2024-03-27") + 12 * HOUR_US, day("2024-03-28") + 2 * HOUR_US)
    begins = {"XRO": SPLIT["ex_date_us"] - 11 * HOUR_US, "CBA": SPLIT["ex_date_us"]}  # nobody says where that one is
    with serving(home) as server:
        async with asking(server) as client:
            for symbol, interval in product(begins, ("1m", "1h", "5m")):  # 5m: made of minutes
                raw = bars_of(await ask(client, symbol, within, interval))
                adjusted = bars_of(await ask(client, symbol, within, interval, adjust="splits"))
                before = raw.time < begins[symbol]
                assert before.any()
                assert np.array_equal(adjusted.close, raw.close * np.where(before, 0.25, 1.0)), (symbol, interval)


async def _ask(client: httpx.AsyncClient, interval: str, adjust: str = "raw") -> dict:
    return await ask(client, "SPLIT-USD", BEFORE[interval], interval, adjust=adjust)


def _is_adjusted(raw: Bars, adjusted: Bars) -> bool:
    before = raw.time < SPLIT["ex_date_us"]
    assert before.any()
    assert not before.all()
    factor = np.where(before, 0.25, 1.0)
    return np.allclose(adjusted.close, raw.close * factor) and np.allclose(adjusted.volume, raw.volume / factor)
