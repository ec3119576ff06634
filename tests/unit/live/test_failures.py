"""What a supply has been through, and how long it rests for it."""

import pytest
import trio

from timebase.errors import AuthFailed, RateLimited, SymbolNotFound, Unavailable, Unsupported, Upstream
from timebase.live.failures import FORGET_S, SPARE_S, FailureBook
from timebase.live.settings import LiveSettings
from timebase.live.supply import Supply
from timebase.model.feed import FeedKind

ONE, OTHER = (Supply(FeedKind.TRADES, "BTC-USDT", slug) for slug in ("binance", "kraken"))


@pytest.fixture
def book():
    return FailureBook(LiveSettings(give_way_after=2, hopeless_s=600))


async def test_who_has_not_failed_has_nothing_against_it(autojump_clock, book):
    assert not book.gives_way(ONE)
    assert book.avoided_s(ONE) == 0
    assert book.failed() == {}


async def test_the_first_failure_is_forgiven_the_second_is_not(autojump_clock, book):
    book.note(ONE, Upstream("no route"), 0)
    assert book.avoided_s(ONE) == 0
    pause_s = book.note(ONE, Upstream("no route"), 0)
    assert book.avoided_s(ONE) == pytest.approx(pause_s)
    assert book.avoided_s(OTHER) == 0
    assert book.failed() == {"binance": 2}


async def test_a_connection_that_was_healthy_wipes_the_slate(autojump_clock, book):
    for _ in range(9):
        book.note(ONE, Upstream("no route"), 0)
    assert book.note(ONE, Upstream("no route"), 3600) < 1
    assert book.of(ONE).in_a_row == 1
    assert not book.gives_way(ONE)


@pytest.mark.parametrize("kind", [Unsupported, SymbolNotFound, AuthFailed])
async def test_what_cannot_be_had_is_not_soon_asked_for_again(autojump_clock, book, kind):
    assert book.note(ONE, kind("no such thing"), 0) == 600
    assert book.gives_way(ONE)


async def test_a_vendor_that_names_a_time_is_believed(autojump_clock, book):
    assert book.note(ONE, RateLimited("slow down", retry_after_s=90), 0) == 90


async def test_a_new_process_ends_the_rest_of_what_waited_for_one(autojump_clock, book):
    book.note(ONE, SymbolNotFound("no such thing"), 0)
    book.note(OTHER, SymbolNotFound("no such thing"), 0)
    assert book.spare("binance") == [ONE]
    assert (book.avoided_s(ONE), book.avoided_s(OTHER)) == (0, 600)


async def test_but_not_each_time_of_one_that_comes_and_goes(autojump_clock, book):
    book.note(ONE, Unavailable("killed"), 0)
    assert book.spare("binance") == [ONE]
    book.note(ONE, Unavailable("killed"), 0)
    assert book.spare("binance") == []
    await trio.sleep(SPARE_S)
    assert book.spare("binance") == [ONE]


async def test_what_is_not_the_processs_fault_waits_on(autojump_clock, book):
    book.note(ONE, Upstream("no route"), 0)
    assert book.spare("binance") == []


async def test_what_is_long_past_is_forgotten_but_for_what_is_in_use(autojump_clock, book):
    for supply in (ONE, OTHER):
        book.note(supply, SymbolNotFound("no such thing"), 0)
    await trio.sleep(600 + FORGET_S + 1)
    book.forget_old({OTHER})
    assert not book.gives_way(ONE)
    assert book.gives_way(OTHER)
