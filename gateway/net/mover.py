"""Watches that no connection waits behind another's long request: a timer of the kernel's (timerfd_create(2)), which
ticks while requests come, and a thread that looks at each tick whether the same request runs as at the one before.
"""

from __future__ import annotations

import _thread
import ctypes
import os
import sys
import threading
import time
from collections.abc import Callable

_TICK = 3_000_000  # ns: a request that is seen at two of them runs too long for others to wait for its worker
SHORTEST = (
    _TICK // 2
)  # ns that such a request has run at least: a thread may come late to a tick, and early to the next
_IDLE_TICKS = 10  # in a row without a request, after which the timer rests
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
_TICKING = ctypes.byref(_Times(0, _TICK, 0, _TICK))
_RESTING = ctypes.byref(_Times(0, 0, 0, 0))


class Mover:
    """Calls `move` in a thread of its own when a request of this worker has run for some milliseconds.

    `running` is what the request that runs is told from others by, or None; whoever sets it sees to it that the timer
    is `armed`. The thread begins with the first request that is watched: a worker that keeps no connections has none.
    """

    def __init__(self, move: Callable[[], None]) -> None:
        self.running: object = None
        self.armed = False
        self.moving = False  # the thread calls `move`, or looks whether it has to
        self._move = move
        self._lock = threading.Lock()
        self._timer = -1

    @classmethod
    def create(cls, move: Callable[[], None]) -> Mover | None:
        """None where the system has no such timers: there a connection may wait."""
        return cls(move) if sys.platform == "linux" else None

    def begin(self, request: object) -> None:
        """A request begins that others may have to wait for. Raises OSError."""
        self.running = request
        if not self.armed:
            self.arm()

    def end(self) -> None:
        """It is over: `move` is not being called from here on."""
        self.running = None
        if self.moving:  # or about to look whether it is to: it finds nothing then
            with self._lock:
                pass

    def arm(self) -> None:
        """Let the timer tick. Raises OSError."""
        if self._timer < 0:
            self._start()
        self.armed = True
        _libc.timerfd_settime(self._timer, 0, _TICKING, None)

    def _start(self) -> None:
        timer = _libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_CLOEXEC)
        if timer < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")
        self._timer = timer
        _thread.start_new_thread(self._run, ())  # a tenth of the code of threading.Thread, which each worker would run

    def _run(self) -> None:
        seen: object = None
        since = idle = 0
        while True:
            os.read(self._timer, 8)  # ended by nothing but the process
            now = time.monotonic_ns()
            with self._lock:
                self.moving = True
                running = self.running
                if running is not seen:
                    seen, since = running, now
                elif running is not None and now - since >= SHORTEST:
                    self._move()
                self.moving = False
            idle = idle + 1 if running is None else 0
            if idle == _IDLE_TICKS:
                idle = 0
                self._rest()

    def _rest(self) -> None:
        _libc.timerfd_settime(self._timer, 0, _RESTING, None)
        self.armed = False
        if self.running is not None:  # it has begun before that was to be seen
            self.arm()
