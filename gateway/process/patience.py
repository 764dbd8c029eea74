"""Importing that takes too long: raises where it hangs, shortly before the master gives up, who can only kill."""

from __future__ import annotations

import functools
import signal
from collections.abc import Callable
from typing import NoReturn, TypeVar

T = TypeVar("T")

_EARLIER = 1.0  # seconds before start_timeout: the interpreter has to start, and the traceback to reach the master
_EARLIER_SHARE = 0.2  # of a start_timeout that is shorter than 5 s


def in_time(load: Callable[[], T], start_timeout: float) -> Callable[[], T]:
    """`load`, to be called in the main thread, made to raise TimeoutError when it takes almost `start_timeout` seconds.

    C code that looks at no signals goes on, and is killed by the master in the end.
    """
    return functools.partial(_run, load, start_timeout)


def _run(load: Callable[[], T], start_timeout: float) -> T:
    def give_up(*_: object) -> NoReturn:
        raise TimeoutError(f"not done within start_timeout ({start_timeout:g} s)")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, start_timeout - min(_EARLIER, _EARLIER_SHARE * start_timeout))
    try:
        return load()
    finally:
        if signal.getsignal(signal.SIGALRM) is give_up:  # else both are the application's by now
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
