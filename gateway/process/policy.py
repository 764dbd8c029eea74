"""What a pool does when something happens: a pure table of state x event -> actions, without fork, clock or signal.

A pool has generations. Each has a zygote that imports the applications once and forks the workers. A reload loads a
candidate generation beside the current one; only when its zygote is READY does it become the current one and its
workers replace the old ones, one for one. Times are milliseconds of any clock that never goes back.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field


class WorkerState(enum.Enum):
    """A worker as the master sees it."""

    STARTING = "starting"  # asked for, not READY yet
    READY = "ready"
    LEAVING = "leaving"  # told to finish what it has
    KILLED = "killed"  # signalled, not reaped yet


class ZygoteState(enum.Enum):
    """A generation's zygote as the master sees it."""

    LOADING = "loading"  # importing the applications
    READY = "ready"
    GONE = "gone"


class Phase(enum.Enum):
    """What the pool is about."""

    RUNNING = "running"
    DRAINING = "draining"  # graceful stop: running requests finish
    ENDING = "ending"  # fast stop
    ENDED = "ended"


# -- actions ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SpawnZygote:
    """Start the zygote of a new generation."""

    generation: int


@dataclass(frozen=True, slots=True)
class DiscardZygote:
    """End a zygote that is no longer needed, or has not become READY in time."""

    generation: int


@dataclass(frozen=True, slots=True)
class ForkWorker:
    """Let the generation's zygote fork a worker for a slot of the scoreboard."""

    generation: int
    slot: int


@dataclass(frozen=True, slots=True)
class LetLeave:
    """Tell a worker to finish what it has and exit; `replaced` is whether other workers go on serving."""

    slot: int
    replaced: bool


@dataclass(frozen=True, slots=True)
class Terminate:
    """End a worker now (SIGTERM)."""

    slot: int


@dataclass(frozen=True, slots=True)
class Kill:
    """End a worker that does not react (SIGKILL)."""

    slot: int


@dataclass(frozen=True, slots=True)
class Loaded:
    """A generation's load is over: it serves (`error` is empty), or is refused and the old one goes on."""

    generation: int
    error: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The pool has stopped: no process of it is left."""


Action = SpawnZygote | DiscardZygote | ForkWorker | LetLeave | Terminate | Kill | Loaded | Ended


# -- state ------------------------------------------------------------------------------------------------------------

_FIRST_BACKOFF = 100  # ms, doubled with each failed start in a row
_LONGEST_BACKOFF = 30_000  # ms
_STARTS_PER_SECOND = 50  # a death after READY is replaced at once, but no more often than this
_TERMINATE_PATIENCE = 2_000  # ms from SIGTERM to SIGKILL
NEVER = 1 << 62


@dataclass(slots=True)
class Worker:
    """One worker, known by its slot."""

    generation: int
    state: WorkerState
    deadline: int


@dataclass(slots=True)
class Generation:
    """One zygote and what it could not load."""

    number: int
    state: ZygoteState
    deadline: int
    failed: frozenset[str] = frozenset()


@dataclass(slots=True)
class PoolPolicy:
    """The state of one pool and its decisions. Every event method returns the actions to carry out, in order."""

    max_children: int
    start_timeout: int
    control_timeout: int
    phase: Phase = Phase.RUNNING
    workers: dict[int, Worker] = field(default_factory=dict)
    current: Generation | None = None
    candidate: Generation | None = None
    _last_number: int = 0
    _reload_wanted: bool = False
    _reporting: int = 0  # the generation whose load is still to be reported
    _failures: int = 0  # failed starts in a row
    _not_before: int = 0  # no start before this
    _recent_starts: list[int] = field(default_factory=list)

    # -- events: the operator's ----------------------------------------------------------------------------------------

    def start(self, now: int) -> list[Action]:
        """Load the first generation."""
        return self._load(now)

    def reload(self, now: int) -> tuple[int, list[Action]]:
        """Load new code; return the generation that will hold it. Reloads that come while one loads become one more."""
        if self.phase is not Phase.RUNNING:
            return 0, []
        if self.candidate is not None:
            self._reload_wanted = True
            return self._last_number + 1, []
        return self._last_number + 1, self._load_again(now)

    def drain(self, now: int) -> list[Action]:
        """Stop gracefully: running requests finish."""
        if self.phase is not Phase.RUNNING:
            return []
        self.phase = Phase.DRAINING
        actions = self._discard_all()
        for slot, worker in self.workers.items():
            if worker.state in (WorkerState.STARTING, WorkerState.READY):
                actions.append(self._let_leave(slot, worker, now, replaced=False))
        return actions + self._settle(now)

    def terminate(self, now: int) -> list[Action]:
        """Stop at once."""
        if self.phase in (Phase.ENDING, Phase.ENDED):
            return []
        self.phase = Phase.ENDING
        actions = self._discard_all()
        for slot, worker in self.workers.items():
            if worker.state is not WorkerState.KILLED:
                worker.state = WorkerState.KILLED
                worker.deadline = now + _TERMINATE_PATIENCE
                actions.append(Terminate(slot))
        return actions + self._settle(now)

    # -- events: the processes' ----------------------------------------------------------------------------------------

    def zygote_ready(self, number: int, failed: frozenset[str], now: int) -> list[Action]:
        """The applications are imported and the probe has answered; `failed` are those that could not be loaded.

        An application that failed before does not refuse a reload; one that runs now and would fail does.
        """
        generation = self.candidate
        if generation is None or generation.number != number:
            return []
        newly = failed - self.current.failed if self.current is not None else frozenset()
        if newly:
            error = f"cannot load {', '.join(sorted(newly))}"
            return [DiscardZygote(number), *self._refuse(error, now)]
        actions: list[Action] = []
        if self.current is None:
            self._failures = 0
        elif self.current.state is ZygoteState.READY:
            self._failures = 0
            actions.append(DiscardZygote(self.current.number))
        generation.state = ZygoteState.READY
        generation.deadline = NEVER
        generation.failed = failed
        self.current, self.candidate = generation, None
        self._not_before = 0
        if self._reload_wanted:
            actions += self._load_again(now)
        return actions + self._settle(now)

    def zygote_gone(self, number: int, reason: str, now: int) -> list[Action]:
        """A zygote has exited. Before READY its load has failed; after, a new generation is loaded, workers go on."""
        if self.candidate is not None and self.candidate.number == number:
            return self._refuse(reason, now)
        if self.current is not None and self.current.number == number:
            self.current.state = ZygoteState.GONE
            if not self._count(WorkerState.READY):
                self._back_off(now)  # or zygotes that always die right after READY would follow one another at once
        return self._settle(now)

    def worker_ready(self, slot: int, now: int) -> list[Action]:
        """A worker serves."""
        worker = self.workers.get(slot)
        if worker is None or worker.state is not WorkerState.STARTING:
            return []
        worker.state = WorkerState.READY
        worker.deadline = NEVER
        self._failures = 0
        return self._settle(now)

    def worker_gone(self, slot: int, now: int) -> list[Action]:
        """A worker has been reaped, whatever it died of."""
        worker = self.workers.pop(slot, None)
        if worker is not None and worker.state is WorkerState.STARTING:
            self._start_failed(worker, now)
        return self._settle(now)

    def tick(self, now: int) -> list[Action]:
        """Time has passed: look at the deadlines and at starts that had to wait."""
        actions: list[Action] = []
        for slot, worker in self.workers.items():
            if now >= worker.deadline:
                if worker.state is WorkerState.STARTING:
                    self._start_failed(worker, now)
                worker.state = WorkerState.KILLED
                worker.deadline = now + _TERMINATE_PATIENCE
                actions.append(Kill(slot))
        if self.candidate is not None and now >= self.candidate.deadline:
            number = self.candidate.number
            error = f"the applications were not loaded within start_timeout ({self.start_timeout / 1000:g} s)"
            actions += [DiscardZygote(number), *self._refuse(error, now)]
        return actions + self._settle(now)

    def next_deadline(self, now: int) -> int:
        """When `tick` is next needed; NEVER if only events can change anything."""
        deadlines = [worker.deadline for worker in self.workers.values()]
        if self.candidate is not None:
            deadlines.append(self.candidate.deadline)
        if self.phase is Phase.RUNNING and self._wants_start():
            deadlines.append(self._earliest_start(now))
        return min(deadlines, default=NEVER)

    # -- decisions -----------------------------------------------------------------------------------------------------

    def _settle(self, now: int) -> list[Action]:
        """Bring the pool one step nearer to what it should be; called after every event."""
        if self.phase is not Phase.RUNNING:
            if self.phase is not Phase.ENDED and not self.workers:
                self.phase = Phase.ENDED
                return [Ended()]
            return []
        if self.current is None or self.current.state is ZygoteState.GONE:
            return self._load(now) if self._wants_start() and now >= self._earliest_start(now) else []
        actions: list[Action] = []
        while self._wants_start() and now >= self._earliest_start(now):
            slot = self._free_slot()
            self.workers[slot] = Worker(self.current.number, WorkerState.STARTING, now + self.start_timeout)
            self._recent_starts.append(now)
            actions.append(ForkWorker(self.current.number, slot))
        return actions + self._replace(self.current.number, now) + self._report(self.current.number)

    def _replace(self, current: int, now: int) -> list[Action]:
        """Let as many old workers leave as new ones are READY."""
        new = sum(w.state is WorkerState.READY for w in self.workers.values() if w.generation == current)
        old = [
            (slot, worker)
            for slot, worker in self.workers.items()
            if worker.generation != current and worker.state in (WorkerState.STARTING, WorkerState.READY)
        ]
        excess = len(old) - max(0, self.max_children - new)
        return [self._let_leave(slot, worker, now, replaced=True) for slot, worker in old[: max(0, excess)]]

    def _report(self, current: int) -> list[Action]:
        """Report a load as done once the new generation alone serves."""
        if self._reporting != current or self._count(WorkerState.READY) < self.max_children:
            return []
        self._reporting = 0
        return [Loaded(current, "")]

    def _load_again(self, now: int) -> list[Action]:
        """Load newer code than the current generation's, whose own load may not have been reported yet."""
        actions: list[Action] = []
        if self.current is not None and self._reporting == self.current.number:
            actions = [Loaded(self._reporting, "")]  # its workers are still starting, but its code is in force
        return actions + self._load(now)

    def _load(self, now: int) -> list[Action]:
        self._last_number += 1
        self._reload_wanted = False
        self._reporting = self._last_number
        self.candidate = Generation(self._last_number, ZygoteState.LOADING, now + self.start_timeout)
        return [SpawnZygote(self._last_number)]

    def _refuse(self, error: str, now: int) -> list[Action]:
        """Throw the candidate away; the current generation goes on."""
        assert self.candidate is not None
        number = self.candidate.number
        self.candidate = None
        self._reporting = 0
        if self.current is None or self.current.state is ZygoteState.GONE:
            self._back_off(now)  # else it is the operator's reload that failed: the current generation is sound
        actions: list[Action] = [Loaded(number, error)]
        if self._reload_wanted:
            actions += self._load(now)
        return actions + self._settle(now)

    def _let_leave(self, slot: int, worker: Worker, now: int, *, replaced: bool) -> LetLeave:
        worker.state = WorkerState.LEAVING
        worker.deadline = now + self.control_timeout
        return LetLeave(slot, replaced)

    def _discard_all(self) -> list[Action]:
        """Discard every zygote: nothing is started any more."""
        actions: list[Action] = []
        if self.candidate is not None:
            actions += [DiscardZygote(self.candidate.number), Loaded(self.candidate.number, "the gateway is stopping")]
            self.candidate = None
        if self.current is not None and self.current.state is ZygoteState.READY:
            actions.append(DiscardZygote(self.current.number))
            self.current.state = ZygoteState.GONE
        return actions

    def _wants_start(self) -> bool:
        """Something is missing that a start would bring: a generation, or a worker of the current one."""
        if self.current is None or self.current.state is ZygoteState.GONE:
            return self.candidate is None
        if self._failures and self._count(WorkerState.STARTING):
            return False  # while starts fail, one at a time
        return self._count(WorkerState.STARTING, WorkerState.READY) < self.max_children and self._has_free_slot()

    def _count(self, *states: WorkerState) -> int:
        assert self.current is not None
        return sum(w.generation == self.current.number and w.state in states for w in self.workers.values())

    def _has_free_slot(self) -> bool:
        return len(self.workers) < 2 * self.max_children

    def _free_slot(self) -> int:
        return next(slot for slot in range(2 * self.max_children) if slot not in self.workers)

    def _start_failed(self, worker: Worker, now: int) -> None:
        """A worker did not become READY; one of an older generation may have lost its zygote to a reload."""
        assert self.current is not None
        if worker.generation == self.current.number:
            self._back_off(now)

    def _back_off(self, now: int) -> None:
        self._failures += 1
        self._not_before = now + min(_FIRST_BACKOFF << min(self._failures - 1, 16), _LONGEST_BACKOFF)

    def _earliest_start(self, now: int) -> int:
        self._recent_starts = [start for start in self._recent_starts if start > now - 1000]
        if len(self._recent_starts) < max(_STARTS_PER_SECOND, 2 * self.max_children):
            return self._not_before
        return max(self._not_before, self._recent_starts[0] + 1001)
