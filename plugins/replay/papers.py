"""The two files through which the server and the replay talk."""

import json
from pathlib import Path

from timebase.model.replay import ORDER_FILE, STATE_FILE, ReplayOrder, ReplayState
from timebase.sdk import Malformed


class Papers:
    """Reads the order when it has changed; writes the state whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self._order = folder / ORDER_FILE
        self._state = folder / STATE_FILE
        self._stamp: tuple[int, int] | None = None
        self._known = ReplayOrder()

    def order(self) -> ReplayOrder:
        """The newest order, the empty one when there is none. Raises: Malformed."""
        try:
            about = self._order.stat()
        except FileNotFoundError:
            return ReplayOrder()
        stamp = (about.st_mtime_ns, about.st_ino)
        if stamp != self._stamp:
            try:
                self._known = ReplayOrder.of(json.loads(self._order.read_bytes()))
            except (KeyError, TypeError, ValueError) as exc:
                raise Malformed(f"{self._order} is no order: {exc!r}") from exc
            self._stamp = stamp
        return self._known

    def state(self) -> ReplayState:
        """What was written last; a state that cannot be read is none."""
        try:
            return ReplayState.of(json.loads(self._state.read_bytes()))
        except (OSError, KeyError, TypeError, ValueError):
            return ReplayState()

    def start_us(self, order: ReplayOrder) -> int:
        """Where the tape is to go on: where it was, unless the order says where and has not been obeyed yet."""
        told = self.state()
        is_obeyed = told.serial >= order.serial
        return (told.resume_us if is_obeyed or order.position_us is None else order.position_us) or 0

    def played_us(self, order: ReplayOrder) -> int:
        """Up to where the tape has been played."""
        told = self.state()
        is_obeyed = told.serial >= order.serial
        return (told.position_us if is_obeyed or order.position_us is None else order.position_us) or 0

    def write(self, state: ReplayState) -> None:
        part = self._state.with_suffix(".part")
        part.write_text(json.dumps(state.plain()))
        part.replace(self._state)
