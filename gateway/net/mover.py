"""Watches that no connection waits behind another's long request: a timer of the kernel's, and a thread that waits for
it and takes no part otherwise (timerfd_create(2)).
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable

_PATIENCE = 3_000_000  # ns that a request may run before others stop waiting for its worker
_CLOCK_MONOTONIC = 1  # <time.h>
_TFD_CLOEXEC = 0o2000000  # <sys/timerfd.h>


class _Times(ctypes.Structure):
    """struct itimerspec: interval and value, each in seconds and nanoseconds."""

    _fields_ = (
        ("interval", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    )


_libc = ctypes.PyDLL(None, use_errno=True)  # called without letting go of the GIL: these calls never wait
_FROM_NOW = ctypes.byref(_Times(0, 0, 0, _PATIENCE))


class Mover:
    """Calls `move` in a thread of its own when a request of this worker has run for some milliseconds.

    The thread begins with the first request that is watched, so a worker that keeps no connections has none.
    """

    def __init__(self, move: Callable[[], None]) -> None:
        self._move = move
        self._lock = threading.Lock()
        self._running = False
        self._timer = -1

    @classmethod
    def create(cls, move: Callable[[], None]) -> Mover | None:
        """None where the system has no such timers: there a connection may wait."""
        return cls(move) if sys.platform == "linux" else None

    def begin(self) -> None:
        """A request begins that others may have to wait for. Raises OSError."""
        if self._timer < 0:
            self._start()
        self._running = True
        _libc.timerfd_settime(self._timer, 0, _FROM_NOW, None)

    def end(self) -> None:
        """It is over: `move` is not being called from here on."""
        if self._running:
            with self._lock:
                self._running = False

    def _start(self) -> None:
        timer = _libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_CLOEXEC)
        if timer < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")
        self._timer = timer
        threading.Thread(target=self._run, name="gateway-mover", daemon=True).start()

    def _run(self) -> None:
        while True:
            os.read(self._timer, 8)  # ended by nothing but the process
            with self._lock:
                if self._running:
                    self._move()
