"""Stacks of threads, without what the gateway and the standard library have put below the application."""

from __future__ import annotations

import asyncio
import sys
import threading
import types
from collections.abc import Generator
from typing import Any

from gateway.app.tracebacks import stack_of, stack_of_coroutine
from tests.waiting import wait_until


def test_the_stack_of_another_thread_begins_with_what_it_was_given() -> None:
    going_on = threading.Event()

    def application() -> None:
        going_on.wait(20)

    thread = threading.Thread(target=application)
    thread.start()
    assert thread.ident is not None
    wait_until(lambda: "going_on.wait" in stack_of(sys._current_frames()[thread.ident or 0]))
    stack = stack_of(sys._current_frames()[thread.ident])
    going_on.set()
    thread.join()
    assert stack.splitlines()[0].endswith("in application")


def test_the_stack_of_a_coroutine_goes_down_to_what_it_waits_for() -> None:
    @types.coroutine
    def waits() -> Generator[Any, None, None]:
        yield

    async def asks() -> None:
        await waits()

    async def application() -> None:
        await asks()

    running = application()
    running.send(None)
    names = [line.rsplit(" ", 1)[1] for line in stack_of_coroutine(running).splitlines() if line.startswith("  File")]
    assert names == ["application", "asks", "waits"]
    running.close()
    assert stack_of_coroutine(running) == stack_of_coroutine(None) == stack_of_coroutine(object()) == ""


def test_the_stack_of_a_task_that_waits_for_a_future() -> None:
    async def run() -> str:
        async def application() -> None:
            await asyncio.get_running_loop().create_future()

        task = asyncio.create_task(application())
        await asyncio.sleep(0)
        stack = stack_of_coroutine(task.get_coro())
        task.cancel()
        return stack

    assert asyncio.run(run()).splitlines()[0].endswith("in application")
