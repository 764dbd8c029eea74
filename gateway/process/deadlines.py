"""The master's part in deadlines: it finds requests that run too long, and takes three steps against each.

At `request_slowlog_timeout` the slow log gets a line, and the worker's stacks below it; at `request_terminate_timeout`
the worker is asked to raise RequestTimeout, again at every look; a second later it is killed.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass

from gateway import log
from gateway.process.handles import Loop, WorkerHandle
from gateway.process.interrupting import INTERRUPT, WRITE_STACKS
from gateway.process.scoreboard import Activity
from gateway.process.slowlog import SlowLog
from gateway.settings import Pool

_NOT_SOON = 1 << 62
_LOOK_AGAIN = 10  # ms, while several requests are to be written to the slow log
_PATIENCE = 1.0  # seconds from the first interruption to SIGKILL
_LEFT = "exited with status 0"


@dataclass(slots=True)
class _Overdue:
    """A request that has run for longer than one of the deadlines."""

    pid: int
    requests: int  # that its worker had answered before it
    reported: bool = False
    asked: float = 0.0  # time.monotonic() of the first interruption
    killed: bool = False


class Deadlines:
    """The deadlines of one pool's requests."""

    def __init__(self, name: str, loop: Loop) -> None:
        """A pool without deadlines, until `use`."""
        self.slowlog = SlowLog(loop)
        self.any = False
        self.slow_requests = 0
        self._name = name
        self._slow = self._terminate = 0.0  # seconds; 0 for never
        self._overdue: dict[int, _Overdue] = {}  # by slot

    def use(self, pool: Pool) -> None:
        """Go by these settings from here on."""
        self._slow = pool.request_slowlog_timeout
        self._terminate = pool.request_terminate_timeout
        self.any = bool(self._slow or self._terminate)
        if error := self.slowlog.use(pool.slowlog):
            log.line(f"pool {self._name}: slow log: {error}", log.Level.ERROR)

    def look(self, workers: Mapping[int, WorkerHandle]) -> int:
        """Take the steps that are due; return within how many milliseconds to look again.

        One slow request at a time is written down: stacks that several workers write at once would be mixed.
        """
        unreported = []
        if not self.any:
            return _NOT_SOON
        for worker in workers.values():
            [activity] = worker.activities()
            if not activity.busy:
                continue
            if self._slow and activity.seconds >= self._slow and not self._note(worker, activity).reported:
                unreported.append((worker, activity))
            if self._terminate and activity.seconds >= self._terminate:
                self._end(worker, activity)
        if unreported:
            self._report(*unreported[0])
        return _LOOK_AGAIN if len(unreported) > 1 else _NOT_SOON

    def explains(self, worker: WorkerHandle, status: str) -> bool:
        """Say whether a worker has ended because of a request that took too long, which is in the log already."""
        overdue = self._overdue.pop(worker.slot, None)
        if overdue is None or overdue.pid != worker.pid:
            return False
        return overdue.killed or (overdue.asked > 0 and status == _LEFT)

    def _note(self, worker: WorkerHandle, activity: Activity) -> _Overdue:
        """What was done about this very request so far."""
        overdue = self._overdue.get(worker.slot)
        if overdue is None or (overdue.pid, overdue.requests) != (activity.pid, activity.requests):
            overdue = self._overdue[worker.slot] = _Overdue(activity.pid, activity.requests)
        return overdue

    def _report(self, worker: WorkerHandle, activity: Activity) -> None:
        self._note(worker, activity).reported = True
        self.slow_requests += 1
        line = f"pool {self._name}: worker {worker.pid}: slow: {_describe(activity)}"
        self.slowlog.line(line)
        worker.signal(WRITE_STACKS)

    def _end(self, worker: WorkerHandle, activity: Activity) -> None:
        overdue = self._note(worker, activity)
        now = time.monotonic()
        if overdue.killed:
            return
        if not overdue.asked:
            overdue.asked = now
        if now < overdue.asked + _PATIENCE:
            worker.board.mean(worker.slot, 0, activity.requests)
            worker.signal(INTERRUPT)
        else:
            self._kill(worker, overdue)

    def _kill(self, worker: WorkerHandle, overdue: _Overdue) -> None:
        """Kill the worker, unless the request was over when it stopped."""
        worker.signal(signal.SIGSTOP)
        [activity] = worker.activities()
        if not activity.busy or activity.requests != overdue.requests:
            worker.signal(signal.SIGCONT)
            return
        overdue.killed = True
        worker.signal(signal.SIGKILL)
        reason = f"request_terminate_timeout ({self._terminate:g} s) could not end {_describe(activity)}"
        log.line(f"pool {self._name}: worker {worker.pid} killed: {reason}", log.Level.ERROR)


def _describe(activity: Activity) -> str:
    return f"{activity.method} {activity.host}{activity.uri} after {activity.seconds:.1f} s"
