"""One feed as the server knows it: its state and reason, its rhythm, what it has been through."""

import math
from collections.abc import Callable

import trio

from timebase.errors import ProviderError
from timebase.live.rhythm import Rhythm, Signs
from timebase.live.session import session_at
from timebase.live.supply import Supply
from timebase.model.feed import Channel, Feed, FeedState
from timebase.model.instrument import Instrument
from timebase.model.presence import Presence
from timebase.model.timerange import SECOND_US


class Line:
    """What stands between a provider and the channels that one feed of it supplies.

    Units: `_us` µs UTC; `_at` seconds of trio's clock, with which everything is measured that lasts, for the wall clock
    may step. `attempts` counts the failures in a row; `made` how often the feed was subscribed.
    """

    def __init__(self, supply: Supply, instrument: Instrument, clock: Callable[[], int]) -> None:
        self.supply = supply
        self.instrument = instrument
        self.channels: set[Channel] = set()
        self.feed: Feed | None = None
        self.scope = trio.CancelScope()
        self.poke = trio.Event()
        self.state = FeedState.DOWN
        self.reason = "not made yet"
        self.attempts = 0
        self.made = 0
        self.mutes = 0
        self.first_mute_at = -math.inf
        self.data_at = -math.inf  # when its newest data came, by whichever connection
        self.last_received_us: int | None = None
        self.last_event_us: int | None = None
        self.joined_us: int | None = None  # event time of the first sign of life on this connection; None: none yet
        self.presence = Presence()  # whether what came of this connection is one
        self._clock = clock
        self._rhythm = Rhythm()
        self._error: ProviderError | None = None
        self._ended = trio.Event()
        self.is_made = False
        self.since_us = clock()
        self.is_owed_meanwhile = False  # what was missed until it came up
        self.lived_s = 0.0  # how long this connection brought something
        self.heard_us: int | None = None  # event time up to which it is known to have been whole
        self._heard_at = -math.inf  # when that was
        self._joined_at = -math.inf
        self._up_at = -math.inf  # since when it is up, as far as is known
        self._down_at: float | None = None  # since when the vendor says that its connection is down
        self._has_begun = False
        self._is_unbroken = False  # the next arrival ends a pause, not a gap
        self._pulse_at: float | None = None

    # --- what becomes of it ---

    def become(self, state: FeedState, reason: str = "") -> bool:
        """Returns: whether that is news."""
        is_new = state is not self.state
        if is_new:
            self.since_us = self._clock()
        is_news = is_new or reason != self.reason
        self.state, self.reason = state, reason
        return is_new if state in (FeedState.LIVE, FeedState.QUIET, FeedState.CLOSED) else is_news

    def open(self, feed: Feed) -> None:
        """It is being subscribed; `feed` is this connection's own."""
        self.feed = feed
        self._error, self._ended = None, trio.Event()
        self.made += 1
        self.is_made, self.joined_us, self._down_at = True, None, None
        self.is_owed_meanwhile = False
        self._has_begun = self._is_unbroken = False
        self._pulse_at = None
        self._up_at = trio.current_time()
        self.lived_s = 0.0
        self.presence = Presence(feed.since_us)

    def end(self, error: ProviderError) -> None:
        """It has failed, or is to be made anew."""
        if self._error is None:
            self._error = error
        self.is_made = False
        self._ended.set()

    async def ended(self) -> ProviderError:
        await self._ended.wait()
        assert self._error is not None
        return self._error

    # --- what comes ---

    def note_data(self, received_us: int, event_us: int) -> None:
        now = trio.current_time()
        if self._is_unbroken:
            self._rhythm.note(now - self.data_at)
        self.data_at, self.last_received_us = now, received_us
        self.last_event_us = event_us if self.last_event_us is None else max(event_us, self.last_event_us)
        self._hear(event_us)
        self._has_begun = self._is_unbroken = True
        self.mutes = 0
        self._down_at = None

    def note_pulse(self, event_us: int) -> None:
        self._pulse_at = trio.current_time()
        self._has_begun = True
        self._hear(event_us)

    def _hear(self, event_us: int) -> None:
        if self.heard_us is None or event_us >= self.heard_us:
            self.heard_us, self._heard_at = event_us, trio.current_time()

    def note_up(self, received_us: int) -> None:
        self._has_begun = True
        self._down_at = None
        self._up_at = trio.current_time()
        self.presence = Presence(received_us)

    def note_down(self) -> None:
        self._down_at = trio.current_time()
        self._is_unbroken = self.is_owed_meanwhile = False

    def join(self, event_us: int) -> None:
        """A tape that was wound back is there again, whatever was heard before."""
        self.joined_us = self.heard_us = event_us
        self._joined_at = self._heard_at = trio.current_time()

    def lose(self) -> None:
        self.joined_us = None
        self.lived_s = trio.current_time() - self._joined_at

    # --- what is to be thought of it ---

    @property
    def has_begun(self) -> bool:
        """Whether the vendor has said anything since the feed was made."""
        return self._has_begun

    @property
    def is_down(self) -> bool:
        """Whether the vendor says so of its connection."""
        return self._down_at is not None

    def down_s(self) -> float:
        return 0.0 if self._down_at is None else trio.current_time() - self._down_at

    def up_s(self) -> float:
        return trio.current_time() - self._up_at

    def silent_s(self) -> float:
        return trio.current_time() - max(self.data_at, self._up_at)

    @property
    def usual_s(self) -> float | None:
        return self._rhythm.usual_s

    def event_now_us(self) -> int:
        """Now, on the clock of the data: a tape has a clock of its own."""
        if self.heard_us is None:
            return self._clock()
        return self.heard_us + int((trio.current_time() - self._heard_at) * SECOND_US)

    def signs(self) -> Signs:
        event_now_us, silent_s = self.event_now_us(), self.silent_s()
        session = session_at(self.instrument, event_now_us)
        if session is not None and session.since_us is not None:
            silent_s = min(silent_s, (event_now_us - session.since_us) / SECOND_US)
        return Signs(
            silent_s=silent_s,
            pulse_s=None if self._pulse_at is None else trio.current_time() - self._pulse_at,
            usual_s=self.usual_s,
            is_open=None if session is None else session.is_open,
            has_begun=self._has_begun,
            mutes=self.mutes,
        )
