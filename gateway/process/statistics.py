"""What a pool has seen since it was started, in the fields of PHP-FPM's status page."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from gateway.net.queue import QueueDepth
from gateway.process.handles import WorkerHandle
from gateway.process.lifecycle import SERVING, WorkerState
from gateway.process.policy import Worker
from gateway.process.scoreboard import Activity, Scoreboard


class Statistics:
    """Counts that outlive the workers, and the highest values that were seen."""

    def __init__(self) -> None:
        self._started = time.time()
        self._requests_before = 0  # of workers that have ended
        self._max_active = 0
        self._max_queue = 0

    def worker_ended(self, activity: Activity) -> None:
        """Keep what an ended worker has served; its slot will be another's."""
        self._requests_before += _requests(activity)

    def sample(self, active: int, queued: int) -> None:
        """Take notice of how many workers are busy and how many connections wait."""
        self._max_active = max(self._max_active, active)
        self._max_queue = max(self._max_queue, queued)

    def status(
        self, handles: Mapping[int, WorkerHandle], workers: Mapping[int, Worker], board: Scoreboard, queue: QueueDepth
    ) -> dict[str, Any]:
        """The pool's fields, and those of each of its workers; the mappings are by slot."""
        activities = {slot: board.read(slot).of(handles[slot].pid) for slot in sorted(handles)}
        serving = {slot for slot in activities if workers[slot].state in SERVING}
        others = activities.keys() - serving
        return {
            **self.fields((activities[slot] for slot in serving), (activities[slot] for slot in others), queue),
            "total_processes": len(activities),
            "workers": [_worker(handles[slot], workers[slot].state, found) for slot, found in activities.items()],
        }

    def fields(self, serving: Iterable[Activity], others: Iterable[Activity], queue: QueueDepth) -> dict[str, Any]:
        """The fields, by PHP-FPM's names with "_" for " "; `others` are workers that start or leave."""
        serving = tuple(serving)
        everyone = (*serving, *others)
        active = sum(activity.busy for activity in everyone)
        self.sample(active, queue.waiting)
        return {
            "start_time": round(self._started),
            "start_since": int(time.time() - self._started),
            "accepted_conn": self._requests_before + sum(map(_requests, everyone)),
            "listen_queue": queue.waiting,
            "max_listen_queue": self._max_queue,
            "listen_queue_len": queue.limit,
            "idle_processes": sum(not activity.busy for activity in serving),
            "active_processes": active,
            "max_active_processes": self._max_active,
        }


def _requests(activity: Activity) -> int:
    """Those that it has finished, and the one that it runs."""
    return activity.requests + activity.busy


def _worker(worker: WorkerHandle, state: WorkerState, activity: Activity) -> dict[str, Any]:
    shown = state.value if state is not WorkerState.READY else "busy" if activity.busy else "idle"
    return {
        "pid": worker.pid,
        "state": shown,
        "generation": worker.generation,
        "requests": activity.requests,
        "method": activity.method,
        "host": activity.host,
        "uri": activity.uri,
        "seconds": round(activity.seconds, 3),
    }
