"""A ticker is used again by another company: what was the other's is never given as this one's."""

from pathlib import Path

import pytest
import yaml
from e2e.asked import ask, bars_of, iso, span
from e2e.conftest import ServerMaker
from e2e.running import asking
from e2e.stubs import Stub, true_bars

from timebase.clock import now_us
from timebase.model.interval import Interval
from timebase.model.timerange import TimeRange

BEFORE, AFTER = span("2022-06-01", "2022-06-09"), span("2022-06-09", "2022-06-20")
WHOLE = TimeRange(BEFORE.start_us, AFTER.end_us)
GUARD = {"symbol": "META", "from": "2022-06-09"}


@pytest.fixture
def stub(home: Path) -> Stub:
    (home / "manifests").mkdir()
    return Stub("stub", home / "manifests", home / "stubs")


def configure(home: Path, *aliases: dict[str, str]) -> None:
    (home / "timebase.yaml").write_text(yaml.safe_dump({"aliases": list(aliases)}))


def asked(stub: Stub) -> list[tuple[str, TimeRange]]:
    return [(each.symbol, each.range) for each in stub.seen()]


async def test_before_a_change_of_name_the_provider_is_asked_for_the_name_of_then(
    home: Path, stub: Stub, serving: ServerMaker
) -> None:
    configure(home, GUARD | {"was": "FB"})
    actions = [{"ex_date_us": at.start_us, "kind": "split", "value": 2.0} for at in (BEFORE, AFTER)]
    stub.script("META", {"actions": actions})  # the first is of whoever was called META then
    with serving(home) as server:
        async with asking(server) as client:
            answer = await ask(client, "META", WHOLE, "1d")
            assert asked(stub) == [("FB", BEFORE), ("META", AFTER)]
            assert bars_of(answer).equals(true_bars(Interval.D1, WHOLE))
            assert answer["symbol"] == "META"
            assert answer["meta"]["coverage"] == {"complete": True, "missing": []}
            assert (await ask(client, "META", WHOLE, "1d"))["meta"]["source"] == "cache"
            adjusted = await ask(client, "META", WHOLE, "1d", adjust="splits")
            assert len(adjusted["meta"]["adjustment"]["applied"]) == 1
            assert len(asked(stub)) == 2


async def test_without_a_name_before_it_nobody_is_asked_and_the_answer_says_why(
    home: Path, stub: Stub, serving: ServerMaker
) -> None:
    configure(home, GUARD)
    with serving(home) as server:
        async with asking(server) as client:
            for _ in range(2):
                answer = await ask(client, "META", WHOLE, "1d")
                assert bars_of(answer).equals(true_bars(Interval.D1, AFTER))
                ((first, last, why),) = answer["meta"]["coverage"]["missing"]
                assert (first * 1000, last * 1000) == (BEFORE.start_us, BEFORE.end_us)
                assert "aliases" in why
                assert answer["warnings"]
            nothing = await ask(client, "META", BEFORE, "1d")
            assert nothing["bars"]["time"] == []
            assert not nothing["meta"]["coverage"]["complete"]
            await ask(client, "META", WHOLE, "1d", refresh="true")
            assert asked(stub) == [("META", AFTER), ("META", AFTER)]


async def test_what_was_stored_before_the_operator_knew_is_not_given_as_its_own_any_more(
    home: Path, stub: Stub, serving: ServerMaker, new_database: object
) -> None:
    url = new_database()  # type: ignore[operator]
    with serving(home, database_url=url) as server:
        async with asking(server) as client:
            wrong = await ask(client, "META", WHOLE, "1d")
            assert len(wrong["bars"]["time"]) == len(true_bars(Interval.D1, WHOLE).time)
            known_us = now_us()
    configure(home, GUARD)
    with serving(home, database_url=url) as server:
        async with asking(server) as client:
            for more in ({}, {"as_of": iso(known_us)}):
                answer = await ask(client, "META", WHOLE, "1d", **more)
                assert bars_of(answer).equals(true_bars(Interval.D1, AFTER))
                assert not answer["meta"]["coverage"]["complete"]
    configure(home, GUARD | {"was": "FB"})
    with serving(home, database_url=url) as server:
        async with asking(server) as client:
            answer = await ask(client, "META", WHOLE, "1d")
            assert bars_of(answer).equals(true_bars(Interval.D1, WHOLE))
            assert asked(stub) == [("META", WHOLE), ("FB", BEFORE)]
