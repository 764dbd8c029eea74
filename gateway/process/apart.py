"""Work that is done in a child, with whose end goes whatever it has imported and had in memory."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from gateway.process.prctl import die_with

Outcome = dict[str, Any] | int  # of the work; a number where it gave none, see `Apart.outcome`
_AT_ONCE = 65_536  # bytes
_FAILED = 101
# For the others that a master acts on, and `systemctl kill` sends to all its processes, its handlers do nothing here.
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


class Apart:
    """A child that works from the moment this is made."""

    def __init__(self, work: Callable[[], Outcome], patience: float = 0.0) -> None:
        """`work` gives what JSON can write, or an exit code where it has said already what is wrong. It is ended after
        `patience` seconds; 0 for never. Raises OSError.
        """
        if signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN:  # inherited, and nobody would be told of an end
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        reading, writing = os.pipe()
        parent = os.getpid()
        try:
            self.pid = os.fork()
        except OSError:
            os.close(reading)
            os.close(writing)
            raise
        if not self.pid:
            os.close(reading)
            _be_child(work, patience, parent, writing)
        os.close(writing)
        self._reading = reading
        self._answer = bytearray()

    def fileno(self) -> int:
        """The descriptor that is readable when there is something to receive, and at its end."""
        return self._reading

    def receive(self) -> bool:
        """Wait for a part of what it says, and take it; False at the end."""
        part = os.read(self._reading, _AT_ONCE)
        self._answer += part
        return bool(part)

    def result(self) -> Outcome:
        """Wait for its end, and give what `work` gave, or as `outcome` a number."""
        while self.receive():
            pass
        _, status = os.waitpid(self.pid, 0)
        return self.outcome(os.waitstatus_to_exitcode(status))

    def outcome(self, code: int) -> Outcome:
        """What `work` gave, or `code` where it gave nothing. By that the child has ended, and somebody has waited for
        it: an exit code, or minus the number of a signal.
        """
        while self.receive():
            pass
        os.close(self._reading)
        if code or not self._answer:
            return code  # what one has said that failed may be half an answer
        given: dict[str, Any] = json.loads(self._answer)
        return given


def ending(code: int) -> str:
    """How a child has ended of which `Apart.outcome` is a number."""
    if code == -signal.SIGALRM:
        return "it took too long"
    return f"it was killed by signal {-code}" if code < 0 else f"it ended with status {code}"


def _be_child(work: Callable[[], Outcome], patience: float, parent: int, writing: int) -> NoReturn:
    code = _FAILED
    try:
        die_with(parent)
        signal.set_wakeup_fd(-1)
        for number in _ENDING:
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
