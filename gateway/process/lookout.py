"""What the master sees of a pool: the activities of its workers, what waits, and who is over a limit or a deadline."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from gateway import log
from gateway.net.handover import Keep, State
from gateway.net.kept import KeptQueue
from gateway.net.listeners import Listener
from gateway.net.queue import QueueAge, QueueDepth, QueueGauge
from gateway.process.deadlines import Deadlines
from gateway.process.handles import Loop, WorkerHandle
from gateway.process.lifecycle import SERVING
from gateway.process.policy import PoolPolicy, Worker
from gateway.process.recycling import Limits
from gateway.process.scaling import Load
from gateway.process.scoreboard import Scoreboard
from gateway.process.statistics import Statistics
from gateway.settings import Pool, ProcessManager

_OFTEN = 100  # ms between two looks at a pool that may have to grow, shrink, replace workers or turn requests away
_RARELY = 1_000  # ms for the others, for the statistics alone
_BETWEEN_WARNINGS = 10.0  # seconds


class Lookout:
    """Looks at one pool."""

    def __init__(self, name: str, loop: Loop, kept: KeptQueue) -> None:
        """A pool without settings, until `take_up`."""
        self._name = name
        self._kept = kept
        self._gauge = QueueGauge([])
        self._age = QueueAge()
        self._accepted_before = 0  # by workers of generations that have ended
        self._statistics = Statistics()
        self._turned_away = _Warning()
        self._too_few = _Warning()
        self.deadlines = Deadlines(name, loop)

    def take_up(self, pool: Pool, listeners: Sequence[Listener]) -> None:
        """Go by these settings, and look at these queues, from here on."""
        self._pool = pool
        self.limits = Limits(pool)
        self.deadlines.use(pool)
        self.close()
        self._gauge = QueueGauge([listener.socket for listener in listeners])

    @property
    def pace(self) -> int:
        """Milliseconds between two looks."""
        hurried = (
            self._pool.pm is not ProcessManager.STATIC
            or self.limits.any
            or self.deadlines.any
            or self._pool.queue_timeout
        )
        return _OFTEN if hurried else _RARELY

    def queue(self) -> QueueDepth:
        """What waits for a worker."""
        return self._gauge.read().plus(self._kept.waiting())

    def look(self, workers: Mapping[int, WorkerHandle], policy: PoolPolicy, ceiling: int, lacking: int) -> Load:
        """See what the workers do, by slot; `ceiling` and `lacking` are of process_max (`Load`)."""
        states = policy.workers
        busy = free = turned_away = 0
        idle: dict[int, int] = {}
        expired: list[int] = []
        for slot, worker in workers.items():
            activities = worker.activities()
            turned_away += sum(activity.shed for activity in activities)
            if states[slot].state not in SERVING:
                continue
            running = sum(activity.busy for activity in activities)
            busy += running > 0
            if running:
                free += len(activities) - running
            else:
                idle[slot] = int(min(activity.seconds for activity in activities) * 1000)
            if limit := self.limits.exceeded(worker, sum(activity.requests for activity in activities)):
                worker.over = limit
                expired.append(slot)
        self._warn(turned_away + self._statistics.before.shed, policy.max_children_reached)
        queued = self.queue().waiting
        self._statistics.sample(busy, queued)
        return Load(busy, idle, queued, expired, ceiling, lacking, free=free, threads=self._pool.threads)

    def expire(self, boards: Collection[Scoreboard], now: int) -> None:
        """Let the workers know which of the waiting connections are older than queue_timeout, as far as that is sure.

        `now` in milliseconds. During a reload two generations take connections, and nobody knows which took which.
        """
        if not self._pool.queue_timeout:
            return
        accepted = {board: board.accepted() for board in boards}
        before = sum(accepted.values()) + self._accepted_before
        self._age.sample(now, before, self._gauge.read().waiting)
        stale = self._age.arrived_before(now - int(self._pool.queue_timeout * 1000))
        for board, count in accepted.items():
            board.expire(max(0, stale - before + count) if len(accepted) == 1 and stale > before else 0)

    def generation_ended(self, board: Scoreboard) -> None:
        """Keep what is still to be known of a scoreboard that is about to be closed."""
        self._accepted_before += board.accepted()

    def worker_ended(self, worker: WorkerHandle, cause: str) -> None:
        """Keep what a worker has counted, and what it ended of."""
        self._statistics.worker_ended(worker.counts(), cause)
        worker.board.leave(worker.slot)

    def lose_line(self) -> None:
        """The access log has not taken a line of the master's."""
        self._statistics.before.lost += 1

    def hand_over(self, keep: Keep) -> State:
        """What the master that goes on has to know: counts, and the slow log's pipe."""
        return {
            "statistics": self._statistics.hand_over(),
            "accepted_before": self._accepted_before,
            "slow_requests": self.deadlines.slow_requests,
            "slowlog": self.deadlines.slowlog.hand_over(keep),
        }

    def take_over(self, state: State) -> None:
        """See `net.handover`."""
        self._statistics.take_over(state["statistics"])
        self._accepted_before = state["accepted_before"]
        self.deadlines.slow_requests = state["slow_requests"]
        self.deadlines.slowlog.take_over(state["slowlog"])

    def status(self, workers: Mapping[int, WorkerHandle], states: Mapping[int, Worker]) -> dict[str, Any]:
        """The pool's fields of the status."""
        fields = self._statistics.status(workers, states, self.queue())
        return {**fields, "slow_requests": self.deadlines.slow_requests}

    def close(self) -> None:
        """Look at the listen queues no longer."""
        self._gauge.close()
        self._gauge = QueueGauge([])

    def _warn(self, turned_away: int, max_children_reached: int) -> None:
        if count := self._turned_away.due(turned_away):
            reason = f"waited for longer than queue_timeout ({self._pool.queue_timeout:g} s), answered 503"
            log.line(f"pool {self._name}: {count} requests {reason}", log.Level.WARNING)
        if self._too_few.due(max_children_reached):
            reached = f"max_children ({self._pool.max_children}) is reached: more workers are needed"
            log.line(f"pool {self._name}: {reached}", log.Level.WARNING)


class _Warning:
    """A line of the log for what is counted, but not for each."""

    def __init__(self) -> None:
        self._when = float("-inf")
        self._known = 0

    def due(self, count: int) -> int:
        """How many have come since the last line, if one is due now."""
        now = time.monotonic()
        if count <= self._known or now < self._when + _BETWEEN_WARNINGS:
            return 0
        new, self._known, self._when = count - self._known, count, now
        return new
