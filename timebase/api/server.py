"""services -> [server] -> clients: hypercorn's protocols on trio's sockets, for as long as nobody cancels it.

The accept loop is ours, not `hypercorn.trio.serve`: that one swallows KeyboardInterrupt, and as it shields every send,
a client that stops reading in the middle of an answer would hold up the server's stop, and its memory, for ever.
"""

import logging
from functools import partial
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import wrap_app

from timebase.api.connection import Connection, Rest
from timebase.api.factory import create_app
from timebase.api.front import AsgiApp
from timebase.api.services import ApiSettings, Services
from timebase.errors import ConfigError
from timebase.model.lru import ByteLru
from timebase.streaming.hub import Hub

log = logging.getLogger(__name__)
SERVICE_RESTART = 1012  # RFC 6455's registry: clients reconnect after a while
_EVERYWHERE = {"", "*", "::"}  # trio opens IPv4 and IPv6 for None; for "::" IPv6 alone


async def run_api(
    services: Services,
    settings: ApiSettings,
    render_cache: ByteLru[Any, bytes],
    *,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled; then take no new requests and give those under way `grace_s`.

    Starts with the port it listens on. Signals are the caller's: whoever catches them cancels this.
    """
    app = create_app(services, settings, render_cache)
    listeners = await _listen(settings)
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_serve, app, services.hub, settings, listeners, stop)
        task_status.started(listeners[0].socket.getsockname()[1])
        try:
            await trio.sleep_forever()
        finally:
            stop.set()


async def _listen(settings: ApiSettings) -> list[trio.SocketListener]:
    """Raises: ConfigError when the address is taken or not ours."""
    host = None if settings.host in _EVERYWHERE else settings.host
    try:
        first, *others = await trio.open_tcp_listeners(settings.port, host=host)
    except OSError as error:
        why = error.strerror or str(error)
        raise ConfigError([
            f"cannot listen on {settings.host}:{settings.port}: {why}; set TIMEBASE_PORT or TIMEBASE_HOST to another"
        ]) from error  # fmt: skip
    if settings.port:
        return [first, *others]
    for other in others:  # a free port is another one for each address
        await other.aclose()
    return [first]


async def _serve(
    app: AsgiApp, hub: Hub, settings: ApiSettings, listeners: list[trio.SocketListener], stop: trio.Event
) -> None:
    """Shielded: how it ends is in the code below, whoever cancels."""
    context = WorkerContext(None)
    config, wrapped = _config(), wrap_app(app, 0, "asgi")
    living: set[Connection] = set()

    async def serve_one(stream: trio.SocketStream) -> None:
        connection = Connection(stream, idle_s=settings.idle_s, stalled_s=settings.stalled_s)
        living.add(connection)
        try:
            known = ConnectionState({"connection": connection})  # for who takes it over: see websocket.py
            conversation = TCPServer(wrapped, config, context, known, connection)  # type: ignore[arg-type]
            conversation.idle_task = Rest(connection)  # type: ignore[assignment]
            await conversation.run()
        except Exception:
            log.exception("a connection failed; the others go on")
        finally:
            living.discard(connection)
            connection.ended.set()

    with trio.CancelScope(shield=True):
        async with trio.open_nursery() as connections:
            async with trio.open_nursery() as accepting:
                accepting.start_soon(partial(trio.serve_listeners, serve_one, listeners, handler_nursery=connections))
                await stop.wait()
                accepting.cancel_scope.cancel()
            hub.close(SERVICE_RESTART, "the server stops; come back in a moment")
            await context.terminated.set()  # busy connections close after their reply
            for connection in tuple(living):
                if connection.is_resting:
                    connection.abort()
            with trio.move_on_after(settings.grace_s):
                while living:
                    await next(iter(living)).ended.wait()
            for connection in tuple(living):
                connection.abort()
            connections.cancel_scope.cancel()


def _config() -> Config:
    config = Config()
    config.accesslog = None
    config.errorlog = logging.getLogger("timebase.api.hypercorn")
    config.include_server_header = False
    config.keep_alive_max_requests = 1_000_000
    return config
