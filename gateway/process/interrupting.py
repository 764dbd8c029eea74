"""A worker's part in deadlines: it writes its stacks when asked to, and raises RequestTimeout in its request.

Both are asked for by signals that nothing else uses: an application may have SIGUSR1 and SIGALRM for its own purposes.
"""

from __future__ import annotations

import faulthandler
import os
import signal
from types import FrameType

from gateway.app.interruption import Interruption
from gateway.process.scoreboard import Row

WRITE_STACKS = int(signal.SIGRTMIN) + 8
INTERRUPT = int(signal.SIGRTMIN) + 9
_ERROR_LOG = 2
_GATEWAY = os.path.dirname(os.path.dirname(__file__)) + os.sep


def obey(row: Row, slowlog: int, terminate_timeout: float) -> Interruption:
    """Take the master's signals from here on. `slowlog` is a descriptor, or -1 for the error log.

    Return what the main thread's requests are interrupted by.
    """
    # Written by the signal handler itself, in C: also while other C code runs or holds the GIL.
    faulthandler.register(WRITE_STACKS, file=slowlog if slowlog >= 0 else _ERROR_LOG, all_threads=True, chain=False)
    interruption = Interruption()
    signal.signal(INTERRUPT, _Interrupter(row, interruption, terminate_timeout).on_signal)
    return interruption


class _Interrupter:
    """Raises RequestTimeout in the request that the master means, if that still runs."""

    def __init__(self, row: Row, interruption: Interruption, terminate_timeout: float) -> None:
        self._row = row
        self._current = interruption
        self._reason = f"it has run for longer than request_terminate_timeout ({terminate_timeout:g} s)"
        self._postponed = False

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Handle INTERRUPT, which the master repeats until the request is over."""
        if not self._current.allowed or not self._row.is_meant():
            self._postponed = False
            return
        # Between two steps of the gateway's own the next step is microseconds away, and something may be half done,
        # such as a body that was returned but not noted yet. Whoever is still there when the master asks again is
        # code without Python frames that the gateway has called.
        if not self._postponed and frame is not None and frame.f_code.co_filename.startswith(_GATEWAY):
            self._postponed = True
            return
        self._postponed = False
        self._current.interrupt(self._reason)
