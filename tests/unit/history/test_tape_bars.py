"""Bars of a recorded tape: full ones only, and pages that go on where the one before ended."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from timebase.history.tape_bars import TapeBars, tape_bars
from timebase.model.cut import By, Cut
from timebase.model.ticks import TradeFlag, Trades
from timebase.model.timerange import SECOND_US

LATE_US = 10**12


def tape(times: list[int], sizes: list[float] | None = None) -> Trades:
    """Prices and ids count from 1."""
    ones = np.arange(1, len(times) + 1)
    return Trades.of(times, ones.astype(float), sizes or np.ones(len(times)), id=ones)


def made(trades: Trades, by: By, every: float, *, limit: int = 100, is_whole: bool = True) -> TapeBars:
    return tape_bars(trades, Cut(by, every), limit=limit, until_us=LATE_US, is_whole=is_whole)


def test_so_many_trades_make_a_bar_and_the_rest_makes_none() -> None:
    bars = made(tape([10, 20, 30, 40, 50]), By.TRADES, 2)
    assert (bars.time.tolist(), bars.open.tolist(), bars.close.tolist()) == ([10, 30], [1.0, 3.0], [2.0, 4.0])
    assert (bars.trades.tolist(), bars.vwap.tolist(), bars.next_us) == ([2, 2], [1.5, 3.5], None)


def test_volume_and_value_fill_bars_too() -> None:
    trades = tape([10, 20, 30, 40], [1.0, 2.0, 3.0, 4.0])
    assert made(trades, By.VOLUME, 3).volume.tolist() == [3.0, 3.0, 4.0]
    assert made(trades, By.VALUE, 10).trades.tolist() == [3, 1]


def test_a_length_of_time_makes_bars_on_its_multiples_once_they_are_over() -> None:
    trades = tape([1 * SECOND_US, 9 * SECOND_US, 10 * SECOND_US, 31 * SECOND_US])
    cut = Cut(By.TIME, 10 * SECOND_US)
    bars = tape_bars(trades, cut, limit=100, until_us=35 * SECOND_US, is_whole=True)
    assert (bars.time // SECOND_US).tolist() == [0, 10]
    assert bars.close.tolist() == [2.0, 3.0]
    assert tape_bars(trades, cut, limit=1, until_us=35 * SECOND_US, is_whole=True).next_us == 10 * SECOND_US


def test_a_cancelled_trade_is_in_no_bar() -> None:
    trades = tape([10, 20, 30])
    word = Trades.of([25], [2.0], [1.0], id=[2], flags=[TradeFlag.CANCEL])
    assert made(Trades.concat((trades, word)), By.TRADES, 2).close.tolist() == [3.0]


def test_no_page_ends_amid_the_trades_of_one_instant() -> None:
    bars = made(tape([10, 20, 20, 20, 30, 40, 50]), By.TRADES, 2, limit=1)
    assert (len(bars), bars.next_us) == (2, 30)


def test_of_a_tape_that_goes_on_no_bar_is_believed_that_ends_with_what_was_read() -> None:
    bars = made(tape([10, 20, 30, 40]), By.TRADES, 2, is_whole=False)
    assert (bars.time.tolist(), bars.next_us) == ([10], 30)
    assert len(made(tape([10, 20, 30, 40]), By.TRADES, 5, is_whole=False)) == 0


def test_nothing_makes_nothing() -> None:
    for by in By:
        assert len(made(Trades.empty(), by, 1e6)) == 0


@pytest.mark.parametrize("by", [By.TRADES, By.VOLUME, By.TIME])
@given(st.lists(st.integers(0, 40), min_size=1, max_size=60), st.integers(1, 5), st.integers(1, 7))
def test_pages_together_are_the_bars_of_the_whole(by: By, steps: list[int], every: int, limit: int) -> None:
    trades = tape([at * SECOND_US // 4 for at in sorted(steps)])
    amount = every * SECOND_US if by is By.TIME else every
    whole = made(trades, by, amount)
    paged: list[list[float]] = []
    start_us: int | None = 0
    while start_us is not None:
        page = made(trades.pick(trades.time >= start_us), by, amount, limit=limit)
        paged += np.stack([page.time, page.open, page.close, page.volume], axis=1).tolist()
        assert page.next_us is None or page.next_us > start_us
        start_us = page.next_us
    assert paged == np.stack([whole.time, whole.open, whole.close, whole.volume], axis=1).tolist()


@pytest.mark.parametrize("by", list(By))
@given(st.lists(st.integers(0, 40), min_size=1, max_size=60), st.integers(1, 5), st.integers(2, 30))
def test_what_one_reply_does_not_read_the_next_ones_do_or_a_bar_is_too_large(
    by: By, steps: list[int], every: int, most: int
) -> None:
    """No page is cut without a word: either all bars of the whole come, or one needs more than is read at once."""
    trades = tape([at * SECOND_US // 4 for at in sorted(steps)])
    amount = every * SECOND_US if by is By.TIME else every
    whole = made(trades, by, amount)
    paged: list[list[float]] = []
    start_us: int | None = 0
    while start_us is not None:
        rest = trades.pick(trades.time >= start_us)
        page = made(rest.pick(slice(most)), by, amount, is_whole=len(rest) <= most)
        if len(rest) > most and not len(page):
            break
        paged += np.stack([page.time, page.open, page.close, page.volume], axis=1).tolist()
        assert page.next_us is None or page.next_us > start_us
        start_us = page.next_us
    told = np.stack([whole.time, whole.open, whole.close, whole.volume], axis=1).tolist()
    assert paged == told[: len(paged)]
    assert start_us is not None or paged == told
