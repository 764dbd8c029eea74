"""Starts a task at once, up to where it waits for the first time: most requests are answered by then, and need no
further round of the event loop.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

_NAME = "request"  # of each task: numbers would be made for all of them

Start = Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"]


def starter(loop: asyncio.AbstractEventLoop) -> Start:
    """What starts tasks in `loop`; to be called from its callbacks, not from other tasks."""
    if sys.version_info >= (3, 12):
        return lambda coroutine: asyncio.Task(coroutine, loop=loop, name=_NAME, eager_start=True)
    return _Starter(loop).start


class _Starter:
    """Eager tasks for Python 3.11, as later ones have them: a new task asks the loop to call its first step soon, and
    that is called now; only one that waits then is registered as one that runs (`asyncio.all_tasks`).
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._attributes = vars(loop)
        self._registry: dict[str, Any] = vars(asyncio.tasks._all_tasks)  # type: ignore[assignment,attr-defined] # of 3.11
        self._step: Callable[[], object] = _nothing
        self._context: Context | None = None

    def start(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """See `starter`."""
        # Before what their classes have, which is untouched for everybody else.
        self._attributes["call_soon"] = self._take
        self._registry["add"] = id  # which does nothing
        try:
            task = asyncio.Task(coroutine, loop=self._loop, name=_NAME)
        finally:
            del self._attributes["call_soon"], self._registry["add"]
        assert self._context is not None
        self._context.run(self._step)
        if not task.done():
            asyncio.tasks._register_task(task)
        return task

    def _take(self, step: Callable[[], object], *, context: Context) -> None:
        self._step, self._context = step, context


def _nothing() -> None:
    """Stands for no step."""
