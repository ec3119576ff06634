"""SIGTERM: the server ends in order, soon, with exit code 0 and without leaving anything behind."""

from contextlib import suppress
from pathlib import Path

import httpx
import trio
from e2e.asked import ask, backfill, get, span
from e2e.conftest import HAS_EMBEDDED, ServerMaker
from e2e.running import asking, until
from e2e.stubs import Stub, true_bars

from timebase.model.interval import Interval

DAY = span("2024-01-01", "2024-01-02")
STOPS_S = 5.0


async def test_a_stop_takes_no_time_leaves_no_process_and_forgets_nothing(home: Path, serving: ServerMaker) -> None:
    stub = Stub("stub", home / "manifests", home / "stubs")
    stub.script("BUSY-USD", {"gate": "never"}, {})
    with serving(home, is_embedded=True) as server:
        async with asking(server) as client, trio.open_nursery() as nursery:
            await backfill(client, "KEPT-USD", DAY)
            nursery.start_soon(_ask_until_cut_off, client)  # a stop does not wait for a slow vendor
            await until(lambda: stub.seen("BUSY-USD"))
            plugins = server.children()
            with trio.fail_after(STOPS_S):
                assert await trio.to_thread.run_sync(server.stop) == 0
        assert plugins
        assert not any(plugin.is_running() for plugin in plugins)
        if HAS_EMBEDDED:
            assert not (server.data_dir / "postgres" / "postmaster.pid").exists()

        await trio.to_thread.run_sync(server.start)
        async with asking(server) as client:
            answer = await ask(client, "KEPT-USD", DAY, "1m")
        assert (answer["meta"]["source"], len(answer["bars"]["time"])) == ("store", len(true_bars(Interval.M1, DAY)))
        assert len(stub.seen("KEPT-USD")) == 1


async def _ask_until_cut_off(client: httpx.AsyncClient) -> None:
    with suppress(httpx.TransportError):
        assert (await get(client, "BUSY-USD", DAY)).status_code >= 500
