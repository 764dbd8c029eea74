"""The lifespans of a worker's applications in its event loop: started before it serves, ended when it leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any

from gateway.app.lifespan import Lifespan

_LAST = 1.0  # seconds for tasks that the applications have left behind to take their cancellation


class Lifespans:
    """All of them, each in a task of its own."""

    def __init__(self, loop: asyncio.AbstractEventLoop, lifespans: Iterable[Lifespan]) -> None:
        self._loop = loop
        self._lifespans = tuple(lifespans)
        self._leaving = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Let all start up. Raises LoadError for the first that cannot."""
        started = [asyncio.Event() for _ in self._lifespans]
        for lifespan, event in zip(self._lifespans, started, strict=True):
            self._tasks.append(self._loop.create_task(lifespan.run(event, self._leaving)))
        self._run(_all(started))
        for lifespan in self._lifespans:
            if lifespan.failure is not None:
                raise lifespan.failure

    def end(self, seconds: float) -> list[Lifespan]:
        """Let all shut down, and end the loop with what is left in it; return those that took longer."""
        self._leaving.set()
        if self._tasks:
            self._run(asyncio.wait(self._tasks, timeout=seconds))
        late = [lifespan for lifespan, task in zip(self._lifespans, self._tasks, strict=False) if not task.done()]
        self._run(_cancel_all())
        self._run(self._loop.shutdown_asyncgens())
        self._loop.close()
        return late

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._loop.run_until_complete(coroutine)


async def _all(started: list[asyncio.Event]) -> None:
    for event in started:
        await event.wait()


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=_LAST)
