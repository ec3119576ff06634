"""What a plugin prints, as lines of our log."""

import logging
from urllib.parse import quote

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from timebase.supervisor.masking import MAX_CHARACTERS, Masking
from timebase.supervisor.output import LINES_PER_S, MAX_HELD, LineCutter, Output

logger = logging.getLogger("timebase.provider.test")


@pytest.fixture(autouse=True)
def _all_levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)


def fed(*chunks: bytes) -> list[bytes]:
    cutter = LineCutter()
    return [line for chunk in chunks for line in cutter.feed(chunk)] + cutter.rest()


def test_lines_are_whole_however_they_arrive() -> None:
    assert fed(b"on", b"e\ntw", b"o\r\n\n \nthr", b"ee") == [b"one", b"two\r", b"three"]


def test_what_is_held_of_a_line_without_end_is_bounded() -> None:
    assert len(fed(*[b"x" * 10_000] * 100)) == pytest.approx(1_000_000 / MAX_HELD, abs=1)


@given(st.text())
def test_what_is_said_is_one_printable_line_of_bounded_length(text: str) -> None:
    said = Masking()(text * 100)
    assert said.isprintable()
    assert len(said) <= MAX_CHARACTERS


def test_a_secret_is_masked_in_every_spelling() -> None:
    mask = Masking(["p@ss/word +1", "p@ss", "abc"])
    assert mask("a p@ss/word +1 b") == "a *** b"
    assert mask(f"?key={quote('p@ss/word +1', safe='')}&x") == "?key=***&x"
    assert mask("key=p%40ss%2Fword+%2B1&p@ss") == "key=***&***"
    assert mask("abc stays: too short to be told from words") == "abc stays: too short to be told from words"


def test_an_error_of_many_lines_becomes_one() -> None:
    assert Masking()("first\nsecond\x1b[31m\tthird\n") == "first second?[31m third"


async def test_a_secret_is_masked_also_when_it_arrives_in_pieces(caplog: pytest.LogCaptureFixture) -> None:
    output = Output(logger, Masking(["hush-hush"]))
    ours, theirs = trio.testing.memory_stream_one_way_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(output.follow, theirs, logging.INFO)
        await ours.send_all(b"key=hush")
        await trio.testing.wait_all_tasks_blocked()
        await ours.send_all(b"-hush\n")
        await ours.aclose()
    assert caplog.messages == ["key=***"]


async def test_a_flood_is_counted_not_logged(caplog: pytest.LogCaptureFixture, autojump_clock: object) -> None:
    output = Output(logger, Masking())
    ours, theirs = trio.testing.memory_stream_one_way_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(output.follow, theirs, logging.INFO)
        await ours.send_all(b"line\n" * 1_000)
        await trio.sleep(2)
        await ours.send_all(b"calm again\n")
        await ours.aclose()
    assert caplog.messages.count("line") == LINES_PER_S
    assert caplog.messages[-2:] == [f"{1_000 - LINES_PER_S} more lines in one second are not shown", "calm again"]


async def test_the_last_line_on_stderr_is_kept_and_a_message_has_its_own_level(
    caplog: pytest.LogCaptureFixture,
) -> None:
    output = Output(logger, Masking(["hush-hush"]))
    ours, theirs = trio.testing.memory_stream_one_way_pair()
    await ours.send_all(b"Traceback\nKeyError: hush-hush")
    await ours.aclose()
    await output.follow(theirs, logging.WARNING)
    output.log("debug", "two\nlines")
    output.log("no such level", "hush-hush")
    assert output.last == "KeyError: ***"
    assert [(r.levelname, r.message) for r in caplog.records[-3:]] == [
        ("DEBUG", "two"),
        ("DEBUG", "lines"),
        ("INFO", "***"),
    ]
