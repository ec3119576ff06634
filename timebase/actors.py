"""Which actors run, for /health."""

from collections.abc import Awaitable, Callable
from typing import Any

import trio

RUNNING = "running"


class Actors:
    """Starts actors in the nurseries it is given, and knows the state of each by name."""

    def __init__(self) -> None:
        self.states: dict[str, str] = {}

    async def start(
        self,
        nursery: trio.Nursery,
        name: str,
        actor: Callable[..., Awaitable[None]],
        *args: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401 - whatever the actor says it started with
        """Returns when the actor is ready, with what it started with. What it lets out, the nursery raises."""

        async def run(*, task_status: trio.TaskStatus[Any]) -> None:  # noqa: ASYNC128 - the actor itself calls it
            try:
                await actor(*args, task_status=_Noted(task_status, lambda: self._note(name, RUNNING)))
            except BaseException as exc:
                self._note(name, f"failed: {type(exc).__name__}")
                raise
            self._note(name, "ended")

        self._note(name, "starting")
        return await nursery.start(run)

    def _note(self, name: str, state: str) -> None:
        self.states[name] = state


class _Noted:
    """A task status that says it on."""

    def __init__(self, task_status: trio.TaskStatus[Any], note: Callable[[], None]) -> None:
        self._task_status = task_status
        self._note = note

    def started(self, value: Any = None) -> None:  # noqa: ANN401
        self._note()
        self._task_status.started(value)
