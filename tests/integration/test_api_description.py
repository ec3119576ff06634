"""What the description promises is what the server does: generated requests, checked replies, no 5xx."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import schemathesis
import trio
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance
from unit.api.fakes import FakeServices

from timebase.api.exchange import JSON
from timebase.api.openapi import describe
from timebase.api.routes import ROUTES
from timebase.api.server import run_api
from timebase.api.services import ApiSettings
from timebase.model.lru import ByteLru
from timebase.replay import Replay

EXAMPLES = 20  # of each kind for each operation: a few seconds in all


@dataclass
class ServerThread:
    """A server in a thread of its own: schemathesis asks with blocking sockets."""

    folder: Path  # of what is given to play
    token: str | None = None
    port: int = 0
    is_up: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        trio.run(self._serve)

    async def _serve(self) -> None:
        self._trio = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:
            self._scope = nursery.cancel_scope
            settings = ApiSettings(port=0, token=self.token, grace_s=0.1)
            services = FakeServices(replay=Replay(self.folder))
            self.port = await nursery.start(run_api, services, settings, ByteLru(10_000_000))
            self.is_up.set()

    def stop(self) -> None:
        self._trio.run_sync_soon(self._scope.cancel)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerThread]:
    server = ServerThread(tmp_path_factory.mktemp("replay"))
    thread = threading.Thread(target=server.run)
    thread.start()
    assert server.is_up.wait(10)
    yield server
    server.stop()
    thread.join(10)


OPERATIONS = {
    (path, method): operation
    for path, methods in json.loads(describe(ROUTES, "0"))["paths"].items()
    for method, operation in methods.items()
    if method != "head"
}
GOOD, BAD = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
# To a schema any bytes are an archive: there are no bad ones.
CASES = [
    (path, method, mode)
    for (path, method), operation in OPERATIONS.items()
    for mode in (GOOD, BAD)
    if mode is GOOD or operation["parameters"] or JSON in operation.get("requestBody", {}).get("content", ())
]


@pytest.mark.parametrize(("path", "method", "mode"), CASES)
def test_replies_are_as_described(served: ServerThread, path: str, method: str, mode: GenerationMode) -> None:
    """Status, content type, headers and body of every reply are in the description, and bad requests are refused.

    That every good one is accepted is not asked: no schema can say that a start lies before its end.
    """
    schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{served.port}/openapi.json")

    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=schema[path][method].as_strategy(generation_mode=mode))
    def ask(case: schemathesis.Case) -> None:
        case.call_and_validate(excluded_checks=[positive_data_acceptance])

    ask()
