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


def fed(*chunks: bytes, mask: Masking | None = None) -> list[str]:
    lines = LineCutter(mask or Masking())
    return [line for chunk in chunks for line in lines.feed(chunk)] + list(lines.rest())


def test_lines_are_whole_however_they_arrive() -> None:
    assert fed(b"on", b"e\ntw", b"o\r\n\n\nthr", b"ee") == ["one", "two", "three"]


def test_a_line_is_bounded_and_so_is_what_is_held_of_one_without_end() -> None:
    (line,) = fed(b"x" * 10_000 + b"\n")
    assert (len(line), line[-1]) == (MAX_CHARACTERS, "…")
    assert len(fed(*[b"x" * 10_000] * 100)) <= 1_000_000 / MAX_HELD + 1


@given(st.lists(st.binary(max_size=50)))
def test_no_bytes_break_a_line_or_reach_the_terminal_raw(chunks: list[bytes]) -> None:
    assert all(line.isprintable() for line in fed(*chunks))


def test_a_secret_is_masked_in_every_spelling_also_across_chunks() -> None:
    mask = Masking(["p@ss/word +1", "p@ss", "abc"])
    assert fed(b"a p@ss/wo", b"rd +1 b\n", mask=mask) == ["a *** b"]
    assert mask(f"?key={quote('p@ss/word +1', safe='')}&x") == "?key=***&x"
    assert mask("key=p%40ss%2Fword+%2B1&p@ss") == "key=***&***"
    assert mask("abc stays: too short to be told from words") == "abc stays: too short to be told from words"


def test_an_error_of_many_lines_becomes_one() -> None:
    assert Masking()("first\nsecond\x1b[31m\tthird\n") == "first second?[31m third"


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
