"""lines -> [judging] -> their states; a feed that is mute is made anew, a provider that stays so is started anew."""

import logging
import math
from collections.abc import Callable

import trio

from timebase.errors import ProviderError, Upstream
from timebase.live.gaps import Gaps
from timebase.live.line import Line
from timebase.live.lines import Lines
from timebase.live.neighbours import Roster
from timebase.live.rhythm import judge
from timebase.live.settings import LiveSettings
from timebase.model.feed import FeedState

log = logging.getLogger(__name__)

RESTART_S = 30.0
JUST_UP_S = 5.0  # the gap before a feed that is up but silent need not wait longer for its first word


class Judging:
    """`is_jammed`: whether messages wait for room on the road; silence is not the vendor's then."""

    def __init__(
        self,
        *,
        lines: Lines,
        gaps: Gaps,
        roster: Roster,
        settings: LiveSettings,
        is_jammed: Callable[[], bool],
    ) -> None:
        self._lines = lines
        self._gaps = gaps
        self._roster = roster
        self._settings = settings
        self._is_jammed = is_jammed
        self._judge_from = -math.inf
        self._restarted: dict[str, float] = {}

    async def judge_all(self) -> None:
        """Every feed, every `look_s`, until cancelled."""
        while True:
            await trio.sleep(self._settings.look_s)
            if self._is_jammed():
                self._judge_from = trio.current_time() + self._settings.patience.floor_s
            elif trio.current_time() >= self._judge_from:
                for line in self._lines.all():
                    if line.is_made:
                        self._judge(line)

    def _judge(self, line: Line) -> None:
        if line.is_down:
            self._judge_down(line)
            return
        state, reason = judge(line.signs(), self._settings.patience)
        if state is not FeedState.CONNECTING:
            self._lines.become(line, state, reason)
        if state is FeedState.MUTE:
            self._make_anew(line, Upstream(f"mute: {reason}"))
        elif line.has_begun and line.joined_us is None and line.up_s() > JUST_UP_S:
            self._gaps.meanwhile(line)

    def _judge_down(self, line: Line) -> None:
        """The plugin reconnects to its vendor by itself, and is helped when it does not get anywhere."""
        down_s = line.down_s()
        if down_s > self._settings.down_s * 2.0 ** min(line.mutes, 5):
            self._make_anew(line, Upstream(f"down for {down_s:.0f} s: {line.reason}"))

    def _make_anew(self, line: Line, error: ProviderError) -> None:
        log.warning("%s: %s", line.supply, error)
        if not line.mutes:
            line.first_mute_at = trio.current_time()
        line.mutes += 1
        line.end(error)

    # --- providers that making feeds anew does not help ---

    async def restart_the_deaf(self) -> None:
        """Start a provider's process anew where making its feeds anew has not helped any of them. Until cancelled."""
        while True:
            await trio.sleep(self._settings.look_s)
            for slug in sorted({line.supply.provider for line in self._lines.all()}):
                handle = self._roster.get(slug)
                if handle is not None and self._is_deaf(slug):
                    log.warning("%s is started anew: its feeds stay mute", slug)
                    self._restarted[slug] = trio.current_time()
                    with trio.move_on_after(RESTART_S):
                        await handle.restart()

    def _is_deaf(self, slug: str) -> bool:
        """None of its feeds has had a word since the first of them was made anew in vain, in hours of trading."""
        rested = trio.current_time() - self._restarted.get(slug, -math.inf) >= self._settings.restart_rest_s
        lines = [line for line in self._lines.all() if line.supply.provider == slug]
        mute = [line for line in lines if line.mutes >= self._settings.restart_mutes and line.signs().is_open]
        if not rested or not mute:
            return False
        first_at = min(line.first_mute_at for line in mute)
        return all(line.data_at < first_at for line in lines)
