"""One feed as the server knows it: its state and reason, its rhythm, what it has been through."""

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

    Units: `_us` µs UTC, of receiving unless the name says event. `attempts` counts the failures in a row; `made` how
    often the feed was subscribed.
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
        self.first_mute_us = 0
        self.last_received_us: int | None = None
        self.last_event_us: int | None = None
        self.joined_us: int | None = None  # event time of the first sign of life on this connection; None: none yet
        self.presence = Presence()  # whether what came of this connection is one
        self._clock = clock
        self._rhythm = Rhythm()
        self._error: ProviderError | None = None
        self._ended = trio.Event()
        self.is_made = False
        self.made_us = 0
        self.since_us = clock()
        self.up_us = 0  # since when it is up, as far as is known
        self.is_owed_meanwhile = False  # what was missed until it came up
        self.lived_us = 0  # how long this connection brought something
        self.heard_us: int | None = None  # event time up to which it is known to have been whole
        self._heard_at_us = 0
        self._joined_at_us = 0
        self.down_us: int | None = None  # since when the vendor says that its connection is down
        self._has_begun = False
        self._is_unbroken = False  # the next arrival ends a pause, not a gap
        self._pulse_us: int | None = None

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
        self.made_us = self._clock()
        self.is_made, self.joined_us, self.down_us = True, None, None
        self.is_owed_meanwhile = False
        self._has_begun = self._is_unbroken = False
        self._pulse_us = None
        self.up_us = self.made_us
        self.lived_us = 0
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
        if self._is_unbroken and self.last_received_us is not None:
            self._rhythm.note((received_us - self.last_received_us) / SECOND_US)
        self.last_received_us = received_us
        self.last_event_us = event_us if self.last_event_us is None else max(event_us, self.last_event_us)
        self._hear(received_us, event_us)
        self._has_begun = self._is_unbroken = True
        self.mutes = 0
        self.down_us = None

    def note_pulse(self, received_us: int, event_us: int) -> None:
        self._pulse_us = received_us
        self._has_begun = True
        self._hear(received_us, event_us)

    def _hear(self, received_us: int, event_us: int) -> None:
        if self.heard_us is None or event_us >= self.heard_us:
            self.heard_us, self._heard_at_us = event_us, received_us

    def note_up(self, received_us: int) -> None:
        self._has_begun = True
        self.down_us = None
        self.up_us = received_us
        self.presence = Presence(received_us)

    def note_down(self, received_us: int) -> None:
        self.down_us = received_us
        self._is_unbroken = self.is_owed_meanwhile = False

    def join(self, event_us: int) -> None:
        """A tape that was wound back is there again, whatever was heard before."""
        self.joined_us, self._joined_at_us = event_us, self._clock()
        self.heard_us, self._heard_at_us = event_us, self._joined_at_us

    def lose(self) -> None:
        self.joined_us = None
        self.lived_us = self._clock() - self._joined_at_us

    # --- what is to be thought of it ---

    @property
    def has_begun(self) -> bool:
        """Whether the vendor has said anything since the feed was made."""
        return self._has_begun

    def up_s(self) -> float:
        return (self._clock() - self.up_us) / SECOND_US

    @property
    def usual_s(self) -> float | None:
        return self._rhythm.usual_s

    def event_now_us(self) -> int:
        """Now, on the clock of the data: a tape has a clock of its own."""
        now_us = self._clock()
        return now_us if self.heard_us is None else self.heard_us + now_us - self._heard_at_us

    def silent_us(self) -> int:
        return self._clock() - max(self.last_received_us or 0, self.made_us, self.up_us)

    def signs(self) -> Signs:
        event_now_us, silent_us = self.event_now_us(), self.silent_us()
        session = session_at(self.instrument, event_now_us)
        if session is not None and session.since_us is not None:
            silent_us = min(silent_us, event_now_us - session.since_us)
        return Signs(
            silent_s=silent_us / SECOND_US,
            pulse_s=None if self._pulse_us is None else (self._clock() - self._pulse_us) / SECOND_US,
            usual_s=self.usual_s,
            is_open=None if session is None else session.is_open,
            has_begun=self._has_begun,
            mutes=self.mutes,
        )
