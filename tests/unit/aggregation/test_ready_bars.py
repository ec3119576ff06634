from datetime import UTC, datetime

import numpy as np
from unit.aggregation.tapes import feed_of, told

from timebase.aggregation.ready_bars import KEPT, ReadyBars
from timebase.model.bars import Bars, Flag
from timebase.model.feed import FeedKind
from timebase.model.interval import Interval
from timebase.model.live import BarStatus, BarUpdate
from timebase.model.timerange import MINUTE_US, to_us

NOON = to_us(datetime(2024, 3, 8, 12, tzinfo=UTC))


def ready() -> ReadyBars:
    return ReadyBars(feed_of([Interval.M1], kind=FeedKind.BARS, interval=Interval.M1), Interval.M1)


def bar(minute: int, close: float = 10.0, *, is_closed: bool = True) -> Bars:
    flags = [0 if is_closed else Flag.FORMING]
    return Bars.of([NOON + minute * MINUTE_US], [10.0], [20.0], [5.0], [close], [1.0], flags)


def taken(bars: ReadyBars, *parts: Bars) -> list[tuple[int, str, int]]:
    for part in parts:
        bars.take(part, received_us=NOON)
    return minutes(bars.closed())


def minutes(updates: tuple[BarUpdate, ...]) -> list[tuple[int, str, int]]:
    return [((stamp - NOON) // MINUTE_US, *rest) for stamp, *rest in told(updates, Interval.M1)]  # type: ignore[misc]


def test_the_first_bar_is_believed_when_the_provider_says_that_it_is_over() -> None:
    assert taken(ready(), bar(0)) == [(0, "closed", 0)]


def test_a_closed_bar_that_is_told_again_is_told_once_and_one_that_changed_is_revised() -> None:
    bars = ready()

    assert taken(bars, bar(0), bar(0)) == [(0, "closed", 0)]
    assert taken(bars, bar(0, 11.0), bar(0, 11.0), bar(0, 12.0)) == [(0, "revised", 1), (0, "revised", 2)]


def test_of_forming_bars_only_the_newest_is_told() -> None:
    bars = ready()
    assert taken(bars, bar(0), bar(1, 11.0, is_closed=False), bar(1, 12.0, is_closed=False)) == [(0, "closed", 0)]

    (update,) = bars.forming()

    assert update.status is BarStatus.FORMING
    assert update.bars.close.tolist() == [12.0]
    assert update.bars.flags.tolist() == [Flag.FORMING]
    assert bars.forming() == ()


def test_a_closed_bar_does_not_form_again() -> None:
    bars = ready()
    taken(bars, bar(0), bar(0, 9.0, is_closed=False))

    assert bars.forming() == ()


def test_between_the_last_bar_before_an_outage_and_the_first_after_it_bars_are_missing() -> None:
    bars = ready()
    taken(bars, bar(0))
    bars.leave()

    assert taken(bars, bar(3), bar(4)) == [(1, "missing", 0), (2, "missing", 0), (3, "closed", 0), (4, "closed", 0)]


def test_a_provider_that_catches_up_after_an_outage_misses_nothing() -> None:
    bars = ready()
    taken(bars, bar(0))
    bars.leave()

    assert taken(bars, Bars.concat([bar(2), bar(1)])) == [(1, "closed", 0), (2, "closed", 0)]


def test_a_missing_bar_that_comes_after_all_is_a_revision() -> None:
    bars = ready()
    taken(bars, bar(0))
    bars.leave()
    taken(bars, bar(2))

    assert taken(bars, bar(1)) == [(1, "revised", 1)]


def test_a_quiet_minute_is_nothing_at_all() -> None:
    assert taken(ready(), bar(0), bar(2)) == [(0, "closed", 0), (2, "closed", 0)]


def test_a_bar_that_nobody_remembers_is_counted_and_not_told() -> None:
    bars = ready()
    taken(bars, *(bar(minute) for minute in range(2 * KEPT + 1)))

    assert taken(bars, bar(0, 11.0)) == []
    assert bars.too_late == 1


def test_how_many_trades_a_ready_bar_has_is_unknown() -> None:
    bars = ready()
    bars.take(bar(0), received_us=NOON)
    (update,) = bars.closed()

    assert update.trades.tolist() == [-1]
    assert np.isnan(update.vwap).all()


def test_each_says_when_it_came_and_that_it_closed_at_the_end_of_its_period() -> None:
    bars = ready()
    bars.take(bar(0), received_us=NOON + MINUTE_US + 7)
    (update,) = bars.closed()
    assert (update.event_us, update.received_us) == (NOON + MINUTE_US, NOON + MINUTE_US + 7)
