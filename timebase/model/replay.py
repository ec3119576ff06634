"""What the replay is told and what it tells: two small files between the server and its plugin `replay`.

    PUT /api/v1/replay -> order.json -> plugin -> state.json -> GET /api/v1/replay

Files, because both survive whatever is killed: the order is obeyed, and the tape goes on, after any restart.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Self

ORDER_FILE = "order.json"
STATE_FILE = "state.json"
REPLAY_SLUG = "replay"


class TapeState(StrEnum):
    EMPTY = "empty"
    PLAYING = "playing"
    PAUSED = "paused"
    ENDED = "ended"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Tape:
    """A file of trades, and the canonical symbol that they are of."""

    symbol: str
    path: str


@dataclass(frozen=True, slots=True)
class ReplayOrder:
    """Units: µs UTC in tape time. `serial` ascends from order to order; `position_us` None: go on where it is."""

    serial: int = 0
    tapes: tuple[Tape, ...] = ()
    speed: float = 1.0
    is_playing: bool = False
    position_us: int | None = None

    def plain(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Self:
        """Raises: KeyError, TypeError, ValueError for what is no order."""
        tapes = tuple(Tape(str(tape["symbol"]), str(tape["path"])) for tape in plain["tapes"])
        position_us = plain["position_us"]
        return cls(
            int(plain["serial"]),
            tapes,
            float(plain["speed"]),
            bool(plain["is_playing"]),
            None if position_us is None else int(position_us),
        )


@dataclass(frozen=True, slots=True)
class ReplayState:
    """What has become of the order of that `serial`.

    Units: µs UTC in tape time. `position_us` is where it is; `resume_us`, a little before, is where it goes on after a
    kill, so that what was still on its way is sent again. `begin_us` and `end_us` are the first and last trade's.
    """

    serial: int = 0
    state: TapeState = TapeState.EMPTY
    position_us: int | None = None
    resume_us: int | None = None
    begin_us: int | None = None
    end_us: int | None = None
    speed: float = 1.0
    symbols: tuple[str, ...] = ()
    trades: int = 0
    error: str = ""

    def plain(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Self:
        """Raises: KeyError, TypeError, ValueError for what is no state."""
        times = {name: plain[name] for name in ("position_us", "resume_us", "begin_us", "end_us")}
        return cls(
            serial=int(plain["serial"]),
            state=TapeState(plain["state"]),
            speed=float(plain["speed"]),
            symbols=tuple(map(str, plain["symbols"])),
            trades=int(plain["trades"]),
            error=str(plain["error"]),
            **{name: None if at is None else int(at) for name, at in times.items()},
        )
