"""What the end of a worker means: its cause, and the requests that it had not answered."""

from __future__ import annotations

import time
from collections.abc import Sequence

from gateway.app.accessformat import Entry
from gateway.process.deadlines import Deadlines
from gateway.process.handles import WorkerHandle
from gateway.process.lifecycle import WorkerState
from gateway.process.policy import Phase, PoolPolicy
from gateway.process.scoreboard import Activity

_TIMEOUT = 504  # of a request that was ended by its deadline
_LOST = 502  # of one whose worker has ended for another reason: what the front-end answers


def cause_of_end(worker: WorkerHandle, status: str, policy: PoolPolicy, deadlines: Deadlines) -> str:
    """What a worker has ended of: one of `statistics.ENDS`."""
    if deadlines.explains(worker, status):
        return "timeout"
    if policy.workers[worker.slot].state not in (WorkerState.LEAVING, WorkerState.KILLED):
        return "crashed"
    if policy.phase is not Phase.RUNNING:
        return "stopped"
    current = policy.current
    if current is not None and worker.generation != current.number:
        return "replaced"
    return "recycled" if worker.over else "idle"


def during(activities: Sequence[Activity]) -> str:
    """What a worker was doing, for the line about its end."""
    running = [f"{found.method} {found.host}{found.uri}" for found in activities if found.busy]
    return f" during {', '.join(running)}" if running else ""


def unanswered(activities: Sequence[Activity], terminate_timeout: float, parent: int) -> list[Entry]:
    """What the access log is to say of the requests that a worker had when it ended, which wrote no line itself.

    `terminate_timeout` in seconds, 0 for none; `parent` is the worker's.
    """
    return [_entry(found, terminate_timeout, parent) for found in activities if found.busy]


def _entry(activity: Activity, terminate_timeout: float, parent: int) -> Entry:
    params = {
        "REQUEST_METHOD": activity.method,
        "HTTP_HOST": activity.host,
        "REQUEST_URI": activity.uri,
        "QUERY_STRING": activity.uri.partition("?")[2],
        "REMOTE_ADDR": activity.address,
        "REMOTE_USER": activity.user,
        "CONTENT_LENGTH": str(activity.length or ""),
        "gateway.application": activity.application,
    }
    status = _TIMEOUT if 0 < terminate_timeout <= activity.seconds else _LOST
    began = time.time() - activity.seconds
    return Entry(params, status, False, b"", 0, began, activity.seconds, (0.0, 0.0), activity.pid, parent)
