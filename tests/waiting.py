"""Waiting for conditions, each with a deadline, and ports to wait at."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(predicate: Callable[[], T], seconds: float = 10.0, what: str = "") -> T:
    """Return the first true value of `predicate`, which is asked about every 5 ms; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not (value := predicate()):
        if time.monotonic() > deadline:
            raise AssertionError(f"after {seconds:g} s still waiting for {what or predicate}")
        pause.wait(0.005)
    return value


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
