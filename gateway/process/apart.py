"""Work that is done in a child, with whose end goes whatever it has imported and had in memory."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from gateway.process import signals
from gateway.process.prctl import die_with

_AT_ONCE = 65_536  # bytes
_FAILED = 101


class Apart:
    """A child that works from the moment this is made."""

    def __init__(self, work: Callable[[], dict[str, Any] | int], patience: float = 0.0) -> None:
        """`work` gives what JSON can write, or an exit code where it has said already what is wrong. It is ended after
        `patience` seconds; 0 for never. Raises OSError.
        """
        if signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN:  # inherited, and nobody would be told of an end
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        reading, writing = os.pipe()
        parent = os.getpid()
        self._pid = os.fork()
        if not self._pid:
            os.close(reading)
            _be_child(work, patience, parent, writing)
        os.close(writing)
        self._reading = reading

    def result(self) -> dict[str, Any] | int:
        """Wait for its end, and give what `work` gave; minus the number of a signal that has ended it before."""
        with open(self._reading, "rb", buffering=_AT_ONCE) as file:
            answer = file.read()
        _, status = os.waitpid(self._pid, 0)
        code = os.waitstatus_to_exitcode(status)
        if code or not answer:
            return code  # what one has said that failed may be half an answer
        given: dict[str, Any] = json.loads(answer)
        return given


def ending(code: int) -> str:
    """How a child has ended by which `Apart.result` is a number."""
    if code == -signal.SIGALRM:
        return "it took too long"
    return f"it was killed by signal {-code}" if code < 0 else f"it ended with status {code}"


def _be_child(work: Callable[[], dict[str, Any] | int], patience: float, parent: int, writing: int) -> NoReturn:
    code = _FAILED
    try:
        die_with(parent)
        signal.set_wakeup_fd(-1)
        for number in signals.CAUGHT:
            signal.signal(number, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, patience)
        given = work()
        if isinstance(given, int):
            code = given
        else:
            with open(writing, "wb") as file:
                file.write(json.dumps(given).encode())
            code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
        finally:
            os._exit(code)
