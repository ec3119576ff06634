"""A query string -> a question for bars of a recorded tape. Pure."""

from dataclasses import dataclass

from timebase.api import parameters as p
from timebase.api.exchange import Asked
from timebase.api.negotiate import Form, choose_form
from timebase.api.parse import parse_query
from timebase.api.tick_question import TickQuestion
from timebase.api.times import EARLIEST_US, LATEST_US
from timebase.errors import BadParameter
from timebase.model.cut import By, Cut
from timebase.model.timerange import DAY_US, SECOND_US, TimeRange

QUERY = (p.BY, p.EVERY, p.TAPE_START, p.END, p.TAPE_LIMIT, p.RECORDED_FROM, p.FORMAT, p.TICK_TIMES)
MORE_TRADES = 10_000  # copies and cancelled ones too
_UNITS_US = {"": SECOND_US, "s": SECOND_US, "m": 60 * SECOND_US, "h": 3_600 * SECOND_US, "d": DAY_US}
_USUAL = {By.TRADES: p.Amount(1_000, ""), By.TIME: p.Amount(1, "m")}


@dataclass(frozen=True, slots=True)
class TapeQuestion:
    """`tape` is what has to be read for it; `limit` bars are wanted. `until_us`: what has happened by now is before."""

    tape: TickQuestion
    cut: Cut
    limit: int
    until_us: int


def parse_tape_bars(asked: Asked, now_us: int) -> tuple[TapeQuestion, Form]:
    """Raises: BadParameter."""
    symbol = p.SYMBOL.read(asked.in_path["symbol"])
    given = parse_query(asked.query, QUERY)
    form = choose_form(given.get(p.FORMAT), given.get(p.TICK_TIMES), asked.headers.get("accept", ""))
    cut = _cut(By(given.get(p.BY) or By.TRADES), given.get(p.EVERY))
    end_us, start_us = given.time_us(p.END, now_us), given.time_us(p.TAPE_START, now_us)
    if start_us is None:
        start_us = max((now_us if end_us is None else end_us) - 1, EARLIEST_US) // DAY_US * DAY_US
    start_us = max(start_us // cut.period_us * cut.period_us, EARLIEST_US)
    until_us = LATEST_US if end_us is None else end_us  # a vendor's clock may be ahead of ours
    if start_us >= until_us:
        raise BadParameter("start", "start must lie before end")
    limit = given.get(p.TAPE_LIMIT) or p.USUAL_TAPE_BARS
    tape = TickQuestion(
        "trades", symbol, TimeRange(start_us, until_us), _trades(cut, limit), given.get(p.RECORDED_FROM)
    )
    return TapeQuestion(tape, cut, limit, min(until_us, now_us)), form


def _cut(by: By, amount: p.Amount | None) -> Cut:
    amount = amount or _USUAL.get(by)
    if amount is None:
        raise BadParameter("every", f"say how much fills a bar, as in by={by}&every=100")
    if by is not By.TIME:
        if amount.unit or (by is By.TRADES and amount.number % 1):
            raise BadParameter("every", "write a number" if amount.unit else "write a whole number of trades")
        return Cut(by, amount.number)
    every_us = amount.number * _UNITS_US[amount.unit]
    if every_us % SECOND_US or every_us > DAY_US or DAY_US % every_us:
        raise BadParameter("every", "write whole seconds that divide a day, as 10s, 5m, 2h")
    return Cut(by, every_us)


def _trades(cut: Cut, limit: int) -> int:
    """As many as may have to be read: of trades that are counted, so many and those of the last microsecond."""
    if cut.by is not By.TRADES:
        return p.MAX_TICKS
    return int(min(cut.every * limit + MORE_TRADES, p.MAX_TICKS))
