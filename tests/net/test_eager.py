"""Tasks that begin at once, in both event loops."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvloop

from gateway.net.eager import Start, starter

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="")


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop])
def loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
    loop: asyncio.AbstractEventLoop = request.param()
    yield loop
    loop.close()


def within(loop: asyncio.AbstractEventLoop, function: Callable[[Start], Any]) -> Any:
    """Call it in a callback of the loop, and run that until what it returns, if that is a task, has ended."""
    found: list[Any] = []
    start = starter(loop)

    def call() -> None:
        try:
            found.append(function(start))
        finally:
            loop.stop()

    loop.call_soon(call)
    loop.run_forever()
    [value] = found
    if isinstance(value, asyncio.Task):
        loop.run_until_complete(value)
    return value


def test_what_need_not_wait_is_done_at_once(loop: asyncio.AbstractEventLoop) -> None:
    done: list[object] = []

    async def work() -> None:
        done.append(asyncio.current_task())

    def begin(start: Start) -> bool:
        task = start(work())
        return task.done() and done == [task] and not asyncio.all_tasks(loop)

    assert within(loop, begin) is True


def test_what_waits_goes_on_as_a_task(loop: asyncio.AbstractEventLoop) -> None:
    done: list[str] = []

    async def work() -> None:
        VARIABLE.set("of the task")
        async with asyncio.timeout(5):
            await asyncio.sleep(0)
            done.append(VARIABLE.get())

    def begin(start: Start) -> asyncio.Task[None]:
        task = start(work())
        assert asyncio.all_tasks(loop) == {task}
        assert done == []
        assert VARIABLE.get() == ""
        return task

    within(loop, begin)
    assert done == ["of the task"]


def test_task_can_be_cancelled(loop: asyncio.AbstractEventLoop) -> None:
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")

    def begin(start: Start) -> asyncio.Task[None]:
        task = start(work())
        task.cancel()
        return task

    within(loop, begin)
    assert ended == ["cancelled"]


def test_the_loop_is_as_it_was(loop: asyncio.AbstractEventLoop) -> None:
    async def work() -> None: ...

    within(loop, lambda start: start(work()))
    assert "call_soon" not in vars(loop)
