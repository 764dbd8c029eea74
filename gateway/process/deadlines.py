"""The master's part in deadlines: it finds requests that run too long, and takes three steps against each.

At `request_slowlog_timeout` the slow log gets a line, and the worker's stacks below it; at `request_terminate_timeout`
the worker is asked to raise RequestTimeout, again at every look; within another second it is killed, or within two
where it has several threads, and may still leave one of them behind (`requestthread`).
"""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping

from gateway import log
from gateway.process.handles import Loop, WorkerHandle
from gateway.process.interrupting import INTERRUPT, WRITE_STACKS
from gateway.process.scoreboard import Activity
from gateway.process.slowlog import SlowLog
from gateway.record import Record
from gateway.settings import Pool

_NOT_SOON = 1 << 62
_LOOK_AGAIN = 10  # ms, while several requests are to be written to the slow log
_PATIENCE, _PATIENCE_WITH_THREADS = 0.8, 1.8  # seconds from the first interruption to SIGKILL, and a look more
_STUCK = 0.3  # seconds over its deadline at which a worker that looks itself is known not to do so
_LEFT = "exited with status 0"


class _Overdue(Record, frozen=False):
    """A request that has run for longer than one of the deadlines."""

    pid: int
    thread: int
    requests: int  # that its thread had answered before it
    reported: bool = False
    asked: float = 0.0  # time.monotonic() of the first interruption


class Deadlines:
    """The deadlines of one pool's requests."""

    def __init__(self, name: str, loop: Loop) -> None:
        """A pool without deadlines, until `use`."""
        self.slowlog = SlowLog(loop)
        self.any = False
        self.slow_requests = 0
        self._name = name
        self._slow = self._terminate = 0.0  # seconds; 0 for never
        self._earliest = 0.0  # of the two
        self._overdue: dict[tuple[int, int], _Overdue] = {}  # by slot and thread
        self._killed: dict[int, int] = {}  # process IDs, by slot

    def use(self, pool: Pool) -> None:
        """Go by these settings from here on."""
        self._slow = pool.request_slowlog_timeout
        self._terminate = pool.request_terminate_timeout
        self.any = bool(self._slow or self._terminate)
        self._earliest = min(filter(None, (self._slow, self._terminate)), default=0.0)
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
            for thread, activity in enumerate(worker.activities()):
                if not activity.busy or activity.seconds < self._earliest:
                    continue
                if worker.keeps_deadlines:
                    self._look_at_stuck(worker, activity)
                    continue
                overdue = self._note(worker, thread, activity)
                if self._slow and activity.seconds >= self._slow and not overdue.reported:
                    unreported.append((worker, activity, overdue))
                if self._terminate and activity.seconds >= self._terminate:
                    self._end(worker, activity, overdue)
        if unreported:
            self._report(*unreported[0])
        return _LOOK_AGAIN if len(unreported) > 1 else _NOT_SOON

    def note_slow(self, worker: WorkerHandle, text: str) -> None:
        """Write what a worker that looks itself says of a slow request: a line, and its stack."""
        self.slow_requests += 1
        line, _, stack = text.partition("\n")
        self.slowlog.line(f"pool {self._name}: worker {worker.pid}: {line}")
        self.slowlog.lines(stack)

    def _look_at_stuck(self, worker: WorkerHandle, activity: Activity) -> None:
        """A worker that looks itself would have ended this request: its event loop is held up by code that blocks."""
        late = activity.seconds - self._terminate
        if not self._terminate or late < _STUCK:
            return
        overdue = self._note(worker, 0, activity)
        if not overdue.reported:
            self._report(worker, activity, overdue)
        if late >= _PATIENCE:
            self._kill(worker, overdue)

    def explains(self, worker: WorkerHandle, status: str) -> bool:
        """Say whether a worker has ended because of a request that took too long, which is in the log already."""
        of_slot = [self._overdue.pop(key) for key in list(self._overdue) if key[0] == worker.slot]
        of_worker = [overdue for overdue in of_slot if overdue.pid == worker.pid]
        killed = self._killed.pop(worker.slot, None) == worker.pid
        return killed or (status == _LEFT and any(overdue.asked for overdue in of_worker))

    def _note(self, worker: WorkerHandle, thread: int, activity: Activity) -> _Overdue:
        """What was done about this very request so far."""
        overdue = self._overdue.get((worker.slot, thread))
        if overdue is None or (overdue.pid, overdue.requests) != (activity.pid, activity.requests):
            overdue = self._overdue[worker.slot, thread] = _Overdue(activity.pid, thread, activity.requests)
        return overdue

    def _report(self, worker: WorkerHandle, activity: Activity, overdue: _Overdue) -> None:
        overdue.reported = True
        self.slow_requests += 1
        line = f"pool {self._name}: worker {worker.pid}: slow: {_describe(activity)}"
        self.slowlog.line(line)
        worker.signal(WRITE_STACKS)

    def _end(self, worker: WorkerHandle, activity: Activity, overdue: _Overdue) -> None:
        if self._killed.get(worker.slot) == worker.pid:
            return
        now = time.monotonic()
        if not overdue.asked:
            overdue.asked = now
        if now < overdue.asked + (_PATIENCE_WITH_THREADS if worker.board.layout.threads > 1 else _PATIENCE):
            worker.board.mean(worker.slot, overdue.thread, activity.requests)
            worker.signal(INTERRUPT)
        else:
            self._kill(worker, overdue)

    def _kill(self, worker: WorkerHandle, overdue: _Overdue) -> None:
        """Kill the worker, unless the request was over when it stopped."""
        worker.signal(signal.SIGSTOP)
        activities = worker.activities()
        activity = activities[overdue.thread]
        if not activity.busy or activity.requests != overdue.requests:
            worker.signal(signal.SIGCONT)
            return
        self._killed[worker.slot] = worker.pid
        worker.signal(signal.SIGKILL)
        requests = [_describe(found) for found in activities if found.busy and found.seconds >= self._terminate]
        reason = f"request_terminate_timeout ({self._terminate:g} s) could not end {', '.join(requests)}"
        log.line(f"pool {self._name}: worker {worker.pid} killed: {reason}", log.Level.ERROR)


def _describe(activity: Activity) -> str:
    return f"{activity.method} {activity.host}{activity.uri} after {activity.seconds:.1f} s"
