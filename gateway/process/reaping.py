"""Children that have ended: the pools' own, and orphans that came to the subreaper."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator


def reap(owns: Callable[[int], bool]) -> Iterator[tuple[int, int]]:
    """Wait for each child that has ended; yield its process ID, and its exit code or minus the signal that killed it.

    What one that is owned has started ends with it, unless it has exited with 0.
    """
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None:
            return
        if (code := _code(ended)) and owns(ended.si_pid):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(ended.si_pid, signal.SIGKILL)  # the number is its own until it is reaped
        os.waitid(os.P_PID, ended.si_pid, os.WEXITED)
        yield ended.si_pid, code


def _code(ended: os.waitid_result) -> int:
    return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status


def described(code: int) -> str:
    """How a process has ended, for the log."""
    return f"was killed by signal {-code}" if code < 0 else f"exited with status {code}"
