"""Stacks of threads, without what the gateway and the standard library have put below the application."""

from __future__ import annotations

import sys
import threading

from gateway.app.tracebacks import stack_of
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
