"""lines, and wanted channels without one -> plain data for the API: times in ms, the same keys for both. Pure."""

from collections.abc import Mapping, Sequence

from timebase.live.line import Line
from timebase.model.feed import Channel, FeedState

Facts = dict[str, object]


def line_facts(line: Line, retry_in_s: float, healing: Sequence[Mapping[str, object]]) -> Facts:
    """`healing`: what is owed of its series; `retry_in_s`: until it is tried again; 0 or less: it does not wait."""
    supply = line.supply
    return {
        "kind": supply.kind.value,
        "symbol": supply.symbol,
        "interval": supply.interval and supply.interval.value,
        "provider": supply.provider,
        "channels": sorted(map(str, line.channels)),
        "state": line.state.value,
        "since": line.since_us // 1000,
        "reason": line.reason,
        "attempts": line.attempts,
        "made": line.made,
        "last_event": _ms(line.last_event_us),
        "last_received": _ms(line.last_received_us),
        "usual_pause_s": line.usual_s and round(line.usual_s, 3),
        "retry_in_s": round(max(0.0, retry_in_s), 1),
        "healing": healing,
    }


def unsupplied_facts(channel: Channel, why: str) -> Facts:
    return {
        "kind": channel.kind.value,
        "symbol": channel.symbol,
        "interval": channel.interval and channel.interval.value,
        "provider": channel.provider,
        "channels": [str(channel)],
        "state": FeedState.DOWN.value,
        "since": None,
        "reason": why,
        "attempts": 0,
        "made": 0,
        "last_event": None,
        "last_received": None,
        "usual_pause_s": None,
        "retry_in_s": 0.0,
        "healing": [],
    }


def _ms(at_us: int | None) -> int | None:
    return None if at_us is None else at_us // 1000
