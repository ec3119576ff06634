"""PUT /replay -> order.json -> [the plugin `replay`] -> state.json -> GET /replay

orders -> [replay] -> wants: the trades of what is on the tapes are wanted as long as it plays, follower or not
"""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import trio

from timebase.model.feed import Channel, FeedKind
from timebase.model.replay import ORDER_FILE, REPLAY_SLUG, STATE_FILE, ReplayOrder, ReplayState, Tape

T = TypeVar("T")


class Wants(Protocol):
    """See live/wants.py."""

    def want(self, channel: Channel) -> None: ...
    def unwant(self, channel: Channel) -> None: ...


class Replay:
    """The two files in the plugin's cache folder, from the server's side: small, and read whenever asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._changed = trio.Event()

    def order(self) -> ReplayOrder:
        return _read(self._folder / ORDER_FILE, ReplayOrder.of, ReplayOrder())

    def state(self) -> ReplayState:
        return _read(self._folder / STATE_FILE, ReplayState.of, ReplayState())

    def give(
        self,
        *,
        tapes: tuple[Tape, ...] | None = None,
        speed: float | None = None,
        is_playing: bool | None = None,
        position_us: int | None = None,
    ) -> ReplayOrder:
        """Change what is given; what is None stays. Tapes that are put in begin at their beginning, playing."""
        before, has_tapes = self.order(), bool(tapes)
        if position_us is None and has_tapes:
            position_us = 0
        if position_us is None and self.state().serial < before.serial:
            position_us = before.position_us  # that order has not been obeyed yet
        order = ReplayOrder(
            serial=before.serial + 1,
            tapes=before.tapes if tapes is None else tapes,
            speed=before.speed if speed is None else speed,
            is_playing=(has_tapes or before.is_playing) if is_playing is None else is_playing,
            position_us=position_us,
        )
        self._write(order)
        self._changed.set()
        self._changed = trio.Event()
        return order

    async def changed(self) -> None:
        """Returns after the next order."""
        await self._changed.wait()

    def _write(self, order: ReplayOrder) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = self._folder / f"{ORDER_FILE}.part"
        with part.open("w") as file:
            json.dump(order.plain(), file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(self._folder / ORDER_FILE)


async def run_replay(
    replay: Replay, wants: Wants, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Runs until it is cancelled. What was played before a restart goes on."""
    wanted: frozenset[Channel] = frozenset()
    task_status.started()
    try:
        while True:
            before, wanted = wanted, channels(replay.order())
            for channel in wanted - before:
                wants.want(channel)
            for channel in before - wanted:
                wants.unwant(channel)
            await replay.changed()
    finally:
        for channel in wanted:
            wants.unwant(channel)


def channels(order: ReplayOrder) -> frozenset[Channel]:
    """What an order makes wanted. Paused tapes stay wanted: their feeds are alive, and nothing happens."""
    return frozenset(Channel(FeedKind.TRADES, tape.symbol, provider=REPLAY_SLUG) for tape in order.tapes)


def _read(path: Path, of: Callable[[Mapping[str, Any]], T], otherwise: T) -> T:
    try:
        return of(json.loads(path.read_bytes()))
    except (OSError, KeyError, TypeError, ValueError):
        return otherwise
