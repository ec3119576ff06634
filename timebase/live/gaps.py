"""connections lost and made -> [gaps] -> healer: from where to where each channel was without its feed."""

from dataclasses import dataclass, replace
from functools import partial

from timebase.live.line import Line
from timebase.live.neighbours import Healing
from timebase.live.settings import LiveSettings
from timebase.live.wants import Wants
from timebase.model.calendar import Calendar, zone_of
from timebase.model.feed import Channel, Feed, FeedKind
from timebase.model.interval import Interval
from timebase.model.live import BarUpdate
from timebase.model.timerange import DAY_US


@dataclass(frozen=True, slots=True)
class Whole:
    """Until when a channel was whole whose feed was lost, and when its last trade was, each time that it was lost."""

    until_us: int
    traded_us: frozenset[int]


class Gaps:
    """What was missed is owed as soon as the channel is there again. All times are the events'."""

    def __init__(self, wants: Wants, healer: Healing, settings: LiveSettings) -> None:
        self._wants = wants
        self._healer = healer
        self._settings = settings
        self._whole: dict[Channel, Whole] = {}

    def lost(self, line: Line) -> None:
        """The feed has gone, or is about to: what comes from now on may be missing."""
        if line.joined_us is None:
            return
        for channel in line.channels:
            self._keep(line, channel, line.joined_us)
        line.lose()

    def left(self, line: Line, channel: Channel) -> None:
        """The channel is taken from a line that goes on, or ends for that."""
        if line.joined_us is not None:
            self._keep(line, channel, line.joined_us)

    def _keep(self, line: Line, channel: Channel, joined_us: int) -> None:
        """Not where all that ever came was one old word, which may be what the vendor had to begin with."""
        heard_us = line.heard_us or joined_us
        if line.presence.is_sure or heard_us > joined_us:
            known = self._whole.get(channel, Whole(heard_us, frozenset()))
            self._whole[channel] = replace(known, traded_us=known.traded_us | _traded_us(line, line.last_event_us))

    def joined(self, line: Line, event_us: int, *, oldest_us: int | None = None) -> None:
        """The first sign of life of a connection, which may be many trades: what was missed until then is owed.

        What is old is one until the present comes. A tape has joined with it; what a vendor had to begin with is
        forgotten then, and everything is owed up to the present.
        """
        if line.presence.hear(event_us, is_pulse=oldest_us is None):
            line.joined_us = None
        if line.joined_us is not None:
            self._be_sure(line)
            return
        line.join(event_us)
        if oldest_us is not None:
            oldest_us = max(oldest_us, line.presence.from_us)
        joined_us = event_us if oldest_us is None or line.presence.is_now else oldest_us
        for channel in line.channels:
            self._owe(line, channel, joined_us, oldest_us)
        self._be_sure(line)

    def _be_sure(self, line: Line) -> None:
        """What is owed need not be known any longer once it is sure that the feed has joined."""
        if line.presence.is_sure and self._whole:
            for channel in line.channels:
                self._whole.pop(channel, None)

    def came(self, line: Line, channel: Channel) -> None:
        """The channel comes to a line that was there before it."""
        if line.joined_us is not None:
            self._owe(line, channel, line.joined_us, None)
            self._be_sure(line)

    def meanwhile(self, line: Line) -> None:
        """It is up, and there is nothing to hear yet: what was missed until now need not wait for that."""
        if line.is_owed_meanwhile or line.feed is None:
            return
        line.is_owed_meanwhile = True
        for channel in line.channels:
            whole = self._whole.get(channel)
            if whole is not None and channel.interval is not None:
                self._healer.owe(
                    line.feed, channel.interval, whole.until_us, line.event_now_us(), traded_us=whole.traded_us,
                    event_now_us=line.event_now_us,
                )  # fmt: skip

    def unkept(self, line: Line, update: BarUpdate) -> None:
        """What came, and neither the database nor the spool could take, is owed as what never came."""
        if any(channel.interval is update.series.interval for channel in line.channels):
            self._healer.owe_unkept(update, event_now_us=line.event_now_us)

    def _owe(self, line: Line, channel: Channel, joined_us: int, oldest_us: int | None) -> None:
        """The periods from where the channel was lost to the one in which it is there again, that one included.

        Nothing for who comes to a feed later than in its first period: what was before, it asks for itself.
        """
        if channel.interval is None or line.feed is None:
            return
        whole = self._whole.get(channel)
        traded_us = _traded_us(line, None if oldest_us is None else joined_us)
        owe = partial(self._healer.owe, line.feed, channel.interval, event_now_us=line.event_now_us)
        if whole is not None:
            from_us = max(whole.until_us, joined_us - self._settings.heal_back_days * DAY_US)
            owe(from_us=from_us, joined_us=joined_us, traded_us=whole.traded_us | traded_us)
            return
        if self._wants.is_collected(channel):
            owe(from_us=None, joined_us=joined_us, traded_us=traded_us)
        elif oldest_us is None and _is_over(line.feed, channel.interval, joined_us, line.event_now_us()):
            return
        from_us = joined_us if oldest_us is None else oldest_us
        owe(from_us=from_us, joined_us=joined_us, traded_us=traded_us)


def _traded_us(line: Line, at_us: int | None) -> frozenset[int]:
    """When there was a trade for sure: what is told of a bar that comes ready-made may be its end."""
    return frozenset() if at_us is None or line.supply.kind is FeedKind.BARS else frozenset((at_us,))


def _is_over(feed: Feed, interval: Interval, at_us: int, now_us: int) -> bool:
    """Whether the period that holds an instant is."""
    calendar = Calendar(zone_of(feed.instrument))
    return calendar.ends_us(interval, calendar.stamp_at(interval, at_us)) <= now_us
