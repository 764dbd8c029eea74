"""What a pool has seen since it was started, in the fields of PHP-FPM's status page and a few more."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from gateway.net.handover import State
from gateway.net.queue import QueueDepth
from gateway.process.handles import WorkerHandle
from gateway.process.lifecycle import SERVING, WorkerState
from gateway.process.policy import Worker
from gateway.process.recycling import most_memory, processor_time, resident_memory
from gateway.process.scoreboard import BOUNDS, Activity, Counts
from gateway.record import as_dict

ENDS = ("crashed", "idle", "recycled", "replaced", "stopped", "timeout")


class Statistics:
    """Counts that outlive the workers, and the highest values that were seen."""

    def __init__(self) -> None:
        self._started = time.time()
        self.before = Counts()  # of workers that have ended
        self._ended = Counter(dict.fromkeys(ENDS, 0))  # how many have, by cause
        self._max_active = 0
        self._max_queue = 0
        self._memory_peak = 0  # bytes, of any worker, as often as somebody has asked

    def hand_over(self) -> State:
        """Everything, for the master that goes on."""
        answers = [[host, name, count] for (host, name), count in self.before.answers.items()]
        return {
            "started": self._started,
            "before": as_dict(self.before) | {"answers": answers},
            "ended": self._ended,
            "max_active": self._max_active,
            "max_queue": self._max_queue,
            "memory_peak": self._memory_peak,
        }

    def take_over(self, state: State) -> None:
        """Go on counting from what was handed over."""
        answers = {(host, name): count for host, name, count in state["before"]["answers"]}
        self._started = state["started"]
        self.before = Counts(**state["before"] | {"answers": answers})
        self._ended.update(state["ended"])
        self._max_active, self._max_queue = state["max_active"], state["max_queue"]
        self._memory_peak = state["memory_peak"]

    def worker_ended(self, counts: Counts, cause: str) -> None:
        """Keep what an ended worker has counted, and the cause of its end, one of `ENDS`."""
        self.before.add(counts)
        self._ended[cause] += 1

    def sample(self, active: int, queued: int) -> None:
        """Take notice of how many workers are busy and how many connections wait."""
        self._max_active = max(self._max_active, active)
        self._max_queue = max(self._max_queue, queued)

    def status(
        self, handles: Mapping[int, WorkerHandle], workers: Mapping[int, Worker], queue: QueueDepth
    ) -> dict[str, Any]:
        """The pool's fields, by PHP-FPM's names with "_" for " ", and each thread's; the mappings are by slot."""
        activities = {slot: handle.activities() for slot, handle in sorted(handles.items())}
        active = sum(any(thread.busy for thread in threads) for threads in activities.values())
        serving = [threads for slot, threads in activities.items() if workers[slot].state in SERVING]
        self.sample(active, queue.waiting)
        counts = Counts()
        counts.add(self.before)
        for handle in handles.values():
            counts.add(handle.counts())
        rows = [
            row for slot, threads in activities.items() for row in _rows(handles[slot], workers[slot].state, threads)
        ]
        shown = [row["last_request_memory"] for row in rows]  # the kernel's two counts are not of one moment
        self._memory_peak = max(self._memory_peak, *shown, *(most_memory(handle.pid) for handle in handles.values()), 0)
        return {
            "start_time": round(self._started),
            "start_since": int(time.time() - self._started),
            "accepted_conn": counts.requests,
            "listen_queue": queue.waiting,
            "max_listen_queue": self._max_queue,
            "listen_queue_len": queue.limit,
            "idle_processes": sum(not any(thread.busy for thread in threads) for threads in serving),
            "active_processes": active,
            "max_active_processes": self._max_active,
            "total_processes": len(handles),
            "memory_peak": self._memory_peak,
            **_counted(counts),
            "ended": dict(self._ended),
            "workers": rows,
        }


def _counted(counts: Counts) -> dict[str, Any]:
    return {
        "shed": counts.shed,
        "gone": counts.gone,
        "requests": [{"host": host, "class": name, "count": n} for (host, name), n in sorted(counts.answers.items())],
        "run_time": _histogram(counts.run, counts.run_sum),
        "queue_wait": _histogram(counts.wait, counts.wait_sum),
        "log_lines_lost": counts.lost,
    }


def _histogram(buckets: list[int], total: float) -> dict[str, Any]:
    """Counts of the values up to each bound and over the one before, and the sum of all, in seconds."""
    return {"buckets": list(zip((*BOUNDS, "+Inf"), buckets, strict=True)), "sum": round(total, 6)}


def _rows(worker: WorkerHandle, state: WorkerState, threads: tuple[Activity, ...]) -> list[dict[str, Any]]:
    """A row for each thread of a worker."""
    since = time.monotonic() - worker.started
    memory, spent = resident_memory(worker.pid), processor_time(worker.pid)
    ran = sum(thread.ran + thread.busy * thread.seconds for thread in threads)
    share = (
        min(100.0, round(100 * spent / ran, 2)) if ran else 0.0
    )  # of all its requests: the last one's would cost them
    return [
        {
            "pid": worker.pid,
            "thread": number,
            "state": state.value if state is not WorkerState.READY else "busy" if found.busy else "idle",
            "generation": worker.generation,
            "start_time": round(time.time() - since),
            "start_since": int(since),
            "requests": found.requests,
            "method": found.method,
            "host": found.host,
            "uri": found.uri,
            "user": found.user,
            "script": found.application,
            "content_length": found.length,
            "seconds": round(found.seconds, 3),
            "request_duration": int((found.seconds if found.busy else found.lasted) * 1e6),
            "last_request_cpu": 0.0 if found.busy else share,
            "last_request_memory": 0 if found.busy else memory,
        }
        for number, found in enumerate(threads)
    ]
