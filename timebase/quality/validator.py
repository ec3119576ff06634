"""raw -> [validator] -> good: batches with what was refused beside the good bars, live arrivals without what was."""

import logging
from collections.abc import Callable

import numpy as np
import trio

from timebase.model.bars import Bars, Batch, Flag, Outcome, Refused
from timebase.model.instrument import AssetClass, classify
from timebase.model.interval import Interval
from timebase.model.live import Live
from timebase.model.series import Series
from timebase.quality.clean import is_clean
from timebase.quality.live import Refusals, validate_live
from timebase.quality.repair import count, drop_copies, drop_unasked, fill_volume, first, sort
from timebase.quality.rules import RULES, Context

log = logging.getLogger(__name__)

_TYPES = Bars.empty().columns()


def class_by_symbol(series: Series) -> AssetClass:
    return classify(series.symbol)


async def run_validator(
    inbox: trio.MemoryReceiveChannel[Batch | Live],
    outbox: trio.MemorySendChannel[Batch | Live],
    *,
    latest_us: Callable[[], int],
    asset_class: Callable[[Series], AssetClass] = class_by_symbol,
    refusals: Refusals | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Order: batches and live arrivals leave in the order they came, one for one, also those without rows.

    `latest_us` is the latest that it can be now: what is live and clearly after it is refused. `refusals` is where
    refused live rows are counted, for whoever shows them.
    Raises: nothing of its own; whatever a batch holds, it is judged and not let through, never an error of the server.
    """
    refused = Refusals() if refusals is None else refusals
    async with inbox, outbox:
        task_status.started()
        async for item in inbox:
            if isinstance(item, Live):
                await outbox.send(validate_live(item, refused, latest_us=latest_us()))
            else:
                await outbox.send(validate(item, asset_class(item.series)))


def validate(batch: Batch, asset_class: AssetClass) -> Batch:
    """The batch with good bars only: ascending, on the grid, inside `covers`; the refused rows ride beside them.

    Every refused row opens inside `covers`. A clean batch keeps its very columns.
    """
    if not _is_whole(batch.bars):
        return _unreadable(batch)
    bars, unasked = drop_unasked(batch.bars, batch.covers)
    context = Context(batch.series.interval, asset_class, batch.fetched_us)
    refused: tuple[Refused, ...] = ()
    warnings: tuple[str, ...] = (unasked,)
    if not is_clean(bars, context):
        bars, refused, more = judge(bars, context)
        warnings = (unasked, *more)
    said = tuple(warning for warning in warnings if warning)
    if refused:
        log.warning(
            "%s %s of %s: %s", batch.series.symbol, batch.series.interval, batch.series.provider, "; ".join(said)
        )
    return batch.with_bars(mark_forming(bars, context), refused, said)


def judge(bars: Bars, context: Context) -> tuple[Bars, tuple[Refused, ...], tuple[str, ...]]:
    """Put the rows in order, ask every rule of what is left, then fill what the good ones lack.

    Refused rows leave as they came, so that quarantine shows what the provider really said.
    """
    bars, unsorted = sort(bars)
    bars, copied = drop_copies(bars)
    warnings = [unsorted, copied]
    refused: list[Refused] = []
    for rule in RULES:
        with np.errstate(all="ignore"):  # 1e308 is a silly price, but comparing it must not warn
            bad = rule.bad(bars, context)
        if bad.any():
            refused.append(Refused(rule.name, bars.pick(bad)))
            bars = bars.pick(~bad)
            rows = refused[-1].bars
            warnings.append(f"{count(len(rows))} refused by rule {rule.name}: {rule.says}, first at {first(rows)}")
    bars, unstated = fill_volume(bars)
    return bars, tuple(refused), (*warnings, unstated)


def mark_forming(bars: Bars, context: Context) -> Bars:
    """Set Flag.FORMING on the bars whose period was not over when they were fetched. Needs ascending time."""
    closed = int(np.searchsorted(bars.time, _first_forming_us(context)))
    if closed == len(bars):
        return bars
    flags = bars.flags.copy()
    flags[closed:] |= Flag.FORMING
    return Bars(bars.time, bars.open, bars.high, bars.low, bars.close, bars.volume, flags)


def _first_forming_us(context: Context) -> int:
    """The earliest opening instant of a period that is not over."""
    if context.interval is Interval.MO1:
        return context.interval.floor_us(context.fetched_us)
    return context.fetched_us - context.interval.us + 1


def _is_whole(bars: Bars) -> bool:
    """Seven columns of one length and of the types that the whole road relies on."""
    return all(
        column.dtype == want.dtype and column.shape == (len(bars.time),)
        for column, want in zip(bars.columns(), _TYPES, strict=True)
    )


def _unreadable(batch: Batch) -> Batch:
    log.warning("%s of %s: columns of different lengths or types", batch.series.symbol, batch.series.provider)
    return Batch(
        batch.demand_id, batch.series, batch.covers, Outcome.FAILED, batch.reason, batch.fetched_us, Bars.empty(),
        is_last=batch.is_last, warnings=batch.warnings, why="malformed: columns of different lengths or types",
    )  # fmt: skip
