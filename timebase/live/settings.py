"""Every number of the live rooms, in one place."""

from dataclasses import dataclass, field

from timebase.live.rhythm import Patience


@dataclass(frozen=True, slots=True)
class LiveSettings:
    """Units: `_s` seconds."""

    linger_s: float = 30.0  # a feed outlives its last follower by so much
    patience: Patience = field(default_factory=Patience)
    look_s: float = 1.0  # how often every feed is judged
    ready_s: float = 10.0  # for a provider that is just starting
    down_s: float = 120.0  # a vendor's connection that is down for longer is no longer left to the plugin to bring back
    give_way_after: int = 2  # failures in a row, then another provider supplies the channel if one can
    hopeless_s: float = 600.0  # before what cannot be had (unknown there, not supported) is asked for once more
    restart_mutes: int = 3  # feeds made anew in vain before the provider's process is started anew
    restart_rest_s: float = 900.0  # between two such starts
    settle_s: float = (
        3.0  # after a period's end, before its bar is asked for as history; the manifest's delay comes on top
    )
    heal_first_s: float = 5.0  # the pause before the second try to heal; doubles
    heal_last_s: float = 300.0
    heal_tries: int = 8
    heals_at_once: int = 4  # of all series: clients' questions go on meanwhile
    heal_back_days: int = 30  # a collected series that was left for longer is not made up for by itself
    poll_spread_s: float = 5.0  # collected series without a stream are not all asked for in the same instant
