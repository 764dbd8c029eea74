"""A worker's part in deadlines: it writes its stacks when asked to, and raises RequestTimeout in its request.

Both are asked for by signals that nothing else uses: an application may have SIGUSR1 and SIGALRM for its own purposes.
"""

from __future__ import annotations

import faulthandler
import os
import signal
from collections.abc import Callable
from types import FrameType

from gateway.app.interruption import Interruption, RequestTimeout
from gateway.process.scoreboard import Row

WRITE_STACKS = int(signal.SIGRTMIN) + 8
INTERRUPT = int(signal.SIGRTMIN) + 9
_ERROR_LOG = 2
_GATEWAY = os.path.dirname(os.path.dirname(__file__)) + os.sep

OnSignal = Callable[[int, FrameType | None], None]


def obey(slowlog: int, terminate_timeout: float, on_interrupt: OnSignal) -> None:
    """Take the master's signals from here on. `slowlog` is a descriptor, or -1 for the error log.

    The master repeats INTERRUPT, which `on_interrupt` handles in the main thread, until the request is over.
    """
    # Written by the signal handler itself, in C: also while other C code runs or holds the GIL.
    faulthandler.register(WRITE_STACKS, file=slowlog if slowlog >= 0 else _ERROR_LOG, all_threads=True, chain=False)
    RequestTimeout.reason = f"it has run for longer than request_terminate_timeout ({terminate_timeout:g} s)"
    signal.signal(INTERRUPT, on_interrupt)


def is_between_steps(frame: FrameType | None) -> bool:
    """Say whether code of the gateway's own is at work in a request.

    Then the next step is microseconds away, and something may be half done, such as a body that was returned but not
    noted yet. Whoever is still there when the master asks again is code without Python frames that the gateway has
    called.
    """
    return frame is not None and frame.f_code.co_filename.startswith(_GATEWAY)


class Interrupter:
    """Raises RequestTimeout in the request that the master means, if that still runs in the main thread."""

    def __init__(self, row: Row, interruption: Interruption, on_raise: Callable[[], None]) -> None:
        """`on_raise` is called first."""
        self._row = row
        self._current = interruption
        self._on_raise = on_raise
        self._postponed = False

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Handle INTERRUPT."""
        if not self._current.allowed or not self._row.is_meant():
            self._postponed = False
        elif not self._postponed and is_between_steps(frame):
            self._postponed = True
        else:
            self._postponed = False
            self._on_raise()
            self._current.interrupt()
