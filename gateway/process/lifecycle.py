"""The life of a worker as the master sees it, a table of state x event, and the vocabulary of a pool's actions."""

from __future__ import annotations

import enum

from gateway.record import Record


class WorkerState(enum.Enum):
    """What a worker is doing, for its pool."""

    STARTING = "starting"  # asked for, not READY yet
    READY = "ready"
    RETIRING = "retiring"  # serves until its replacement is READY
    LEAVING = "leaving"  # told to finish what it has, or doing so by itself
    KILLED = "killed"  # signalled, not reaped yet


class WorkerEvent(enum.Enum):
    """What can happen to a worker, short of its end."""

    SERVES = "serves"  # it says READY
    EXPIRES = "expires"  # it is over a limit and is to be replaced
    LEAVES = "leaves"  # it says that it leaves by itself
    DISMISSED = "dismissed"  # it is not needed any more
    ENDED = "ended"  # the pool stops at once
    OVERDUE = "overdue"  # its deadline has passed


_S, _E = WorkerState, WorkerEvent

TRANSITIONS: dict[WorkerState, dict[WorkerEvent, WorkerState]] = {
    _S.STARTING: {
        _E.SERVES: _S.READY,
        _E.EXPIRES: _S.STARTING,
        _E.LEAVES: _S.STARTING,
        _E.DISMISSED: _S.LEAVING,
        _E.ENDED: _S.KILLED,
        _E.OVERDUE: _S.KILLED,
    },
    _S.READY: {
        _E.SERVES: _S.READY,
        _E.EXPIRES: _S.RETIRING,
        _E.LEAVES: _S.LEAVING,
        _E.DISMISSED: _S.LEAVING,
        _E.ENDED: _S.KILLED,
        _E.OVERDUE: _S.READY,
    },
    _S.RETIRING: {
        _E.SERVES: _S.RETIRING,
        _E.EXPIRES: _S.RETIRING,
        _E.LEAVES: _S.LEAVING,
        _E.DISMISSED: _S.LEAVING,
        _E.ENDED: _S.KILLED,
        _E.OVERDUE: _S.RETIRING,
    },
    _S.LEAVING: {
        _E.SERVES: _S.LEAVING,
        _E.EXPIRES: _S.LEAVING,
        _E.LEAVES: _S.LEAVING,
        _E.DISMISSED: _S.LEAVING,
        _E.ENDED: _S.KILLED,
        _E.OVERDUE: _S.KILLED,
    },
    _S.KILLED: dict.fromkeys(_E, _S.KILLED),
}

SERVING = frozenset({_S.READY, _S.RETIRING})
STAYING = frozenset({_S.STARTING, _S.READY, _S.RETIRING})  # not told to go


class SpawnZygote(Record):
    """Start the zygote of a new generation."""

    generation: int


class DiscardZygote(Record):
    """End a zygote that is no longer needed, or has not become READY in time."""

    generation: int


class ForkWorker(Record):
    """Let the generation's zygote fork a worker for a slot of the scoreboard."""

    generation: int
    slot: int


class LetLeave(Record):
    """Tell a worker to finish what it has and exit; `replaced` is whether the pool goes on without it."""

    slot: int
    replaced: bool


class Terminate(Record):
    """End a worker now (SIGTERM)."""

    slot: int


class Kill(Record):
    """End a worker that does not react (SIGKILL)."""

    slot: int


class Loaded(Record):
    """A generation's load is over: it serves (`error` is empty), or is refused and the old one goes on."""

    generation: int
    error: str


class StandIn(Record):
    """Begin, or end, to answer 503 in place of workers that cannot start."""

    wanted: bool


class Ended(Record):
    """The pool has stopped: no worker of it is left."""


Action = SpawnZygote | DiscardZygote | ForkWorker | LetLeave | Terminate | Kill | Loaded | StandIn | Ended
