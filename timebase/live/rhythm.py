"""How a feed is: live, quiet, mute or out of session, judged by its own rhythm. Pure.

Silence is measured on the clock of receiving, for a tape may be replayed fast; sessions are a matter of event time.
"""

import math
from dataclasses import dataclass, field

from timebase.model.feed import FeedState

SHORTEST_S = 0.01  # shorter pauses are all alike
PER_OCTAVE = 2
BINS = 42  # the longest holds 0.01 s * 2^21: six hours
QUANTILE = 0.99
FADE = 1 - 1 / 512  # what the pause before counts beside a new one: the last thousand or so make the rhythm
ENOUGH = 20  # pauses before anything is said about what is usual
TOO_GREAT = 1e200  # weights grow instead of all others shrinking, until this


@dataclass(slots=True)
class Rhythm:
    """The usual pause between two arrivals of one feed: a high quantile of its pauses, the older ones fading.

    A mean would be drawn to the many milliseconds of a burst, a maximum to one bad night.
    """

    _weights: list[float] = field(default_factory=lambda: [0.0] * BINS)
    _weight: float = 1.0
    _count: int = 0

    def note(self, pause_s: float) -> None:
        """One more pause, from one arrival to the next on one unbroken connection."""
        self._count += 1
        self._weights[_bin(pause_s)] += self._weight
        self._weight /= FADE
        if self._weight > TOO_GREAT:
            self._weights = [weight / self._weight for weight in self._weights]
            self._weight = 1.0

    @property
    def usual_s(self) -> float | None:
        """None while too few pauses are known."""
        if self._count < ENOUGH:
            return None
        wanted = QUANTILE * math.fsum(self._weights)
        for at, weight in enumerate(self._weights):
            wanted -= weight
            if wanted <= 0:
                return _edge_s(at)
        return _edge_s(BINS)


def _edge_s(at: int) -> float:
    return SHORTEST_S * math.exp2(at / PER_OCTAVE)


def _bin(pause_s: float) -> int:
    if pause_s <= SHORTEST_S:
        return 0
    return min(BINS - 1, math.ceil(math.log2(pause_s / SHORTEST_S) * PER_OCTAVE))


@dataclass(frozen=True, slots=True)
class Patience:
    """How much silence is too much. Units: seconds."""

    factor: float = 4.0  # times the usual pause
    floor_s: float = 10.0  # nobody is called silent sooner: networks hiccup
    ceiling_s: float = 1_800.0  # nor later, when no pulse says that the connection is alive
    unknown_s: float = 120.0  # while its rhythm is not known
    fault_factor: float = 20.0  # times the usual pause: a fault even with pulses
    fault_floor_s: float = 300.0
    pulse_s: float = 45.0  # a pulse older than this says nothing any more: vendors send one every 5 to 30 s


@dataclass(frozen=True, slots=True)
class Signs:
    """What is known of a feed that is subscribed, at one moment. Units: seconds.

    `silent_s`: since its last data, or since it was made or came up, or since the session opened, whichever was last.
    `pulse_s`: since the vendor's last pulse; None when it has sent none since the feed was made.
    `is_open`: whether the instrument's market is; None when nobody knows. `mutes`: how often in a row making the feed
    anew has not brought a word.
    """

    silent_s: float
    pulse_s: float | None = None
    usual_s: float | None = None
    is_open: bool | None = None
    has_begun: bool = True  # the vendor has said anything at all since the feed was made
    mutes: int = 0


def judge(signs: Signs, patience: Patience) -> tuple[FeedState, str]:
    """The state that the signs speak for, and why. MUTE is a fault: the feed is to be made anew."""
    if signs.silent_s <= limit_s(signs, patience):
        return (FeedState.LIVE, "") if signs.has_begun else (FeedState.CONNECTING, "")
    said = f"silent for {signs.silent_s:.0f} s"
    if signs.is_open is False:
        return FeedState.CLOSED, f"{said}, out of session"
    if signs.pulse_s is None or signs.pulse_s > patience.pulse_s:
        return FeedState.MUTE, f"{said}, {_usually(signs)}, and no pulse of the vendor's"
    if signs.usual_s is not None and signs.silent_s > _fault_s(signs.usual_s, patience) * 2.0**signs.mutes:
        return FeedState.MUTE, f"{said}, {_usually(signs)}, though the vendor's connection is alive"
    return FeedState.QUIET, f"{said}; the vendor's connection is alive"


def limit_s(signs: Signs, patience: Patience) -> float:
    """The silence up to which nothing is said. It doubles while making the feed anew does not help."""
    own_s = patience.unknown_s if signs.usual_s is None else max(patience.floor_s, patience.factor * signs.usual_s)
    return min(patience.ceiling_s, own_s * 2.0 ** min(signs.mutes, 10))


def _fault_s(usual_s: float, patience: Patience) -> float:
    return max(patience.fault_floor_s, patience.fault_factor * usual_s)


def _usually(signs: Signs) -> str:
    return "its rhythm is not known yet" if signs.usual_s is None else f"where {signs.usual_s:.2g} s are usual"
