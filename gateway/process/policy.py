"""What a pool does when something happens, without fork, clock or signal.

A pool has generations. Each has a zygote that imports the applications once and forks the workers. A reload loads a
candidate generation beside the current one; only when its zygote is READY does it become the current one and its
workers replace the old ones, one for one. A worker's own life is the table in `lifecycle`, the number of workers is
`scaling`'s. Times are milliseconds of any clock that never goes back.
"""

from __future__ import annotations

import enum

from gateway.process.backoff import Backoff
from gateway.process.lifecycle import (
    SERVING,
    STAYING,
    TRANSITIONS,
    Action,
    DiscardZygote,
    Ended,
    ForkWorker,
    Kill,
    LetLeave,
    Loaded,
    SpawnZygote,
    StandIn,
    Terminate,
    WorkerEvent,
    WorkerState,
)
from gateway.process.scaling import Load, Plan, Scaling, dispensable, lacking, needed
from gateway.record import Record, field
from gateway.settings import ProcessManager

_TERMINATE_PATIENCE = 2_000  # ms from SIGTERM to SIGKILL
_WANTED = (WorkerState.STARTING, WorkerState.READY)  # what counts as one of the workers that are wanted
NEVER = 1 << 62


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


class Worker(Record, frozen=False):
    """One worker, known by its slot."""

    generation: int
    state: WorkerState
    deadline: int


class Generation(Record, frozen=False):
    """One zygote and what it could not load."""

    number: int
    state: ZygoteState
    deadline: int
    plan: Plan | None = None  # that comes into force with it; None: what is in force stays
    failed: frozenset[str] = frozenset()


class PoolPolicy(Record, frozen=False):
    """The state of one pool and its decisions. Every event method returns the actions to carry out, in order."""

    scaling: Scaling
    start_timeout: int
    control_timeout: int
    phase: Phase = Phase.RUNNING
    wanted: int = 0  # workers of the current generation
    lacking: int = 0  # workers that would run what waits, and that process_max does not leave to this pool
    max_children_reached: int = 0  # how often more were needed than are allowed
    standing_in: bool = False
    workers: dict[int, Worker] = field(factory=dict)
    current: Generation | None = None
    candidate: Generation | None = None
    _too_many: bool = False  # the load needs more than max_children
    last_number: int = 0  # of the newest generation
    _planned: Plan | None = None  # for the generation that is loaded next
    _reload_wanted: bool = False
    _reporting: int = 0  # the generation whose load is still to be reported
    _starts: Backoff = field(factory=Backoff)

    # -- events: the operator's ----------------------------------------------------------------------------------------

    def start(self, now: int) -> list[Action]:
        """Load the first generation."""
        self.wanted = self.scaling.at_start
        return self._load(now)

    def reload(self, now: int, plan: Plan | None = None) -> tuple[int, list[Action]]:
        """Load new code; return the generation that will hold it. Reloads that come while one loads become one more.

        `plan` comes into force when that generation has been loaded, and never if it cannot be.
        """
        if self.phase is not Phase.RUNNING:
            return 0, []
        self._planned = plan or self._planned
        if self.candidate is not None:
            self._reload_wanted = True
            return self.last_number + 1, []
        return self.last_number + 1, self._load_again(now)

    def adjust(self, by: int, now: int) -> list[Action]:
        """Want so many workers more, or fewer, of a static pool: at least one, at most max_children, until a reload."""
        if self.phase is not Phase.RUNNING or self.scaling.pm is not ProcessManager.STATIC:
            return []
        self.wanted = min(max(1, self.wanted + by), self.scaling.max_children)
        if self.current is None:
            return []
        staying = [slot for slot, w in self.workers.items() if self._is_current(w) and w.state in _WANTED]
        return self._dismiss(sorted(staying)[self.wanted :], now, replaced=True) + self._settle(now)

    def drain(self, now: int) -> list[Action]:
        """Stop gracefully: running requests finish."""
        if self.phase is not Phase.RUNNING:
            return []
        self.phase = Phase.DRAINING
        staying = [slot for slot, worker in self.workers.items() if worker.state in STAYING]
        return self._discard_all() + self._dismiss(staying, now, replaced=False) + self._settle(now)

    def terminate(self, now: int) -> list[Action]:
        """Stop at once."""
        if self.phase in (Phase.ENDING, Phase.ENDED):
            return []
        self.phase = Phase.ENDING
        actions = self._discard_all()
        for slot, worker in self.workers.items():
            if worker.state is not WorkerState.KILLED:
                self._move(worker, WorkerEvent.ENDED, now)
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
            self._starts.failures = 0
        elif self.current.state is ZygoteState.READY:
            self._starts.failures = 0
            actions.append(DiscardZygote(self.current.number))
        generation.state = ZygoteState.READY
        generation.deadline = NEVER
        generation.failed = failed
        self.current, self.candidate = generation, None
        self._starts.go_on()
        if generation.plan is not None:
            self._adopt(generation.plan)
        if not self.wanted:
            actions += self._stand_in(wanted=False)  # no worker would end it: none starts before there is a request
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
                # Or zygotes that always die right after READY would follow one another at once.
                return self._back_off(now) + self._settle(now)
        return self._settle(now)

    def worker_ready(self, slot: int, now: int) -> list[Action]:
        """A worker serves."""
        worker = self.workers.get(slot)
        if worker is None or worker.state is not WorkerState.STARTING:
            return []
        self._move(worker, WorkerEvent.SERVES, now)
        self._starts.served()
        return self._stand_in(wanted=False) + self._settle(now)

    def worker_leaves(self, slot: int, now: int) -> list[Action]:
        """A worker leaves by itself: it has ended a request that may have left something half done."""
        worker = self.workers.get(slot)
        if worker is None or worker.state not in SERVING:
            return []
        self._move(worker, WorkerEvent.LEAVES, now)
        return self._settle(now)

    def worker_gone(self, slot: int, now: int) -> list[Action]:
        """A worker has been reaped, whatever it died of."""
        worker = self.workers.pop(slot, None)
        failed = worker is not None and worker.state is WorkerState.STARTING and self._is_current(worker)
        return (self._back_off(now) if failed else []) + self._settle(now)

    def observe(self, load: Load, now: int) -> list[Action]:
        """The pool was looked at: grow to what the load needs, let go what it does not, replace what has expired."""
        if self.phase is not Phase.RUNNING or self.current is None:
            return []
        need = needed(self.scaling, load)
        too_many = need > self.scaling.max_children
        self.max_children_reached += too_many and not self._too_many
        self._too_many = too_many
        self.lacking = sought = 0
        if self.scaling.pm is not ProcessManager.STATIC:
            self.wanted = max(self.wanted, min(need, self.scaling.max_children, load.ceiling))
            self.lacking = lacking(self.scaling, load, self.wanted)
            sought = load.lacking + self.wanted - load.ceiling  # as far as there is no room for them
        leaving = [slot for slot in dispensable(self.scaling, load, sought) if self._serves(slot)]
        self.wanted -= len(leaving)
        for slot in load.expired:
            if self._serves(slot) and self._retiring() < self.scaling.recycling_at_once:
                self._move(self.workers[slot], WorkerEvent.EXPIRES, now)
        return self._dismiss(leaving, now, replaced=True) + self._settle(now)

    def tick(self, now: int) -> list[Action]:
        """Time has passed: look at the deadlines and at starts that had to wait."""
        actions: list[Action] = []
        for slot, worker in self.workers.items():
            if now >= worker.deadline:
                if worker.state is WorkerState.STARTING and self._is_current(worker):
                    actions += self._back_off(now)
                self._move(worker, WorkerEvent.OVERDUE, now)
                actions.append(Kill(slot))
        if self.candidate is not None and now >= self.candidate.deadline:
            number = self.candidate.number
            seconds = self._load_patience(self.candidate.plan) / 1000
            error = f"the applications were not loaded within start_timeout ({seconds:g} s)"
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
            self._starts.started(now)
            actions.append(ForkWorker(self.current.number, slot))
        return actions + self._replace(self.current.number, now) + self._report(self.current.number)

    def _replace(self, current: int, now: int) -> list[Action]:
        """Let as many workers that are old or retiring leave as new ones are READY."""
        new = self._count(WorkerState.READY)
        old = [
            slot
            for slot, worker in self.workers.items()
            if worker.state in STAYING and (worker.generation != current or worker.state is WorkerState.RETIRING)
        ]
        excess = len(old) - max(0, self.wanted - new)
        return self._dismiss(old[: max(0, excess)], now, replaced=True)

    def _report(self, current: int) -> list[Action]:
        """Report a load as done once the new generation alone serves."""
        if self._reporting != current or self._count(WorkerState.READY) < self.wanted:
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
        self.last_number += 1
        self._reload_wanted = False
        self._reporting = self.last_number
        plan, self._planned = self._planned, None
        self.candidate = Generation(self.last_number, ZygoteState.LOADING, now + self._load_patience(plan), plan)
        return [SpawnZygote(self.last_number)]

    def _load_patience(self, plan: Plan | None) -> int:
        return plan.start_timeout if plan is not None else self.start_timeout

    def _adopt(self, plan: Plan) -> None:
        """Let a plan come into force: what the load has made of `wanted` stays, within the new limits."""
        self.scaling, self.control_timeout = plan.scaling, plan.control_timeout
        self.start_timeout = plan.start_timeout
        self.wanted = min(max(self.wanted, self.scaling.at_start), self.scaling.max_children)

    def _refuse(self, error: str, now: int) -> list[Action]:
        """Throw the candidate away; the current generation goes on."""
        assert self.candidate is not None
        number = self.candidate.number
        self.candidate = None
        self._reporting = 0
        actions: list[Action] = [Loaded(number, error)]
        if self.current is None or self.current.state is ZygoteState.GONE:
            actions += self._back_off(now)  # else it is a reload that failed, and the current generation is sound
        if self._reload_wanted:
            actions += self._load(now)
        return actions + self._settle(now)

    def _move(self, worker: Worker, event: WorkerEvent, now: int) -> None:
        """Take a worker through the table, and give it the deadline of the state that it enters."""
        patience = {WorkerState.LEAVING: self.control_timeout, WorkerState.KILLED: _TERMINATE_PATIENCE}
        worker.state = TRANSITIONS[worker.state][event]
        worker.deadline = now + patience[worker.state] if worker.state in patience else NEVER

    def _dismiss(self, slots: list[int], now: int, *, replaced: bool) -> list[Action]:
        for slot in slots:
            self._move(self.workers[slot], WorkerEvent.DISMISSED, now)
        return [LetLeave(slot, replaced) for slot in slots]

    def _discard_all(self) -> list[Action]:
        """Discard every zygote: nothing is started any more."""
        self.lacking = 0
        actions: list[Action] = []
        if self.candidate is not None:
            actions += [DiscardZygote(self.candidate.number), Loaded(self.candidate.number, "the gateway is stopping")]
            self.candidate = None
        if self.current is not None and self.current.state is ZygoteState.READY:
            actions.append(DiscardZygote(self.current.number))
            self.current.state = ZygoteState.GONE
        return actions + self._stand_in(wanted=False)

    def _wants_start(self) -> bool:
        """Something is missing that a start would bring: a generation, or a worker of the current one."""
        if self.current is None or self.current.state is ZygoteState.GONE:
            return self.candidate is None
        if self._starts.failures and self._count(WorkerState.STARTING):
            return False  # while starts fail, one at a time
        return self._count(*_WANTED) < self.wanted and self._has_free_slot()

    def _count(self, *states: WorkerState) -> int:
        assert self.current is not None
        return sum(w.generation == self.current.number and w.state in states for w in self.workers.values())

    def _has_free_slot(self) -> bool:
        return len(self.workers) < 2 * self.scaling.max_children

    def _free_slot(self) -> int:
        return next(slot for slot in range(2 * self.scaling.max_children) if slot not in self.workers)

    def _is_current(self, worker: Worker) -> bool:
        """A worker of an older generation may fail to start because a reload took its zygote away."""
        return self.current is not None and worker.generation == self.current.number

    def _serves(self, slot: int) -> bool:
        """The slot's worker is READY and of the current generation."""
        worker = self.workers.get(slot)
        return worker is not None and worker.state is WorkerState.READY and self._is_current(worker)

    def _retiring(self) -> int:
        return sum(worker.state is WorkerState.RETIRING for worker in self.workers.values())

    def _back_off(self, now: int) -> list[Action]:
        """A start has failed: delay the next, and open the breaker if they have failed for long and nobody serves."""
        for_long = self._starts.failed(now)
        serving = any(worker.state in SERVING for worker in self.workers.values())
        return self._stand_in(wanted=True) if for_long and not serving else []

    def _stand_in(self, *, wanted: bool) -> list[Action]:
        """Change whether a stand-in answers; it stays until a worker is READY."""
        if wanted == self.standing_in:
            return []
        self.standing_in = wanted
        return [StandIn(wanted)]

    def _earliest_start(self, now: int) -> int:
        return self._starts.earliest(now, self.scaling.max_children)
