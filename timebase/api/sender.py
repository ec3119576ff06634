"""A follower's events -> its socket: at once where the socket takes them, else by a task that waits until it does."""

from collections.abc import Callable
from contextlib import suppress

import trio

from timebase.api.websocket import Gone, WebSocket
from timebase.clock import now_us
from timebase.streaming.event import Event, Goodbye
from timebase.streaming.follower import Follower
from timebase.streaming.lags import Lag


class Sender:
    """`frame_of`: a frame that shows events; empty when this client is shown none of them. `nursery`: the client's."""

    def __init__(
        self,
        follower: Follower,
        socket: WebSocket,
        frame_of: Callable[[list[Event]], bytes],
        lag: Lag,
        nursery: trio.Nursery,
    ) -> None:
        self._follower = follower
        self._socket = socket
        self._frame_of = frame_of
        self._lag = lag
        self._nursery = nursery
        self.sent_at = trio.current_time()
        follower.outlet = self

    async def run(self) -> Goodbye:
        """Send what cannot go at once, until there is nothing more to say but the goodbye. Raises: Gone."""
        while True:
            events = await self._follower.next()
            frame = self._frame_of(events)
            if frame:
                await self._socket.send(frame)
                self._note(events)
            if isinstance(goodbye := events[-1].content, Goodbye):
                return goodbye

    # --- as the follower's outlet ---

    @property
    def is_free(self) -> bool:
        return self._socket.is_free

    def send(self, events: list[Event]) -> None:
        try:
            frame = self._frame_of(events)
            if frame:
                if not self._socket.send_now(frame):
                    self._nursery.start_soon(self._finish)
                self._note(events)
        except Gone:
            return  # its reader hears of it too
        except Exception as exc:  # noqa: BLE001 - of one client; the hub's turn goes on for all others
            self._nursery.start_soon(_fail, exc)

    async def _finish(self) -> None:
        with suppress(Gone):
            await self._socket.finish()

    def _note(self, events: list[Event]) -> None:
        self.sent_at = trio.current_time()
        if events[-1].durable_us:
            self._lag.note(now_us() - events[-1].durable_us)


async def _fail(exc: Exception) -> None:
    """As if the client's own task had met it."""
    raise exc
